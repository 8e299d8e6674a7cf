"""The sections of the settings file: every key with its type, range, default and description.

The descriptions stand below the keys. `uniroute config schema` and the file that `uniroute init` writes carry them, so
they are written for the people who edit that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator
from pydantic_core import PydanticCustomError

from flows.urls import http_url

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Usd = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
GIVEN_TWICE = "given_under_both_names"
"""The type of the validation error for a key that is given under its old and its new name."""


class Section(BaseModel):
    """A table of the settings file.

    A renamed key keeps its old name as `serialization_alias`: what the registry has stored of a night's settings, and
    the hash of it, must not change with the names that people type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    old_names: ClassVar[Mapping[str, str]] = {}
    added: ClassVar[frozenset[str]] = frozenset()
    """keys of later releases: what is stored and hashed leaves them out while they have their default"""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for old, new in cls.old_names.items():
            if old in given and new in given:
                raise PydanticCustomError(
                    GIVEN_TWICE, "{old} is the old name of {new}; keep only {new}", {"old": old, "new": new}
                )
        return {cls.old_names.get(key, key): value for key, value in given.items()}

    def unset_additions(self) -> list[str]:
        """Return the keys of later releases that have their default."""
        fields = type(self).model_fields
        return sorted(key for key in self.added if getattr(self, key) == fields[key].default)


class RegistrySettings(Section):
    """Where the registry lives."""

    url: str = ""
    """SQLAlchemy URL; empty: SQLite in the home folder. postgresql://USER@HOST/DATABASE takes its password from
    PGPASSFILE or PGPASSWORD"""


class MlflowSettings(Section):
    """Where router versions are published."""

    tracking_url: str = ""
    """MLflow's server, such as http://mlflow.example.com:5000; empty: a database in the home folder"""
    router_name: Name = "uniroute"
    """registered name: models:/uniroute@champion"""
    experiment: Name = "uniroute-nights"
    """experiment of the runs"""


class PromptSettings(Section):
    """The prompts that LLMs are profiled on, how they are split into roles, and how many of them LLMs are asked."""

    added: ClassVar[frozenset[str]] = frozenset({"ask", "map_answers"})

    file: Path | None = Field(default=None, examples=["prompts.jsonl"])
    """prompts like those of your traffic: .jsonl, .csv or .parquet with prompt_id, text, reference, grader (choice,
    exact, numeric, contains or judge) and, if you like, category; none: those of the sandbox"""
    name: Name = "prompts"
    """name of the prompt set"""
    map: Share = 0.6
    """share that shapes the cluster map; only the LLMs of the first night are asked these. In the sandbox 0.29, and for
    the other roles 0.18, 0.43 and 0.1, unless one of them is set"""
    representative: Share = 0.1
    """share that gives every LLM its feature vector"""
    gate: Share = 0.24
    """share that measures routers before promotion"""
    hidden: Share = 0.06
    """share that detects memorised prompts; the four shares sum to 1"""
    seed: int = 0
    """seed of the split; another one deals all prompts again, except those on which a router was judged"""
    ask: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """how many representative prompts a new LLM is asked: those that tell most about LLMs come first, in an order that
    is chosen by simulation on the known LLMs. auto: as many as are worth their price by that simulation, with
    [routing] method = "kmeans" or "learned_map" all. LLMs that have answered more keep what they have;
    nothing is asked twice"""
    map_answers: int = Field(default=1000, ge=50)
    """how many map prompts the LLMs of the first night answer: from these it is learnt how LLMs differ. All map prompts
    shape the cluster map, asked or not"""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> PromptSettings:
        total = self.map + self.representative + self.gate + self.hidden
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares map + representative + gate + hidden must sum to 1, they sum to {total:g}")
        if min(self.map, self.representative, self.gate) == 0:
            raise ValueError("the shares map, representative and gate must each be above 0")
        return self


class EmbedderSettings(Section):
    """What turns prompts into vectors."""

    name: str = "all-MiniLM-L6-v2"
    """or static-minilm, or hashing-256: no weights, much faster, much coarser; or any embedder of sentence-transformers
    that is on this machine: a name in the cache of Hugging Face, or a folder, written with a slash; nothing is
    downloaded"""


class BudgetSettings(Section):
    """Ceilings in USD; a night that reaches one stops asking and says so."""

    call_usd: Usd = Decimal("0.50")
    """most that one call may cost, at the token limit; a call that could cost more is not made"""
    llm_usd: Usd = Decimal("12")
    """most that one LLM may cost in a night"""
    night_usd: Usd = Decimal("20")
    """most that a night may cost"""


class NightSettings(Section):
    """How a night profiles."""

    added: ClassVar[frozenset[str]] = frozenset({"llm_patience_s", "max_hours"})

    max_new: int = Field(default=50, ge=0)
    """new LLMs taken on in one night: those that may gain the router most, or, where nothing is expected of new LLMs,
    the earliest released"""
    batch_size: int = Field(default=100, ge=1, le=1000)
    """prompts in one Prefect task"""
    lease_s: int = Field(default=300, ge=10)
    """how long a dead night blocks the next one, in seconds"""
    canary_prompts: int = Field(default=20, ge=0, le=1000)
    """prompts that every complete LLM answers again each night, to notice that it changed; in the sandbox, whose
    recorded answers never change, none unless this is set"""
    stop_grace_s: float = Field(default=20, ge=0, le=3600, allow_inf_nan=False)
    """how long calls under way may take after SIGTERM or Ctrl-C, in seconds"""
    llm_patience_s: float = Field(default=300, gt=0, le=86_400, allow_inf_nan=False)
    """how long an LLM is asked again while its endpoint only answers that calls are limited (429), in seconds; then it
    is left for the next night"""
    max_hours: float = Field(default=12, gt=0, le=168, allow_inf_nan=False)
    """how long a night may ask, in hours from its start; then it publishes what is complete"""


class ProfilingSettings(Section):
    """When the profile of a new LLM ends before it was asked everything."""

    added: ClassVar[frozenset[str]] = frozenset({"decided"})

    decided: Share = 0.05
    """a profile ends when more answers would change no decision of the champion on any map prompt with a higher
    probability than this; never before the randomly drawn prompts are answered, which other tests need. 0: never"""


class FanOutSettings(Section):
    """Where the profiles of a night are made."""

    old_names: ClassVar[Mapping[str, str]] = {"start_within_s": "worker_start_timeout_s"}

    runner: Literal["threads", "dask", "work_pool"] = "threads"
    """threads: in the night's own process; work_pool: one flow run per LLM, on any worker of the deployment's pool;
    dask: one task per LLM on a Dask cluster"""
    llms_at_once: int = Field(default=4, ge=1, le=256)
    """flow runs or tasks at a time; they share the limits of their endpoints"""
    deployment: str = "profile-llm/profile-llm"
    """the deployment that work_pool starts flow runs of"""
    worker_start_timeout_s: float = Field(
        default=600, gt=0, le=86_400, allow_inf_nan=False, serialization_alias="start_within_s"
    )
    """how long flow runs may wait while no worker takes any, in seconds"""
    dask_scheduler: str = ""
    """tcp://HOST:8786; empty: a cluster of llms_at_once processes on this machine"""


class RetentionSettings(Section):
    """How many days uniroute db prune keeps texts of answers and raw listings; 0 keeps them forever."""

    completions_days: int = Field(default=180, ge=0)
    """texts of answers; scores, tokens and costs are never forgotten"""
    listings_days: int = Field(default=365, ge=0)
    """raw listings of catalogs"""


class LogSettings(Section):
    """What goes to standard error."""

    format: Literal["text", "json", "auto"] = "text"
    """json: one object per event, for a log collector; auto: JSON unless standard error is a terminal, else text"""
    level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
    """least severe events that are logged: DEBUG (each answer: LLM, prompt, cost, latency; never texts), INFO,
    WARNING"""


class JudgeSettings(Section):
    """The LLM that judges answers to prompts whose grader is judge."""

    added: ClassVar[frozenset[str]] = frozenset({"unreadable"})

    llm: str = ""
    """endpoint:id, such as openrouter:openai/gpt-4.1-mini; priced in a catalog, neither profiled nor routed to"""
    unreadable: bool = False
    """whether it also decides about answers in which the graders of other prompts could read none; paid for within
    the budget"""

    @model_validator(mode="after")
    def _some_llm_decides(self) -> JudgeSettings:
        if self.unreadable and not self.llm:
            raise ValueError("unreadable = true needs llm: name the LLM that decides")
        return self


class RefitSettings(Section):
    """When cluster map and prior are fitted anew, from stored answers alone; by default, once per prompt set."""

    new_llms: int = Field(default=0, ge=0)
    """once this many LLMs have answered since the last fit; 0: never"""
    days: int = Field(default=0, ge=0, le=36_500)
    """once the last fit is this many days old; 0: never"""
    changed_prompts: Share = 0.0
    """once more than this share of the map prompts was added, dropped or changed since; 0: at any change of the prompt
    set, and LLMs are asked the new map prompts; above 0, a smaller change keeps map and prior, and asks none"""

    @property
    def is_on(self) -> bool:
        """Whether anything but the default is asked for; LLMs of later nights then teach the prior, too."""
        return self != type(self)()


class RoutingSettings(Section):
    """How feature vectors are estimated and how the router decides."""

    added: ClassVar[frozenset[str]] = frozenset({"min_answers", "refit"})

    method: Literal["posterior", "learned_map", "kmeans"] = "posterior"
    """how feature vectors are estimated: posterior; learned_map or kmeans: the paper's cluster means, for a map that is
    learned from the known LLMs' answers or for plain clusters"""
    n_clusters: int = Field(default=0, ge=0, le=1000)
    """clusters of kmeans and learned_map; 0: 10 for kmeans, chosen by simulation on the known LLMs for learned_map;
    posterior uses several resolutions"""
    cost_weight: float = Field(default=20.0, ge=0, allow_inf_nan=False)
    """errors that one USD is worth: at 20 a wrong answer is worth 1/20 USD; 0: best quality at any cost"""
    min_coverage: Share = 0.95
    """share of the prompts that an LLM was asked that it must have a score for"""
    min_answers: int = Field(default=25, ge=1)
    """own answers to representative prompts from which an LLM may be routed to; min_coverage of the prompts that it was
    asked where these are fewer; kmeans and learned_map also need some in each cluster"""
    seed: int = 0
    """seed of everything that is fitted"""
    refit: RefitSettings = RefitSettings()
    """when cluster map and prior are fitted anew"""

    @field_serializer("n_clusters")
    def _as_first_stored(self, _: int) -> int:
        # The default was once 10 for every method; what is stored and hashed of old settings stays.
        return self.clusters

    @property
    def clusters(self) -> int:
        """Number of clusters of kmeans, and that a learned map is asked to have; 0: chosen by simulation."""
        return self.n_clusters or (0 if self.method == "learned_map" else 10)


class GateSettings(Section):
    """What a challenger must show on gate prompts before it serves."""

    old_names: ClassVar[Mapping[str, str]] = {"false_promotions": "false_promotion_rate"}
    added: ClassVar[frozenset[str]] = frozenset({"refresh", "undecided", "cross_fit"})

    policy: Literal["automatic", "review"] = "automatic"
    """automatic: a challenger that passes is promoted; review: it waits for a person"""
    refresh: Literal["automatic", "review"] | None = Field(default=None, examples=["automatic"])
    """whether the champion without LLMs that can no longer serve, at the prices in force, serves at once or waits for a
    person; without it as policy"""
    undecided: Literal["review", "promote_if_cheaper", "reject"] = "review"
    """what becomes of a challenger that the gate prompts show neither to be good enough nor to be worse. review: it
    waits for a person, under either policy; promote_if_cheaper: treated as one that passes when it costs at least 1 %
    less and scores, as measured, no more than epsilon below the champion, else review (a risk: false_promotion_rate
    does not cover it, and each time the score may fall by epsilon and the luck of the sample); reject: it is turned
    down"""
    two_person: bool = False
    """with review: a promotion may not be approved by the person who requested it"""
    epsilon: Share = 0.02
    """how far the score may fall below the champion's at its cost (lower bound)"""
    false_promotion_rate: float = Field(default=0.05, gt=0, le=1, serialization_alias="false_promotions")
    """chance that any challenger of one champion is promoted wrongly, however many are tested"""
    cross_fit: bool = True
    """whether representative prompts judge too, each by vectors made without its answers; false: only gate prompts"""
    max_cost_increase: float = Field(default=0.25, ge=0, allow_inf_nan=False)
    """how much more expensive per prompt the challenger may be, as a share"""
    max_share: Share = 1.0
    """share of the prompts that no LLM may exceed unless it did under the champion; 1: no cap"""
    resamples: int = Field(default=2000, ge=200, le=100_000)
    """resamples of the bootstrap"""

    @model_validator(mode="after")
    def _two_persons_decide(self) -> GateSettings:
        if self.two_person and self.policy == "automatic":
            raise ValueError('two_person needs policy = "review": the night would approve what it requested itself')
        if self.two_person and self.refresh == "automatic":
            raise ValueError('two_person needs refresh = "review": the night would decide alone what serves')
        return self

    @property
    def refresh_policy(self) -> Literal["automatic", "review"]:
        """What happens to a refresh: what `refresh` says, else what happens to challengers."""
        return self.refresh or self.policy


class SigningSettings(Section):
    """Whether router versions and the ledger are signed; needs pip install 'uniroute[signing]'."""

    private_key: Path | None = Field(default=None, examples=["signing.pem"])
    """file of the private key that nights sign with: PEM, of the curve P-256, P-384 or P-521, without a password"""
    require: bool = False
    """whether what was made since the first [[signing_key]] counts as changed when none of them signed it"""


class SigningKeySettings(Section):
    """A public key whose signatures count; keep those of earlier years, or what they signed counts no longer."""

    file: Path = Field(examples=["signing.pub.pem"])
    """PEM file of the public key"""
    since: date | None = Field(default=None, examples=[date(2026, 1, 1)])
    """first day, in UTC, whose signatures count"""
    until: date | None = Field(default=None, examples=[date(2027, 1, 1)])
    """first day, in UTC, whose signatures no longer count"""


class CatalogSettings(Section):
    """Where new LLMs are found; as many as you like."""

    name: Name = Field(examples=["openrouter"])
    """what messages call it"""
    kind: Literal["openrouter", "litellm", "openai", "toml"] = Field(examples=["openrouter"])
    """openrouter; litellm: its price map; openai: any /v1/models, which lists no prices, so another catalog of its
    endpoint must supply them; toml: a price file of your own"""
    location: str = Field(examples=["https://openrouter.ai/api/v1/models"])
    """URL or path"""
    endpoint: Name = Field(examples=["openrouter"])
    """name of the [[endpoint]] that answers for these LLMs"""
    include: tuple[str, ...] = ()
    """ids wanted, as shell patterns such as "mistralai/*"; empty: all; the others are only counted"""
    exclude: tuple[str, ...] = ()
    """ids not wanted, as shell patterns; they win over include"""
    free: tuple[str, ...] = ()
    """ids that really cost nothing; any other price of zero is refused"""
    provider: str = ""
    """of litellm: only rows of this provider"""


class EndpointSettings(Section):
    """What answers for LLMs: any OpenAI-compatible base URL; as many as you like."""

    old_names: ClassVar[Mapping[str, str]] = {"may_serve": "accepted_names"}

    name: Name = Field(examples=["openrouter"])
    """part of the key of its LLMs, name:id"""
    base_url: str = Field(examples=["https://openrouter.ai/api/v1"])
    """OpenAI-compatible base URL, without user name or password"""
    api_key_env: str = Field(default="", examples=["OPENROUTER_API_KEY"])
    """name of the environment variable that holds the key, never the key itself"""
    api_key_file: Path | None = Field(default=None, examples=["openrouter.key"])
    """file that holds the key, instead"""
    concurrency: int = Field(default=16, ge=1, le=512)
    """calls under way at a time"""
    timeout_s: float = Field(default=60, gt=0, le=3600, allow_inf_nan=False)
    """deadline of a call, in seconds"""
    max_attempts: int = Field(default=4, ge=1, le=20)
    """tries of a call that may be repeated"""
    requests_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False, examples=[5])
    """pace; without it only concurrency limits"""
    max_tokens: int = Field(default=2048, ge=1)
    """longest answer, in tokens"""
    temperature: float = Field(default=0.0, ge=0, le=2, allow_inf_nan=False)
    """sampling temperature"""
    max_response_bytes: int = Field(default=4 << 20, ge=1024)
    """longest response that is read, in bytes"""
    allow_insecure: bool = False
    """whether the key may travel over plain http to another machine"""
    accepted_names: tuple[str, ...] = Field(default=(), serialization_alias="may_serve")
    """names, as shell patterns, that the endpoint may report for the LLM it used; any that is not the one asked for
    counts as substituted"""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        url = http_url(value)
        if url is None:
            raise ValueError("base_url must be an http:// or https:// URL")
        if url.userinfo:
            raise ValueError("base_url must not carry a user name or a password; name a key with api_key_env")
        return value
