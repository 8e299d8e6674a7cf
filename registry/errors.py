"""Errors of the memory (see the tree in routing/errors.py)."""

from __future__ import annotations

from routing.errors import UnirouteError


class RegistryError(UnirouteError):
    """Anything the registry refuses."""


class NotFound(RegistryError):
    """No row answers to that name."""


class RegistryBusy(RegistryError):
    """The database stayed locked longer than the time-out, aborted a transaction, or does not answer.

    Parameters
    ----------
    message, unchanged, hint
        As in `UnirouteError`.
    may_repeat
        Whether the transaction was certainly rolled back, for a reason that may pass, so that it can be repeated.
    """

    def __init__(self, message: str, *, unchanged: str = "", hint: str = "", may_repeat: bool = False) -> None:
        super().__init__(message, unchanged=unchanged, hint=hint)
        self.may_repeat = may_repeat


class AccessDenied(RegistryError):
    """The database server refuses the user, the password, or the operation."""


class RegistryCorrupt(RegistryError):
    """The file or a row in it is not what the registry wrote."""


class SchemaMismatch(RegistryError):
    """The database schema is newer than the code, or was changed under it."""


class PromptSetInvalid(RegistryError):
    """Prompts that cannot be frozen into a prompt set."""


class RunAlreadyActive(RegistryError):
    """Another night holds the lease."""


class PartAlreadyHeld(RunAlreadyActive):
    """Another process holds this part of the run; its lease may end."""


class PromotionRefused(RegistryError):
    """A promotion or rollback that the rules do not allow."""


class StalePromotion(PromotionRefused):
    """The champion moved since the promotion was requested, or it was decided before."""


class PublishIncomplete(RegistryError):
    """MLflow could not be synchronised; the registry is right and the outbox keeps the work."""


class MlflowUnavailable(PublishIncomplete):
    """MLflow does not answer, or fails in a way that may pass."""


class MlflowDenied(PublishIncomplete):
    """MLflow refuses the user, the password, or the operation."""


class MlflowUnsuitable(PublishIncomplete):
    """What the settings name is not an MLflow server, or not one that can be published to."""


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun in the right form: ``1 prompt``, ``9 LLMs``, ``1,200 calls``.

    Parameters
    ----------
    n
        The number; thousands are separated by commas.
    noun
        What is counted, in the singular.
    plural
        What stands after every number but one; the noun with an ``s`` when None.
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"
