"""How a command ends: its exit code, and one clear line when it is refused."""

from __future__ import annotations

import json
import tempfile
import traceback
from enum import IntEnum
from pathlib import Path

import click

from flows import errors as flow
from flows.environment import home_folder
from flows.reports.plain import inert
from registry import errors as registry
from routing import errors as routing
from routing.errors import UnirouteError


class ExitCode(IntEnum):
    """What a scheduler can tell from the exit code (README, section exit codes)."""

    DONE = 0
    BUG = 1
    USAGE = 2
    ATTENTION = 3
    REFUSED = 4
    INTEGRITY = 5
    TRY_LATER = 75
    CREDENTIALS = 77
    CONFIGURATION = 78
    INTERRUPTED = 130
    TERMINATED = 143


# The first class that fits decides, so the narrow ones come first.
_CODES: tuple[tuple[type[UnirouteError], ExitCode], ...] = (
    (registry.RegistryBusy, ExitCode.TRY_LATER),
    (registry.RunAlreadyActive, ExitCode.TRY_LATER),
    (registry.PublishIncomplete, ExitCode.ATTENTION),
    (registry.StalePromotion, ExitCode.REFUSED),
    (registry.RegistryCorrupt, ExitCode.INTEGRITY),
    (registry.NotFound, ExitCode.USAGE),
    (registry.RegistryError, ExitCode.CONFIGURATION),
    (routing.ArtifactCorrupt, ExitCode.INTEGRITY),
    (routing.EmbedderUnavailable, ExitCode.CONFIGURATION),
    (routing.ArtifactError, ExitCode.CONFIGURATION),
    (routing.NoEligibleLLM, ExitCode.REFUSED),
    (routing.RoutingError, ExitCode.USAGE),
    (flow.BudgetExceeded, ExitCode.ATTENTION),
    (flow.CatalogUnavailable, ExitCode.TRY_LATER),
    (flow.TransientEndpointError, ExitCode.TRY_LATER),
    (flow.RateLimited, ExitCode.TRY_LATER),
    (flow.CredentialsMissing, ExitCode.CREDENTIALS),
    (flow.PortTaken, ExitCode.TRY_LATER),
    (flow.FlowError, ExitCode.CONFIGURATION),
)


def exit_code_of(error: UnirouteError) -> ExitCode:
    """Give the exit code of an error; every class of the three families has one."""
    if isinstance(error, flow.Interrupted):
        return ExitCode(128 + error.signal_number)
    return next(code for kind, code in _CODES if isinstance(error, kind))


def report_bug(error: Exception) -> int:
    """Keep the traceback in a file, print one line, and give the exit code."""
    folder = home_folder() if home_folder().is_dir() else Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="crash-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    click.echo(f"error: uniroute itself failed ({type(error).__name__}); the traceback is in {file.name}", err=True)
    return int(ExitCode.BUG)


def report_error(error: UnirouteError, *, as_json: bool) -> int:
    """Print an error where it is expected, and give the exit code."""
    code = exit_code_of(error)
    if as_json:
        content = {"kind": type(error).__name__, "message": error.message, "unchanged": error.unchanged}
        click.echo(json.dumps({"error": content | {"hint": error.hint, "exit_code": int(code)}}))
    parts = [inert(part, width=600) for part in (error.message, error.unchanged) if part]
    click.echo(f"error: {' '.join(parts)}", err=True)
    if error.hint:
        click.echo(f"next:  {inert(error.hint, width=600)}", err=True)
    return int(code)
