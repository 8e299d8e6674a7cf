"""``uniroute outcome``: the stored answers of LLMs under newer graders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flows.cli.options import NounGroup, config_option, dry_run_option, json_option, opened
from flows.cli.screen import show
from flows.text import counted
from registry import clock

if TYPE_CHECKING:
    from registry.outcomes import ScoreMove


_NOTHING_TO_GRADE = "Every stored answer has been graded by the present graders."


@click.group("outcome", cls=NounGroup, bare="regrade")
def outcome() -> None:
    """Grade stored answers again, without calling LLMs."""


@outcome.command("regrade")
@dry_run_option
@config_option
@json_option
def regrade(is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Grade stored answers again with the present graders.

    The next night would do the same. No LLM is called. Answers for the judge wait for the next night, which pays for
    them within its budget. An answer whose text is gone keeps its grade, and an answer that still cannot be read keeps
    the verdict of the judge that decided it.
    """
    from flows.night.context import Night
    from flows.profiling.regrading import planned_regrades, regrade_by_rule
    from flows.reports.terminal import regraded_text

    with opened(config) as workspace:
        night = Night(workspace, clock.utc_now().date())
        night.check_graders()
        waiting = sum(one.by_judge + one.unreadable for one in planned_regrades(night))
        moves = regrade_by_rule(night, None, is_dry_run=is_dry_run)
    data = {"is_dry_run": is_dry_run, "llms": [_move_data(one) for one in moves], "waiting_for_judge": waiting}

    def text() -> str:
        lines = [regraded_text(moves, is_dry_run=is_dry_run) or _NOTHING_TO_GRADE]
        if moves and is_dry_run:
            n_graded, n_kept = sum(one.regraded for one in moves), sum(one.kept for one in moves)
            lines.append(
                f"{counted(n_graded, 'stored answer')} would be graded again, {n_kept:,} would keep their grade. "
                "Nothing was stored.\nnext: uniroute outcome regrade"
            )
        if waiting:
            answers = counted(waiting, "stored answer waits", "stored answers wait")
            lines.append(f"{answers} for the judge, which the next night asks.\nnext: uniroute night run --plan")
        return "\n".join(lines)

    show("outcome.regrade", data, as_json=as_json, text=text)


def _move_data(one: ScoreMove) -> dict[str, Any]:
    return {
        "llm": one.llm_key,
        "regraded": one.regraded,
        "kept": one.kept,
        "before": one.before,
        "after": one.after,
        "change": one.change,
    }
