"""One type for what a check found: the worst severity decides, and one function prints findings."""

import pytest

from flows.cli.endings import CODES
from flows.findings import SEVERITIES, Finding, compared, findings_text, worst
from tests.fakes.hostile import HOSTILE, active_signs


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_worst_severity_decides_and_has_an_exit_code(severity: str) -> None:
    better = SEVERITIES[: SEVERITIES.index(severity) + 1]
    findings = [Finding(f"part {one}", one, "") for one in better]
    assert worst(findings) == worst(findings[::-1]) == severity
    assert severity in CODES


def test_nothing_found_is_ok() -> None:
    assert (worst([]), findings_text([])) == ("ok", "")


def test_a_comparison_is_damaged_by_any_difference() -> None:
    assert compared("rows", [], "as they were") == Finding("rows", "ok", "as they were")
    assert compared("rows", ["one is gone", "one is new"], "") == Finding("rows", "damaged", "one is gone; one is new")


def test_findings_are_printed_in_columns_with_what_to_type_below() -> None:
    findings = [
        Finding("disk", "ok", "12 GB free"),
        Finding("schema", "attention", "behind", "uniroute db migrate"),
    ]
    assert findings_text(findings, {"ok": "intact"}).splitlines() == [
        "intact     disk    12 GB free",
        "attention  schema  behind",
        "           next: uniroute db migrate",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_does_nothing_in_the_terminal(text: str) -> None:
    printed = findings_text([Finding(text, "damaged", text, text)])
    assert len(printed.splitlines()) == 2
    assert not active_signs(printed.replace("\n", ""))
