"""Errors of the mathematics, and the base class of every error that uniroute raises on purpose.

UnirouteError
├── RoutingError (here)
│   ├── InvalidInput            a number, setting or array that must not be used
│   │   └── InvalidProfile      scores or counts of one LLM that cannot make a feature vector
│   ├── NoEligibleLLM           every LLM is masked: there is nothing to choose from
│   ├── EmbedderUnavailable     weights missing on disk, or not the ones pinned
│   └── ArtifactError
│       ├── ArtifactCorrupt     a digest does not match, a file is missing
│       ├── ArtifactTooNew      written by a later format than this code reads
│       └── ArtifactIncompatible  another embedder or dimension than the router's
├── RegistryError (registry/errors.py)
└── FlowError (flows/errors.py)
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_NAMED = 10
"""An error names at most this many LLMs."""


def named(keys: Iterable[str], most: int = MOST_NAMED) -> str:
    """Return the first of some LLM keys, separated by commas, and how many more there are."""
    listed = list(keys)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"


class UnirouteError(Exception):
    """An error that says what went wrong, what stayed unchanged, and what to type next.

    Parameters
    ----------
    message
        One sentence that names the subject and the cause.
    unchanged
        What stayed unchanged, in words; empty when nothing could have changed.
    hint
        What to type or change next.
    """

    def __init__(self, message: str, *, unchanged: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.unchanged = unchanged
        self.hint = hint


class RoutingError(UnirouteError):
    """Input that the mathematics refuses."""


class InvalidInput(RoutingError, ValueError):
    """A number, setting or array that is not finite, out of range or of the wrong shape.

    It is also a `ValueError`, as scikit-learn's estimator contract asks.
    """


class InvalidProfile(InvalidInput):
    """Scores or counts of one LLM that cannot make a feature vector."""


class NoEligibleLLM(RoutingError):
    """Every LLM of the router is masked: there is nothing to choose from."""


class EmbedderUnavailable(RoutingError):
    """The embedder's weights are missing on disk or are not the pinned ones."""


class ArtifactError(RoutingError):
    """A router folder that cannot be used."""


class ArtifactCorrupt(ArtifactError):
    """A file of the router folder is missing or differs from its digest."""


class ArtifactTooNew(ArtifactError):
    """The router folder was written in a later format than this code reads."""


class ArtifactIncompatible(ArtifactError):
    """The router needs a different embedder from the available one."""
