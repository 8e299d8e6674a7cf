"""The closed list of metrics: what each means and which labels it has.

Labels are bounded: endpoints, kinds of failures and states. An LLM is never a label, because there may be thousands,
with names that come from catalogs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

PREFIX = "uniroute_"
MOST_ENDPOINTS = 50
"""More endpoints than this share the label `OTHER`."""
OTHER = "other"

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """What one metric means; it is a gauge unless it is a counter."""

    means: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "up": Metric("1 when the registry could be read, else 0; the log says why not."),
        "build_info": Metric(
            "1; its labels are the version of this code and the schema it knows.", ("version", "schema")
        ),
        "scrape_errors": Metric("Readings that failed since this process started.", ("part",), is_counter=True),
        "scrape_duration_seconds": Metric("How long this reading took."),
        "read_timestamp_seconds": Metric("When the registry was read, by its own clock."),
        "schema_current": Metric("1 when the registry has the schema of this code."),
        "schema_pending_migrations": Metric("Migrations that the registry lacks."),
        "schema_ahead": Metric("1 when the registry has a schema that this code does not know."),
        "night_status": Metric("1 for the status of the latest night, 0 for the others.", ("status",)),
        "night_attempt": Metric("How often the latest night was started."),
        "night_age_seconds": Metric("Time since the latest night was first started."),
        "night_duration_seconds": Metric("Time from the first start of the latest night to its end, or to now."),
        "night_success_age_seconds": Metric("Time since the last night finished."),
        "night_attention": Metric("Things that the last finished night asks a person to look at."),
        "nights_of_day": Metric("Nights of the same day: more than one means different settings."),
        "night_budget_usd": Metric("Budget of the latest night."),
        "night_calls": Metric("Calls of the latest night.", ("endpoint",)),
        "night_failures": Metric("Prompts without an answer in the latest night.", ("endpoint", "kind")),
        "night_spent_usd": Metric("Spent in the latest night.", ("endpoint",)),
        "night_reserved_usd": Metric("Reserved for calls that have not been answered yet.", ("endpoint",)),
        "night_planned_calls": Metric("Calls that the running night planned."),
        "night_missing_calls": Metric("Planned calls of the running night that have not been made yet."),
        "lease_held": Metric("1 while a process, dead or alive, holds the right to run a night."),
        "lease_held_seconds": Metric("Time since the lease was taken."),
        "lease_heartbeat_age_seconds": Metric("Time since the holder's last heartbeat."),
        "lease_expires_in_seconds": Metric("Time until the lease expires; negative when its holder vanished."),
        "lease_number": Metric("How often the lease was taken."),
        "parts_alive": Metric("Profiles that other processes are making for the running night."),
        "parts_silent": Metric("Profiles whose process has missed its heartbeat."),
        "llms": Metric("Known LLMs.", ("endpoint", "status")),
        "llms_drifted": Metric("LLMs that had drifted and not been asked again when the last night finished."),
        "outbox_pending": Metric("Moves of aliases that have not reached MLflow yet."),
        "outbox_age_seconds": Metric("Age of the oldest of them."),
        "versions_unpublished": Metric("Router versions that MLflow does not have yet."),
        "promotions_waiting": Metric("Promotions that wait for a person."),
        "promotions_undecided": Metric("Those of them on which the gate could not decide."),
        "promotions_waiting_age_seconds": Metric("Time since the oldest of them was requested."),
        "champion_version": Metric("MLflow version of the router that serves."),
        "champion_age_seconds": Metric("How long it has served."),
        "champion_dead_share": Metric("Share of the prompts that the champion sends to LLMs that cannot serve."),
        "alias_drifts": Metric("Aliases that were moved in MLflow by hand, as last seen."),
        "ledger_events": Metric("Number of the ledger's last event."),
        "ledger_intact": Metric("1 when the last night found the chain intact and the ledger ends as noted."),
        "home_free_bytes": Metric("Free space on this machine's disk of the home folder."),
        "night_free_bytes": Metric("Free space on the worker's disk when the last night finished."),
        "prefect_up": Metric("1 when the Prefect server of PREFECT_API_URL answered, else 0."),
        "prefect_pool_ready": Metric("1 when a worker serves the work pool of the nights.", ("pool",)),
        "prefect_nights_late": Metric("Due flow runs of the night that no worker has taken."),
        "prefect_nights_running": Metric("Flow runs of the night that Prefect believes to be running."),
    }
)
"""By name without the prefix; nothing else is exported."""


@dataclass
class Samples:
    """Values read so far, by metric and labels; unknown values are left out."""

    values: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def put(self, name: str, value: float | None, *labels: str) -> None:
        """Note a value; values with the same labels are added up.

        Parameters
        ----------
        name
            A key of `METRICS`.
        value
            None when it is unknown: then nothing is exported.
        labels
            One for each label of the metric, in order.
        """
        assert len(labels) == len(METRICS[name].labels), name
        if value is not None:
            known = self.values.setdefault(name, {})
            known[labels] = known.get(labels, 0.0) + float(value)

    def __iter__(self) -> Iterator[tuple[str, Metric, Mapping[Labels, float]]]:
        """Yield what was noted, in the order of `METRICS`."""
        for name, metric in METRICS.items():
            if name in self.values:
                yield name, metric, self.values[name]
