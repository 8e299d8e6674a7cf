"""Settings of a night: one TOML file and the environment, every key checked.

Precedence: environment (``UNIROUTE_BUDGET__NIGHT_USD=5``), then the file, then the defaults below. With no catalog
configured the night runs against the sandbox. Secrets are only named here (`api_key_env`, `api_key_file`), never held.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from flows.config.environment import home_folder
from flows.errors import PrerequisiteError

CONFIG_NAME = "uniroute.toml"
PREFIX = "UNIROUTE_"
TEST_PREFIX = "UNIROUTE_TEST_"
OTHER_VARIABLES = ("UNIROUTE_CONFIG", "UNIROUTE_DATA")
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Usd = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RegistrySettings(_Section):
    """Where the registry lives; a file in the home folder when `url` is empty."""

    url: str = ""


class MlflowSettings(_Section):
    """Where router versions are published; a database in the home folder when `tracking_url` is empty."""

    tracking_url: str = ""
    router_name: Name = "uniroute"
    experiment: Name = "uniroute-nights"


class PromptSettings(_Section):
    """The prompts LLMs are profiled on, and how they are split into roles."""

    file: Path | None = None
    name: Name = "prompts"
    map: Share = 0.6
    representative: Share = 0.1
    gate: Share = 0.24
    hidden: Share = 0.06
    seed: int = 0

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> PromptSettings:
        total = self.map + self.representative + self.gate + self.hidden
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares map + representative + gate + hidden must sum to 1, they sum to {total:g}")
        if min(self.map, self.representative, self.gate) == 0:
            raise ValueError("the shares map, representative and gate must each be above 0")
        return self


class EmbedderSettings(_Section):
    """The embedder of prompts."""

    name: str = "all-MiniLM-L6-v2"


class BudgetSettings(_Section):
    """Ceilings in USD; a night that reaches one stops asking and says so."""

    call_usd: Usd = Decimal("0.50")
    llm_usd: Usd = Decimal("12")
    night_usd: Usd = Decimal("20")


class NightSettings(_Section):
    """How a night profiles."""

    max_new: int = Field(default=50, ge=0)
    batch_size: int = Field(default=100, ge=1, le=1000)
    lease_s: int = Field(default=300, ge=10)
    canary_prompts: int = Field(default=20, ge=0, le=1000)
    stop_grace_s: float = Field(default=20, ge=0, le=3600, allow_inf_nan=False)


class FanOutSettings(_Section):
    """Where the profiles of a night are made.

    In the night's own process (``threads``), as tasks on a Dask cluster (``dask``), or as one flow run per LLM of
    `deployment` (``work_pool``), `llms_at_once` of them at a time; these share the limits of their endpoints.
    """

    runner: Literal["threads", "dask", "work_pool"] = "threads"
    llms_at_once: int = Field(default=4, ge=1, le=256)
    deployment: str = "profile-llm/profile-llm"
    start_within_s: float = Field(default=600, gt=0, le=86_400, allow_inf_nan=False)
    dask_scheduler: str = ""


class LogSettings(_Section):
    """How standard error is written; ``auto`` writes JSON lines unless it is a terminal. ``DEBUG`` logs each answer."""

    format: Literal["text", "json", "auto"] = "text"
    level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"


class JudgeSettings(_Section):
    """The LLM that judges answers to prompts whose grader is ``judge``, as ``endpoint:id``; it is not profiled."""

    llm: str = ""


class RetentionSettings(_Section):
    """How many days `uniroute db prune` leaves texts of answers and raw listings; 0 keeps them for ever."""

    completions_days: int = Field(default=180, ge=0)
    listings_days: int = Field(default=365, ge=0)


class RoutingSettings(_Section):
    """How vectors are estimated and the router decides. A wrong answer is worth ``1 / cost_weight`` USD."""

    method: Literal["posterior", "kmeans"] = "posterior"
    n_clusters: int = Field(default=10, ge=1, le=1000)
    cost_weight: float = Field(default=20.0, ge=0, allow_inf_nan=False)
    min_coverage: Share = 0.95
    seed: int = 0


class GateSettings(_Section):
    """What a challenger must show on gate prompts before it serves."""

    policy: Literal["automatic", "review"] = "automatic"
    two_person: bool = False
    epsilon: Share = 0.02
    false_promotions: float = Field(default=0.05, gt=0, le=1)
    max_cost_increase: float = Field(default=0.25, ge=0, allow_inf_nan=False)
    max_share: Share = 1.0
    resamples: int = Field(default=2000, ge=200, le=100_000)

    @model_validator(mode="after")
    def _two_persons_decide(self) -> GateSettings:
        if self.two_person and self.policy == "automatic":
            raise ValueError('two_person needs policy = "review": the night would approve what it requested itself')
        return self


class CatalogSettings(_Section):
    """One source of listings, by URL or path."""

    name: Name
    kind: Literal["openrouter", "litellm", "openai", "toml"]
    location: str
    endpoint: Name
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    provider: str = ""


class EndpointSettings(_Section):
    """One OpenAI-compatible base URL, the name of its key, and its limits."""

    name: Name
    base_url: str
    api_key_env: str = ""
    api_key_file: Path | None = None
    concurrency: int = Field(default=16, ge=1, le=512)
    timeout_s: float = Field(default=60, gt=0, le=3600, allow_inf_nan=False)
    max_attempts: int = Field(default=4, ge=1, le=20)
    requests_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_tokens: int = Field(default=2048, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2, allow_inf_nan=False)
    max_response_bytes: int = Field(default=4 << 20, ge=1024)
    allow_insecure: bool = False
    may_serve: tuple[str, ...] = ()

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must be an http:// or https:// URL")
        if parts.username or parts.password:
            raise ValueError("base_url must not carry a user name or a password; name a key with api_key_env")
        return value


class Settings(BaseSettings):
    """Everything a night needs to know, from one file and the environment."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__", env_file=None
    )

    home: Path = Field(default_factory=home_folder)
    registry: RegistrySettings = RegistrySettings()
    mlflow: MlflowSettings = MlflowSettings()
    prompts: PromptSettings = PromptSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    budget: BudgetSettings = BudgetSettings()
    night: NightSettings = NightSettings()
    fan_out: FanOutSettings = FanOutSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    judge: JudgeSettings = JudgeSettings()
    routing: RoutingSettings = RoutingSettings()
    gate: GateSettings = GateSettings()
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
    def _belongs_together(self) -> Settings:
        names = [endpoint.name for endpoint in self.endpoint]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two [[endpoint]] entries are called {name!r}")
        for catalog in self.catalog:
            if catalog.endpoint not in names:
                raise ValueError(
                    f"catalog {catalog.name!r} names the endpoint {catalog.endpoint!r}, "
                    f"but no [[endpoint]] is called that ({', '.join(names) or 'none is configured'})"
                )
        judge_endpoint, _, judge_id = self.judge.llm.partition(":")
        if self.judge.llm and not (judge_id and judge_endpoint in names):
            raise ValueError(
                f"[judge] llm {self.judge.llm!r} is not the name of an [[endpoint]] and an LLM id with a colon between"
            )
        if self.catalog and self.prompts.file is None:
            raise ValueError("catalogs are configured but [prompts] file is not: say which prompts LLMs are asked")
        return self

    @property
    def is_sandbox(self) -> bool:
        """Whether the night runs on recorded answers, for want of any configured catalog."""
        return not self.catalog

    @property
    def canary_prompts(self) -> int:
        """Give how many canaries an LLM is asked a night; in the sandbox, whose recorded answers never change, none."""
        is_chosen = "canary_prompts" in self.night.model_fields_set
        return 0 if self.is_sandbox and not is_chosen else self.night.canary_prompts

    @property
    def registry_url(self) -> str:
        """Give the SQLAlchemy URL of the registry."""
        return self.registry.url or f"sqlite:///{self.home / 'registry.db'}"

    @property
    def mlflow_url(self) -> str:
        """Give the tracking URL of MLflow."""
        return self.mlflow.tracking_url or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifact_root(self) -> Path | None:
        """Give the folder of MLflow's artifacts on the embedded default; a server keeps its own."""
        return None if self.mlflow.tracking_url.startswith("http") else self.home / "mlflow-artifacts"

    def overridden(self, *, budget_usd: float | Decimal | None = None, max_new: int | None = None) -> Settings:
        """Give the settings with another ceiling for the night, or another number of new LLMs, checked like a file's.

        Raises
        ------
        PrerequisiteError
            A value is out of range.
        """
        asked = {"budget": {"night_usd": budget_usd}, "night": {"max_new": max_new}}
        changed = {}
        for name, values in asked.items():
            section: _Section = getattr(self, name)
            given = {key: value for key, value in values.items() if value is not None}
            if given:
                try:
                    changed[name] = type(section)(**(section.model_dump(exclude_unset=True) | given))
                except ValidationError as error:
                    raise explain(error, None, name) from None
        return self.model_copy(update=changed) if changed else self

    def shared_by(self, n: int) -> Settings:
        """Give the settings of one of `n` processes that share the limits of the endpoints."""
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
        """Give the settings that shape a night's result as canonical JSON: not where and how long things are kept."""
        elsewhere = dict.fromkeys(("home", "registry", "mlflow", "fan_out", "retention", "log"), True)
        content = self.model_dump(mode="json", exclude={**elsewhere, "prompts": {"file"}})
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Give the hash under which a run remembers its rules."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def explain(error: ValidationError, path: Path | None, section: str = "") -> PrerequisiteError:
    """Turn the first validation error into one line, with the nearest known key for a typing mistake."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in (section, *first["loc"]) if part != "") or "the settings"
    source = str(path) if path is not None else "the command line" if section else "the environment"
    hint = f"Mend it in {source}, then: uniroute night run --plan"
    if first["type"] == "extra_forbidden":
        nearest = _nearest_key(first["loc"])
        suggestion = f" Did you mean {nearest!r}?" if nearest else ""
        return PrerequisiteError(f"There is no setting {where} (in {source}).{suggestion}", hint=hint)
    reason = first["msg"].removeprefix("Value error, ")
    return PrerequisiteError(f"The setting {where} (in {source}) is refused: {reason}.", hint=hint)


def _nearest_key(location: tuple[int | str, ...]) -> str | None:
    """Find the known key that looks most like the unknown one."""
    section: Any = Settings
    for part in location[:-1]:
        if isinstance(part, str):
            section = _section_of(section.model_fields[part].annotation)
    matches = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1, cutoff=0.5)
    return matches[0] if matches else None


def _section_of(annotation: Any) -> type[BaseModel]:
    """Give the section class behind an annotation such as ``tuple[EndpointSettings, ...]``."""
    arguments = getattr(annotation, "__args__", ())
    return arguments[0] if arguments else annotation
