"""``uniroute report``: nights, promotions and LLMs as pages to read, to send and to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_promotions, complete_runs
from flows.cli.options import NounGroup, config_option, json_option, opened
from flows.cli.outcome import ExitCode
from flows.cli.screen import note, show

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.promotions import Promotion


@dataclass(frozen=True)
class Report:
    """A report in every form that it can be given in.

    Attributes
    ----------
    name
        Of its file, without an ending.
    data
        For machines.
    html, markdown
        Make the texts; called only when wanted.
    facts
        What the caller should know about it, as fields for machines.
    exit_code
        How the command ends.
    """

    name: str
    data: dict[str, Any]
    html: Callable[[], str]
    markdown: Callable[[], str]
    facts: dict[str, Any] = field(default_factory=dict)
    exit_code: int = ExitCode.DONE


@dataclass(frozen=True)
class Wanted:
    """In which form a report is wanted, and where.

    Attributes
    ----------
    form
        ``html``, ``markdown`` or ``json``.
    out
        The file to write.
    is_opened
        Whether the web browser shows it.
    as_json
        Whether standard output belongs to machines.
    """

    form: str
    out: Path | None
    is_opened: bool
    as_json: bool


@click.group("report", cls=NounGroup, bare="leaderboard")
def report() -> None:
    """Write a report on a night, a promotion or all LLMs; without a word, on all LLMs."""


def _form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say in which form a report is wanted, and where."""
    command = click.option("--open", "is_opened", is_flag=True, help="Open it in the web browser.")(command)
    command = click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File to write; HTML goes to the folder 'reports' of the home folder without it, all else is printed.",
    )(command)
    return click.option(
        "--format",
        "form",
        type=click.Choice(["html", "markdown", "json"]),
        default="html",
        show_default=True,
        help="JSON is the report's content for machines, as --json prints it.",
    )(command)


@report.command("promotion")
@click.argument("name", metavar="ID", shell_complete=complete_promotions)
@_form_options
@config_option
@json_option
def report_promotion(name: str, config: str | None, **wanted: Any) -> int:
    """Write the report that a promotion is decided by; ID is its number, or its router's digest, version or alias.

    It is computed anew from the registry and compared with what the reviewer saw.
    """
    with opened(config) as workspace:
        return _deliver(_promotion_report(workspace, name), "report.promotion", workspace, Wanted(**wanted))


@report.command("night")
@click.argument("name", metavar="[RUN]", default="latest", shell_complete=complete_runs)
@_form_options
@config_option
@json_option
def report_night(name: str, config: str | None, **wanted: Any) -> int:
    """Write the report of a night: RUN is its key, its day, or 'latest' (the default)."""
    from flows.reports.nights import night_content, night_html, night_markdown
    from flows.reports.past_night import look_back

    with opened(config) as workspace:
        seen = look_back(workspace, name)
        found = Report(
            name=f"night-{seen.run.as_of}",
            data=night_content(seen),
            html=lambda: night_html(seen),
            markdown=lambda: night_markdown(seen),
        )
        return _deliver(found, "report.night", workspace, Wanted(**wanted))


@report.command("leaderboard")
@_form_options
@config_option
@json_option
def report_leaderboard(config: str | None, **wanted: Any) -> int:
    """Write the standing of all LLMs: scores with intervals, costs, shares, topics won, and when they were asked."""
    from flows.reports.leaderboard import leaderboard_html, leaderboard_markdown, leaderboard_of

    with opened(config) as workspace:
        board = leaderboard_of(workspace)
        found = Report(
            name="leaderboard",
            data=board.as_data(),
            html=lambda: leaderboard_html(board),
            markdown=lambda: leaderboard_markdown(board),
        )
        return _deliver(found, "report.leaderboard", workspace, Wanted(**wanted))


def _promotion_report(workspace: Workspace, name: str) -> Report:
    """Build a promotion's report, and say whether it is what the reviewer saw.

    When the registry gives another page by now (a failed answer was made good since then, or another version of this
    package draws it), or none at all, the kept page is the one that counts.
    """
    from flows.reports.promotion.page import evidence_data
    from flows.reports.promotion.reviews import build_review, kept_review, subject_of
    from registry.errors import NotFound
    from routing.errors import UnirouteError

    promotion = workspace.registry.promotions.find(name)
    if promotion.kind != "promotion":
        raise NotFound(
            f"promotion {promotion.id} is a {promotion.kind}: nothing was compared, so there is no report",
            hint=f"uniroute promotion show {promotion.id}",
        )
    kept = kept_review(workspace, promotion)
    try:
        review = build_review(workspace, subject_of(promotion))
    except UnirouteError as error:
        if kept is None:
            raise
        note(f"it cannot be computed again ({error.message}); given is the page that was kept: {kept}")
        return _kept_report(promotion, kept)
    page, exit_code = review.html, ExitCode.DONE
    is_same = review.digest == promotion.report_digest
    if promotion.report_digest is None:
        note(f"promotion {promotion.id} was requested without a report; this one is computed from the registry")
    elif not is_same and kept is not None:
        page = kept.read_text(encoding="utf-8")
        note(
            "the registry gives another page than the reviewer saw (answers or this package have changed since then); "
            f"given is the page of then, whose digest agrees: {kept}"
        )
    elif not is_same:
        exit_code = ExitCode.INTEGRITY
        note(
            f"this is not what the reviewer saw: its digest is {review.digest[:12]}, the registry names "
            f"{promotion.report_digest[:12]}, and no page of that digest is on this machine"
        )
    facts = _facts(promotion, review.digest if page is review.html else promotion.report_digest, is_same)
    return Report(
        name=f"promotion-{promotion.id}",
        data=facts | {"evidence": evidence_data(review.evidence)},
        html=lambda: page,
        markdown=lambda: review.markdown,
        facts=facts,
        exit_code=exit_code,
    )


def _kept_report(promotion: Promotion, kept: Path) -> Report:
    """Give a page that cannot be computed again; its short form lies beside it, or says where the page is."""
    from flows.versions.store import REVIEW

    short, facts = kept.with_name(REVIEW[1]), _facts(promotion, promotion.report_digest, False)
    return Report(
        name=f"promotion-{promotion.id}",
        data=facts | {"evidence": None},
        html=lambda: kept.read_text(encoding="utf-8"),
        markdown=lambda: short.read_text(encoding="utf-8") if short.is_file() else f"The report is {kept}\n",
        facts=facts,
    )


def _facts(promotion: Promotion, digest: str | None, is_reproduced: bool) -> dict[str, Any]:
    return {
        "promotion": promotion.id,
        "digest": digest,
        "reviewed_digest": promotion.report_digest,
        "is_reproduced": is_reproduced,
        "is_what_was_reviewed": digest is not None and digest == promotion.report_digest,
    }


def _deliver(found: Report, schema: str, workspace: Workspace, wanted: Wanted) -> int:
    """Write or print a report in the form wanted, and open it when asked to."""
    out = wanted.out
    if out is None and (wanted.form == "html" or wanted.is_opened):
        ending = {"markdown": "md"}.get(wanted.form, wanted.form)
        out = workspace.home / "reports" / f"{found.name}.{ending}"
    if out is not None:
        _write(out, _content(found, schema, wanted.form))
        facts = found.facts | {"path": str(out), "bytes": out.stat().st_size}
        show(schema, facts, as_json=wanted.as_json, text=lambda: str(out))
        if wanted.is_opened:
            click.launch(out.resolve().as_uri())
    elif wanted.form == "json":
        show(schema, found.data, as_json=True, text=str)
    else:
        content = found.markdown()
        show(schema, found.facts | {"markdown": content}, as_json=wanted.as_json, text=lambda: content)
    return found.exit_code


def _content(found: Report, schema: str, form: str) -> str:
    from flows.cli.screen import envelope

    if form == "json":
        return envelope(schema, found.data) + "\n"
    return found.html() if form == "html" else found.markdown()


def _write(path: Path, text: str) -> None:
    from flows.errors import PrerequisiteError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PrerequisiteError(
            f"The report cannot be written to {path}: {error.strerror}.", hint="Name another file with --out."
        ) from None
