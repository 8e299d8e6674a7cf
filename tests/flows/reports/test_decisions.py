"""What a person reads who decides a promotion."""

from flows.gate.verdict import GateCheck
from flows.reports.decisions import check_line

LONG = "; ".join(["+0.0042 (95 % interval -0.0349 to +0.0239)"] * 4)


def test_a_long_check_has_a_line_for_each_of_its_parts_and_a_short_one_is_one_line() -> None:
    undecided = GateCheck("score", LONG, "at least 0", False, is_undecided=True, remedy="more gate prompts")
    lines = check_line(undecided).splitlines()
    assert lines[0].startswith("  UNDECIDED  score: +0.0042") and len(lines) == 5
    assert lines[-1].strip() == "to change that: more gate prompts"
    assert check_line(GateCheck("LLMs", "2; 3", "at least 2", True)) == "  passed  LLMs: 2; 3 (at least 2)"


def test_a_name_in_a_check_cannot_start_a_line() -> None:
    assert "\n" not in check_line(GateCheck("share", "a\nb", "all", False))
