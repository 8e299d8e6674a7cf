"""How the settings of a night were given: what another process needs to read the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from flows.settings import Settings, load_settings


@dataclass(frozen=True)
class GivenSettings:
    """How the settings of a night were given.

    Attributes
    ----------
    config
        Path of the settings file; found as `flows.settings.find_config` says when None.
    sandbox
        Whether the night runs on the sandbox whatever settings file lies about.
    budget_usd, max_new
        As for `Settings.overridden`.
    """

    config: str | None = None
    sandbox: bool = False
    budget_usd: float | None = None
    max_new: int | None = None

    def load(self) -> Settings:
        """Read the settings; raises as `load_settings` and `Settings.overridden` do."""
        settings = Settings() if self.sandbox else load_settings(self.config)
        return settings.overridden(budget_usd=self.budget_usd, max_new=self.max_new)
