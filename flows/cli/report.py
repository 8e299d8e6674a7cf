"""``uniroute report``: reports on nights, promotions and LLMs, as pages to read, send and keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_promotions, complete_runs
from flows.cli.endings import ExitCode
from flows.cli.options import NounGroup, all_option, config_option, json_option, opened
from flows.cli.screen import note, show

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.promotions import Promotion


@dataclass(frozen=True)
class Report:
    """A report in each of its formats.

    Attributes
    ----------
    name
        The name of its file, without a suffix.
    data
        For machines.
    html, markdown
        Return the texts; called only for the format that is written.
    facts
        What else a machine should know about the report.
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
class OutputFormat:
    """In which format a report is written, and where.

    Attributes
    ----------
    form
        ``html``, ``markdown`` or ``json``.
    out
        The file to write.
    is_opened
        Whether to open it in the web browser.
    as_json
        Whether standard output is JSON.
    """

    form: str
    out: Path | None
    is_opened: bool
    as_json: bool


@click.group("report", cls=NounGroup, bare="leaderboard")
def report() -> None:
    """Write a report on a night, a promotion or all LLMs; without a command, on all LLMs."""


def _form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the format of a report and where it goes."""
    command = click.option("--open", "is_opened", is_flag=True, help="Open it in the web browser.")(command)
    command = click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File to write. Without it, HTML goes to the folder 'reports' of the home folder; the rest is printed.",
    )(command)
    return click.option(
        "--format",
        "form",
        type=click.Choice(["html", "markdown", "json"]),
        default="html",
        show_default=True,
        help="JSON is the content of the report, as --json prints it.",
    )(command)


@report.command("promotion")
@click.argument("name", metavar="ID", shell_complete=complete_promotions)
@_form_options
@config_option
@json_option
def report_promotion(name: str, config: str | None, **options: Any) -> int:
    """Write the report on which a promotion is decided.

    It is computed again from the registry and compared with what the reviewer saw. ID is the promotion's number, or its
    router's digest, version or alias.
    """
    with opened(config) as workspace:
        return _deliver(_promotion_report(workspace, name), "report.promotion", workspace, OutputFormat(**options))


@report.command("night")
@click.argument("name", metavar="[RUN]", default="latest", shell_complete=complete_runs)
@_form_options
@config_option
@json_option
def report_night(name: str, config: str | None, **options: Any) -> int:
    """Write the report of a night.

    RUN is its key, its day, or 'latest' (the default).
    """
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
        return _deliver(found, "report.night", workspace, OutputFormat(**options))


@report.command("leaderboard")
@all_option
@_form_options
@config_option
@json_option
def report_leaderboard(is_all: bool, config: str | None, **options: Any) -> int:
    """Write the leaderboard of all LLMs.

    It has scores with intervals, costs, shares, topics won, and when each LLM was asked.
    """
    from flows.reports.leaderboard import leaderboard_html, leaderboard_markdown, leaderboard_of

    with opened(config) as workspace:
        board = leaderboard_of(workspace, with_left_out=is_all)
        found = Report(
            name="leaderboard",
            data=board.as_data(),
            html=lambda: leaderboard_html(board),
            markdown=lambda: leaderboard_markdown(board),
        )
        return _deliver(found, "report.leaderboard", workspace, OutputFormat(**options))


def _promotion_report(workspace: Workspace, name: str) -> Report:
    """Build a promotion's report, and note whether it is what the reviewer saw.

    If the registry now yields a different page (a failed answer has succeeded since, or another version of this package
    draws it), or none at all, the kept page is used.
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
        note(f"it cannot be computed again ({error.message}); this is the page that was kept: {kept}")
        return _kept_report(promotion, kept)
    page, exit_code = review.html, ExitCode.DONE
    is_same = review.digest == promotion.report_digest
    if promotion.report_digest is None:
        note(f"promotion {promotion.id} was requested without a report; this one was computed from the registry")
    elif not is_same and kept is not None:
        page = kept.read_text(encoding="utf-8")
        note(
            "the registry now yields a different page than the reviewer saw (answers or this package have changed); "
            f"this is the page that the reviewer saw, with the recorded digest: {kept}"
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
    """Return a kept page that cannot be computed again; its short form is beside it, or names the page."""
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


def _deliver(found: Report, schema: str, workspace: Workspace, output: OutputFormat) -> int:
    """Write or print a report in its format, and open it if asked to."""
    out = output.out
    if out is None and (output.form == "html" or output.is_opened):
        suffix = {"markdown": "md"}.get(output.form, output.form)
        out = workspace.home / "reports" / f"{found.name}.{suffix}"
    if out is not None:
        _write(out, _content(found, schema, output.form))
        facts = found.facts | {"path": str(out), "bytes": out.stat().st_size}
        show(schema, facts, as_json=output.as_json, text=lambda: str(out))
        if output.is_opened:
            click.launch(out.resolve().as_uri())
    elif output.form == "json":
        show(schema, found.data, as_json=True, text=str)
    else:
        content = found.markdown()
        show(schema, found.facts | {"markdown": content}, as_json=output.as_json, text=lambda: content)
    return found.exit_code


def _content(found: Report, schema: str, form: str) -> str:
    from flows.cli.screen import envelope

    if form == "json":
        return envelope(schema, found.data) + "\n"
    return found.html() if form == "html" else found.markdown()


def _write(path: Path, text: str) -> None:
    from flows.errors import PrerequisiteError
    from registry.db.redaction import KEY, REDACTION

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(REDACTION.mask_own(text, KEY), encoding="utf-8")
    except OSError as error:
        raise PrerequisiteError(
            f"The report cannot be written to {path}: {error.strerror}.", hint="Name another file with --out."
        ) from None
