"""Errors of the memory (see the tree in routing/errors.py)."""

from __future__ import annotations

from routing.errors import UnirouteError


class RegistryError(UnirouteError):
    """Anything the registry refuses."""


class NotFound(RegistryError):
    """No row answers to that name."""


class RegistryBusy(RegistryError):
    """The database stayed locked longer than the time-out."""


class RegistryCorrupt(RegistryError):
    """The file or a row in it is not what the registry wrote."""


class SchemaMismatch(RegistryError):
    """The database schema is newer than the code, or was changed under it."""


class PromptSetInvalid(RegistryError):
    """Prompts that cannot be frozen into a prompt set."""


class RunAlreadyActive(RegistryError):
    """Another night holds the lease."""


class StalePromotion(RegistryError):
    """The champion moved since the promotion was requested."""


class PublishIncomplete(RegistryError):
    """MLflow could not be brought in step; the registry is right and the outbox keeps the work."""
