"""Logs: what happens in a night, as lines for people or as JSON for machines, without secrets and without injections.

All our records go through one logger, `LOGGER`. As text, standard error shows what the night says to people, and
warnings. As JSON, every record is one line with the facts as fields, including records of libraries. Prompts and
completions are in no record. `announce` also passes an event to listeners in this process, such as the progress of
``uniroute night run --json``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TextIO

from flows.config.secrets import secrets_of
from flows.masking import mask
from flows.text import sanitize
from registry.db.redaction import REDACTION

if TYPE_CHECKING:
    from flows.config.settings import Settings

LOGGER = "uniroute"
NARRATION = "narration"
"""The event of a record that was written for people."""

_PREFECT = "prefect.extra"
"""The logger whose handlers Prefect attaches to loggers other than its own."""

Format = Literal["text", "json", "auto"]
_STANDARD = frozenset(vars(logging.makeLogRecord({})))

Listener = Callable[[str, dict[str, Any]], None]
_listeners: list[Listener] = []


class RecordRedaction(logging.Filter):
    """Mask secrets in every record: those that are known, and anything in a place where a secret belongs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a record in place; none is dropped."""
        record.msg, record.args = mask(record.getMessage()), None
        if record.exc_info:
            record.exc_text, record.exc_info = logging.Formatter().formatException(record.exc_info), None
        record.exc_text, record.stack_info = _clean(record.exc_text), _clean(record.stack_info)
        for name, value in vars(record).items():
            if name not in _STANDARD:
                setattr(record, name, _clean(value))
        return True


def _clean(value: Any) -> Any:
    """Return a value without secrets; texts inside lists and mappings, and their keys, are cleaned too."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    return [_clean(entry) for entry in value] if isinstance(value, list | tuple) else value


class StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Write to the current standard error: commands may redirect it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Standard error."""
        return sys.stderr


class FlowRunLogHandler(logging.Handler):
    """Pass records on to the log of the current Prefect flow run, if there is one.

    Prefect does this for PREFECT_LOGGING_EXTRA_LOGGERS, but a worker's process imports Prefect, which reads that
    variable, before any of our code, and records outside a flow run do not belong in the log of one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on; Prefect is only consulted when it has been imported already."""
        context = sys.modules.get("prefect.context")
        if context is None or not (context.FlowRunContext.get() or context.TaskRunContext.get()):
            return
        for handler in logging.getLogger(_PREFECT).handlers:
            handler.handle(record)


class _ForPeople(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "event", NARRATION) == NARRATION or record.levelno >= logging.WARNING


_REDACTION = RecordRedaction()
_FLOW_RUN_LOG = FlowRunLogHandler()


def set_up(settings: Settings) -> None:
    """Write logs as the settings say, replacing any earlier set-up.

    Parameters
    ----------
    settings
        The ``[log]`` section counts; secrets that the settings refer to are masked from now on.
    """
    REDACTION.learn(secrets_of(settings))
    wanted = settings.log.format
    is_json = wanted == "json" or (wanted == "auto" and not sys.stderr.isatty())
    _install(_as_json() if is_json else _as_text(), is_json=is_json)
    logging.getLogger(LOGGER).setLevel(settings.log.level)


def is_json() -> bool:
    """Whether standard error carries JSON lines."""
    return any(isinstance(handler, StandardErrorHandler) for handler in logging.getLogger().handlers)


def say(text: str) -> None:
    """Say to people what the night is about to do; narration goes to standard error, results to standard output.

    Parameters
    ----------
    text
        One line or several; foreign text in it is sanitised already.
    """
    _logger().info("%s", text, extra={"event": NARRATION})


def log_event(event: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Log that something happened.

    Parameters
    ----------
    event
        What happened, in a word.
    level
        Its severity; from `logging.WARNING` on, people see it too.
    facts
        Numbers, days and names, by field: ``run, llm, endpoint, prompt_id, attempt, cost_usd, latency_s`` where they
        are known. Never a prompt or a completion.
    """
    logger = _logger()
    if logger.isEnabledFor(level):
        fields = {name: _plain(value) for name, value in facts.items() if value is not None}
        line = " ".join([event, *(f"{name}={sanitize(value, width=200)}" for name, value in fields.items())])
        logger.log(level, "%s", line, extra={"event": event, **fields})


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value


def _logger() -> logging.Logger:
    logger = logging.getLogger(LOGGER)
    if _REDACTION not in logger.filters:
        _install(_as_text(), is_json=False)
    return logger


def _install(handler: logging.Handler, *, is_json: bool) -> None:
    """Install the handler: as JSON it receives the records of every library, as text only our own."""
    ours, root = logging.getLogger(LOGGER), logging.getLogger()
    for logger in (ours, root):
        logger.handlers = [one for one in logger.handlers if not isinstance(one, StandardErrorHandler)]
    handler.addFilter(_REDACTION)
    if is_json:
        # Prefect leaves the root logger alone if it has a handler already.
        root.handlers = [handler]
    else:
        ours.addHandler(handler)
    ours.propagate = is_json
    ours.addFilter(_REDACTION)  # Prefect's handler gets records from this logger, not from the root logger
    if _FLOW_RUN_LOG not in ours.handlers:
        ours.addHandler(_FLOW_RUN_LOG)
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
    _mask_records_of_prefect()


def _mask_records_of_prefect() -> None:
    """Mask what Prefect writes about a flow run by itself, such as the traceback of an exception."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == "prefect":
            for handler in logger.handlers:
                handler.addFilter(_REDACTION)


def _as_text() -> logging.Handler:
    handler = StandardErrorHandler()
    handler.addFilter(_ForPeople())
    return handler


def _as_json() -> logging.Handler:
    from pythonjsonlogger.json import JsonFormatter

    handler = StandardErrorHandler()
    names = {"levelname": "level", "name": "logger"}
    handler.setFormatter(JsonFormatter("%(levelname)s %(name)s %(message)s", rename_fields=names, timestamp="at"))
    return handler


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Pass every event that is announced in this process during the block to a listener.

    Parameters
    ----------
    listener
        Called with the name of the event and its facts.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def announce(event: str, **facts: Any) -> None:
    """Log an event, and pass it to the listeners."""
    log_event(event, **facts)
    for listener in tuple(_listeners):
        listener(event, facts)
