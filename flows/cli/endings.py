"""How a command ends: its exit code and, when it is refused, one clear line."""

from __future__ import annotations

import json
import logging
import shlex
import tempfile
import traceback
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType

import click
from click.core import ParameterSource

from flows import errors as flow
from flows import logs
from flows.cli.screen import label
from flows.config.environment import home_folder
from flows.config.secrets import secrets_of_environment
from flows.findings import Severity
from flows.masking import mask
from flows.text import sanitize
from registry import errors as registry
from registry.db.redaction import REDACTION
from routing import errors as routing
from routing.errors import UnirouteError

_WIDTH = 600


class ExitCode(IntEnum):
    """The exit codes, as flows/README.md documents them for schedulers."""

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
    PIPE_CLOSED = 141
    TERMINATED = 143


class ErrorKind(StrEnum):
    """The values of ``error.kind``: a closed list that never changes."""

    BUG = "bug"
    USAGE = "usage"
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    BUDGET = "budget"
    UNPUBLISHED = "unpublished"
    REFUSED = "refused"
    STALE = "stale"
    INTEGRITY = "integrity"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    CREDENTIALS = "credentials"
    CONFIGURATION = "configuration"
    INTERRUPTED = "interrupted"


# The first class that matches decides, so subclasses come first.
_ENDS: tuple[tuple[type[UnirouteError], ExitCode, ErrorKind], ...] = (
    (registry.RegistryBusy, ExitCode.TRY_LATER, ErrorKind.BUSY),
    (registry.RunAlreadyActive, ExitCode.TRY_LATER, ErrorKind.BUSY),
    (registry.MlflowUnavailable, ExitCode.TRY_LATER, ErrorKind.UNAVAILABLE),
    (registry.MlflowDenied, ExitCode.CREDENTIALS, ErrorKind.CREDENTIALS),
    (registry.MlflowUnsuitable, ExitCode.CONFIGURATION, ErrorKind.CONFIGURATION),
    (registry.PublishIncomplete, ExitCode.ATTENTION, ErrorKind.UNPUBLISHED),
    (registry.StalePromotion, ExitCode.REFUSED, ErrorKind.STALE),
    (registry.PromotionRefused, ExitCode.REFUSED, ErrorKind.REFUSED),
    (registry.RegistryCorrupt, ExitCode.INTEGRITY, ErrorKind.INTEGRITY),
    (registry.NotFound, ExitCode.USAGE, ErrorKind.NOT_FOUND),
    (registry.AccessDenied, ExitCode.CREDENTIALS, ErrorKind.CREDENTIALS),
    (registry.RegistryError, ExitCode.CONFIGURATION, ErrorKind.CONFIGURATION),
    (routing.ArtifactCorrupt, ExitCode.INTEGRITY, ErrorKind.INTEGRITY),
    (routing.EmbedderUnavailable, ExitCode.CONFIGURATION, ErrorKind.CONFIGURATION),
    (routing.ArtifactError, ExitCode.CONFIGURATION, ErrorKind.CONFIGURATION),
    (routing.NoEligibleLLM, ExitCode.REFUSED, ErrorKind.REFUSED),
    (routing.RoutingError, ExitCode.USAGE, ErrorKind.INVALID),
    (flow.BudgetExceeded, ExitCode.ATTENTION, ErrorKind.BUDGET),
    (flow.CatalogUnavailable, ExitCode.TRY_LATER, ErrorKind.UNAVAILABLE),
    (flow.TransientEndpointError, ExitCode.TRY_LATER, ErrorKind.UNAVAILABLE),
    (flow.RateLimited, ExitCode.TRY_LATER, ErrorKind.UNAVAILABLE),
    (flow.CredentialsMissing, ExitCode.CREDENTIALS, ErrorKind.CREDENTIALS),
    (flow.ServerUnavailable, ExitCode.TRY_LATER, ErrorKind.UNAVAILABLE),
    (flow.PortTaken, ExitCode.TRY_LATER, ErrorKind.BUSY),
    (flow.WorkersUnavailable, ExitCode.TRY_LATER, ErrorKind.UNAVAILABLE),
    (flow.VersionUnavailable, ExitCode.TRY_LATER, ErrorKind.UNAVAILABLE),
    (flow.Interrupted, ExitCode.TERMINATED, ErrorKind.INTERRUPTED),
    (flow.FlowError, ExitCode.CONFIGURATION, ErrorKind.CONFIGURATION),
)


CODES: Mapping[Severity, ExitCode] = MappingProxyType(
    {
        "ok": ExitCode.DONE,
        "made": ExitCode.DONE,
        "renewed": ExitCode.DONE,
        "attention": ExitCode.ATTENTION,
        "unreachable": ExitCode.TRY_LATER,
        "refused": ExitCode.CONFIGURATION,
        "damaged": ExitCode.INTEGRITY,
    }
)
"""By the severity of a command's worst finding, its exit code."""


def exit_code_of(error: UnirouteError) -> ExitCode:
    """Return the exit code of an error; every class of the three families has one."""
    if isinstance(error, flow.Interrupted):
        return ExitCode(128 + error.signal_number)
    return next(code for family, code, _ in _ENDS if isinstance(error, family))


def kind_of(error: UnirouteError) -> ErrorKind:
    """Return the kind of an error, as JSON carries it."""
    return next(kind for family, _, kind in _ENDS if isinstance(error, family))


def report_error(error: UnirouteError, *, as_json: bool, verbose: bool = False) -> int:
    """Print an error where readers expect it, and return the exit code."""
    code = exit_code_of(error)
    _report(kind_of(error), code, error.message, error.unchanged, error.hint, as_json=as_json)
    if verbose:
        for line in _traceback(error).splitlines():
            click.echo(f"  {sanitize(line, width=_WIDTH)}", err=True)
    return int(code)


def report_usage(error: click.ClickException, *, as_json: bool) -> int:
    """Print what is wrong with the command line and where its help is, and return the exit code."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
        error.show()
        return int(ExitCode.USAGE)
    message = "A command is missing." if isinstance(error, click.exceptions.NoArgsIsHelpError) else ""
    hint = _completed(error) or f"{context.command_path if context is not None else 'uniroute'} --help"
    _report(ErrorKind.USAGE, ExitCode.USAGE, message or error.format_message(), "", hint, as_json=as_json)
    return int(ExitCode.USAGE)


def _completed(error: click.ClickException) -> str:
    """Return the command as it was typed plus the one option that it lacks; empty when something else is wrong."""
    if not isinstance(error, click.MissingParameter) or error.ctx is None or not isinstance(error.param, click.Option):
        return ""
    context, words = error.ctx, [error.ctx.command_path]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if context.get_parameter_source(parameter.name or "") is not ParameterSource.COMMANDLINE or value is None:
            continue
        is_flag = isinstance(parameter, click.Option) and parameter.is_flag
        words += [parameter.opts[0]] if isinstance(parameter, click.Option) else []
        words += [] if is_flag else [shlex.quote(str(value))]
    return " ".join([*words, error.param.opts[0], error.param.make_metavar(context)])


def report_interruption(*, as_json: bool) -> int:
    """Print that Ctrl-C ended the command, and return the exit code."""
    _report(ErrorKind.INTERRUPTED, ExitCode.INTERRUPTED, "Interrupted.", "", "", as_json=as_json)
    return int(ExitCode.INTERRUPTED)


def report_bug(error: Exception, *, as_json: bool = False) -> int:
    """Save the traceback in a file, print one line, and return the exit code."""
    folder = home_folder() if home_folder().is_dir() else Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="crash-", suffix=".log", delete=False) as file:
        file.write(_traceback(error))
    message = f"uniroute itself failed ({type(error).__name__}); the traceback is in {file.name}"
    _report(ErrorKind.BUG, ExitCode.BUG, message, "", "", as_json=as_json)
    return int(ExitCode.BUG)


def _traceback(error: Exception) -> str:
    """Write the traceback of an error; its texts may quote a server, a URL or the environment."""
    REDACTION.learn(secrets_of_environment())
    return mask("".join(traceback.format_exception(error)))


def _report(kind: ErrorKind, code: ExitCode, message: str, unchanged: str, hint: str, *, as_json: bool) -> None:
    """Print an error for people on standard error and, with ``--json``, for machines on standard output."""
    REDACTION.learn(secrets_of_environment())
    message, unchanged, hint = mask(message), mask(unchanged), mask(hint)
    if as_json:
        facts = {"kind": str(kind), "message": message, "unchanged": unchanged, "hint": hint, "exit_code": int(code)}
        click.echo(json.dumps({"error": facts}))
    if logs.is_json():
        logs.log_event("refused", level=logging.ERROR, kind=str(kind), reason=message, hint=hint, exit_code=int(code))
        return
    ended = message if not unchanged or message.endswith((".", "!", "?")) else f"{message}."
    parts = [sanitize(part, width=_WIDTH) for part in (ended, unchanged) if part]
    click.echo(f"{label('error:', 'red')} {' '.join(parts)}", err=True)
    if hint:
        click.echo(f"{label('next:', 'cyan')}  {sanitize(hint, width=_WIDTH)}", err=True)
