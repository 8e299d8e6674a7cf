"""Errors of the mathematics, and the one base class of every error uniroute raises on purpose.

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


class UnirouteError(Exception):
    """State what went wrong, what stayed as it was, and what to type next.

    Parameters
    ----------
    message
        One sentence that names the subject and the cause.
    unchanged
        What was left as it was, in words; empty when nothing could have changed.
    hint
        What to type or change next.
    """

    def __init__(self, message: str, *, unchanged: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.unchanged = unchanged
        self.hint = hint


class RoutingError(UnirouteError):
    """Anything the mathematics refuses."""


class InvalidInput(RoutingError, ValueError):
    """Refuse a number, setting or array: non-finite, out of range or of the wrong shape.

    It is also a `ValueError`, as scikit-learn's estimator contract asks.
    """


class InvalidProfile(InvalidInput):
    """Refuse the scores of one LLM: they cannot make a feature vector."""


class NoEligibleLLM(RoutingError):
    """Refuse to choose: every LLM of the router is masked."""


class EmbedderUnavailable(RoutingError):
    """The embedder's weights are missing on disk or are not the pinned ones."""


class ArtifactError(RoutingError):
    """A router folder that cannot be used."""


class ArtifactCorrupt(ArtifactError):
    """A file of the router folder is missing or differs from its digest."""


class ArtifactTooNew(ArtifactError):
    """The router folder was written in a later format than this code reads."""


class ArtifactIncompatible(ArtifactError):
    """The router needs another embedder than the one at hand."""
