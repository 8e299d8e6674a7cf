"""Settings of a night: one TOML file and the environment, every key checked.

Precedence: environment (``UNIROUTE_BUDGET__NIGHT_USD=5``), then the file, then the defaults of the sections. With no
catalog configured the night runs against the sandbox. Settings name keys (`api_key_env`, `api_key_file`) and never hold
them.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from flows.config.environment import home_folder
from flows.config.refusal import refusal
from flows.config.sections import (
    BudgetSettings,
    CatalogSettings,
    EmbedderSettings,
    EndpointSettings,
    FanOutSettings,
    GateSettings,
    JudgeSettings,
    LogSettings,
    MlflowSettings,
    NightSettings,
    ProfilingSettings,
    PromptSettings,
    RegistrySettings,
    RetentionSettings,
    RoutingSettings,
    Section,
    SigningKeySettings,
    SigningSettings,
)
from flows.config.sources import PREFIX
from flows.masking import mask_urls
from routing.strict_json import canonical_json

# Few prompts make the demo quick: so many to learn from, and as many as can be to judge by.
_SANDBOX_SHARES = {"map": 0.29, "representative": 0.18, "gate": 0.43, "hidden": 0.1}


class Settings(BaseSettings):
    """Everything a night needs to know, from one file and the environment."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=None,
        use_attribute_docstrings=True,
    )

    home: Path = Field(default_factory=home_folder, examples=[".uniroute"])
    """folder of all state; the variable UNIROUTE_HOME wins; without both: .uniroute in the working folder"""
    registry: RegistrySettings = RegistrySettings()
    mlflow: MlflowSettings = MlflowSettings()
    prompts: PromptSettings = PromptSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    budget: BudgetSettings = BudgetSettings()
    night: NightSettings = NightSettings()
    profiling: ProfilingSettings = ProfilingSettings()
    fan_out: FanOutSettings = FanOutSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    judge: JudgeSettings = JudgeSettings()
    routing: RoutingSettings = RoutingSettings()
    gate: GateSettings = GateSettings()
    signing: SigningSettings = SigningSettings()
    signing_key: tuple[SigningKeySettings, ...] = ()
    catalog: tuple[CatalogSettings, ...] = ()
    endpoint: tuple[EndpointSettings, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file (which arrives as the init values)."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        names = [endpoint.name for endpoint in self.endpoint]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two [[endpoint]] entries are called {name!r}")
        catalog_names = [catalog.name for catalog in self.catalog]
        for catalog in self.catalog:
            if catalog_names.count(catalog.name) > 1:
                raise ValueError(f"two [[catalog]] entries are called {catalog.name!r}")
            if catalog.endpoint not in names:
                raise ValueError(
                    f"catalog {catalog.name!r} names the endpoint {catalog.endpoint!r}, "
                    f"but no [[endpoint]] has that name ({', '.join(names) or 'none is configured'})"
                )
        judge_endpoint, _, judge_id = self.judge.llm.partition(":")
        if self.judge.llm and not (judge_id and judge_endpoint in names):
            raise ValueError(
                f"[judge] llm {self.judge.llm!r} is not the name of an [[endpoint]] and an LLM id with a colon between"
            )
        if self.signing.require and not self.signing_key:
            raise ValueError("[signing] require is set but no [[signing_key]] is listed: say whose signatures count")
        if self.catalog and self.prompts.file is None:
            raise ValueError("catalogs are configured but [prompts] file is not: say which prompts LLMs are asked")
        return self

    @property
    def is_sandbox(self) -> bool:
        """Whether the night runs on recorded answers, for want of any configured catalog."""
        return not self.catalog

    @property
    def canary_prompts(self) -> int:
        """Number of canaries per LLM and night; by default none in the sandbox, whose recorded answers never change."""
        is_chosen = "canary_prompts" in self.night.model_fields_set
        return 0 if self.is_sandbox and not is_chosen else self.night.canary_prompts

    @property
    def role_shares(self) -> dict[str, float]:
        """Share of the prompts by role; by default others in the sandbox, most of whose prompts measure routers."""
        given = {role: getattr(self.prompts, role) for role in _SANDBOX_SHARES}
        is_chosen = self.prompts.file is not None or not self.prompts.model_fields_set.isdisjoint(given)
        return given if is_chosen or not self.is_sandbox else dict(_SANDBOX_SHARES)

    @property
    def registry_url(self) -> str:
        """SQLAlchemy URL of the registry."""
        return self.registry.url or f"sqlite:///{self.home / 'registry.db'}"

    @property
    def mlflow_url(self) -> str:
        """Tracking URL of MLflow."""
        return self.mlflow.tracking_url or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifact_root(self) -> Path | None:
        """Folder of MLflow's artifacts on the embedded default; None with a server, which keeps its own."""
        return None if self.mlflow.tracking_url.startswith("http") else self.home / "mlflow-artifacts"

    def overridden(self, *, budget_usd: float | Decimal | None = None, max_new: int | None = None) -> Settings:
        """Return the settings with another ceiling for the night or another number of new LLMs, checked like a file's.

        Raises
        ------
        PrerequisiteError
            A value is out of range.
        """
        asked = {"budget": {"night_usd": budget_usd}, "night": {"max_new": max_new}}
        changed = {}
        for name, values in asked.items():
            section: Section = getattr(self, name)
            given = {key: value for key, value in values.items() if value is not None}
            if given:
                try:
                    changed[name] = type(section)(**(section.model_dump(exclude_unset=True) | given))
                except ValidationError as error:
                    raise refusal(error, type(section), lambda _: ("the command line",), (name,)) from None
        return self.model_copy(update=changed) if changed else self

    def shared_by(self, n: int) -> Settings:
        """Return the settings of one of `n` processes that share the limits of the endpoints."""
        shared = [
            entry.model_copy(
                update={
                    "concurrency": max(1, entry.concurrency // n),
                    "requests_per_second": entry.requests_per_second and entry.requests_per_second / n,
                }
            )
            for entry in self.endpoint
        ]
        return self.model_copy(update={"endpoint": tuple(shared)})

    def canonical(self) -> str:
        """Return the settings that shape a night's result as canonical JSON: not where and how long things are kept.

        Keys stand under the names they were first stored by, and those of later releases only where they are set, so
        that the hash of unchanged settings stays.
        """
        names = ("home", "registry", "mlflow", "fan_out", "retention", "log", "signing", "signing_key")
        elsewhere = dict.fromkeys(names, True)
        content = self.model_dump(mode="json", by_alias=True, exclude={**elsewhere, "prompts": {"file"}})
        for name, stored in content.items():
            section = getattr(self, name)
            for one, row in zip(section, stored, strict=True) if isinstance(section, tuple) else [(section, stored)]:
                for key in one.unset_additions():
                    del row[key]
        # A section of which nothing is left is one of a later release.
        content = {name: stored for name, stored in content.items() if stored != {}}
        for row in (*content["catalog"], *content["endpoint"]):
            for key in ("location", "base_url"):
                if "://" in row.get(key, ""):
                    row[key] = mask_urls(row[key])
        return canonical_json(content)

    @property
    def digest(self) -> str:
        """Hash under which a run remembers its rules."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
