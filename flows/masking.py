"""Secrets in texts for people and logs: known ones, and whatever stands where a secret belongs, become a mask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from registry.db.redaction import REDACTION
from registry.db.url_masking import MASK, mask_credentials, mask_url

_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+")
_PATTERNS = (
    re.compile(r"(?i)(\b(?:bearer|basic)(?:\s|%20|\+)+)[\w.~+/=-]{4,}"),
    re.compile(
        r"(?i)(\b(?:x-)?(?:api[-_]?key|authorization|password|passwd|client[-_]secret|access[-_]token)"
        r"(?:\\*['\"])?\s*(?:[:=]|(?<=['\"]),)\s*b?(?:\\*['\"])?)[^\s'\",&\\]+"
    ),
    # The forms of keys that providers of LLMs and of code hand out.
    re.compile(r"(?<![\w-])((?:sk|gsk|hf|xai|ghp|glpat)[-_])[A-Za-z0-9_-]{16,}"),
)


def mask(text: str) -> str:
    """Mask secrets in what people and logs read: those that this process knows, and what looks like one.

    Parameters
    ----------
    text
        Any text; a message, a traceback.
    """
    text = mask_urls(REDACTION.mask(text))
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def mask_urls(text: str) -> str:
    """Mask passwords, tokens and access keys in the URLs of a text, or in the URL that it is."""
    if "://" not in text:
        return text
    # SQLAlchemy's URL type reads them, and is imported only for a text that contains a URL.
    return _URL.sub(lambda found: mask_url(found[0]), mask_credentials(text))


@contextmanager
def masked_failures() -> Iterator[None]:
    """Mask secrets in an exception that leaves the block, and in those behind it: Prefect stores their texts.

    An exception keeps its class and its facts. One whose text cannot be changed, because it is not made of its
    arguments, is replaced by a `RuntimeError` that names its class, or left out when it is behind another one.
    """
    try:
        yield
    except Exception as error:
        if not _clean_failure(error):
            raise RuntimeError(mask(f"{type(error).__name__}: {error}")) from None
        # All of them, not up to the first that cannot be cleaned.
        is_clean = [_clean_failure(one) for one in _chain(error)]
        if not all(is_clean):
            error.__cause__ = error.__context__ = None
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]
            waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()


def _clean_failure(error: BaseException) -> bool:
    """Mask the texts that an exception is made of; whether its own text is without secrets then."""
    if mask(shown := f"{error} {error!r}") == shown:
        return True
    error.args = tuple(mask(one) if isinstance(one, str) else one for one in error.args)
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, mask(value))
    return mask(shown := f"{error} {error!r}") == shown
