"""The digest of a night: the same lines in the same order every night, with the pending decision near the top."""

from dataclasses import replace

from flows.reports.digest import digest, spark_line
from tests.flows.cli.test_hostile import report_of


def test_the_digest_says_what_to_decide_what_was_spent_and_whether_the_ledger_is_intact() -> None:
    lines = digest(report_of("plain")).splitlines()
    assert "- **decide**: promotion 7 waits: `uniroute promotion show 7`" in lines
    assert "- spent: plain $1.00 (profile $1.00); last nights █▁" in lines
    (health,) = [line for line in lines if line.startswith("- health: ")]
    assert "champion v2 since 2024-09-01; aliases wait for MLflow; ledger of 9 events broken (plain)" in health


def test_without_anything_to_decide_no_line_says_so() -> None:
    report = report_of("plain")
    assert report.closing is not None
    quiet = replace(report, closing=replace(report.closing, waiting_promotion=None, ledger_problem=""))
    assert "decide" not in digest(quiet)
    assert "ledger of 9 events intact" in digest(quiet)


def test_a_spark_line_is_as_high_as_its_largest_value() -> None:
    assert spark_line([0, 1, 2, 4]) == "▁▃▅█"
    assert spark_line([0, 0]) == "▁▁"
    assert spark_line([]) == ""
