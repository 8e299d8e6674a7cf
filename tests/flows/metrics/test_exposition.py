"""What monitoring reads: the registry's figures in Prometheus' format, with bounded labels, never a traceback."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import sql
from flows.metrics.exposition import Reading
from flows.metrics.listed import METRICS, MOST_ENDPOINTS, Samples
from flows.metrics.registry_figures import KINDS, add_registry_figures
from registry.monitoring import Champion, EndpointFigures, FailureCount, LlmCount, MonitoringSnapshot, Waiting
from registry.runs import Lease, Run
from registry.store import Registry
from tests.commands import Uniroute
from tests.fakes.hostile import HOSTILE, active_signs
from tests.flows.cli.conftest import home
from tests.postgres import break_in
from tests.registry.samples import NOW, start_night

__all__ = ["home"]
UNIROUTE = str(Path(sys.executable).with_name("uniroute"))


def read(text: str) -> dict[str, float]:
    """Parse an exposition as Prometheus does; return values by name and the values of labels."""

    def name_of(sample: Sample) -> str:
        return " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))])

    return {
        name_of(sample): sample.value for family in text_string_to_metric_families(text) for sample in family.samples
    }


def snapshot_of(*endpoints: str, kind: str = "timeout", **changes: object) -> MonitoringSnapshot:
    """Return a snapshot of a running night at some endpoints."""
    settings = '{"budget": {"night_usd": "20"}}'
    run = Run(1, "night:x", date(2024, 9, 1), "active", 2, 3, "s", settings, None, "host", 1, NOW, None, None, None)
    summary = '{"attention": ["a", "b"], "drifted": ["a:b"],'
    summary += ' "router": {"alias_drifts": ["champion points to version 1, it should be 2"]}}'
    snapshot = MonitoringSnapshot(
        moment=NOW + timedelta(minutes=10),
        run=run,
        finished=replace(run, status="attention", finished_at=NOW, summary_json=summary),
        runs_of_day=1,
        planned_calls=100,
        missing_calls=40,
        endpoints=tuple(EndpointFigures(name, 6, Decimal(1), Decimal(2)) for name in endpoints),
        failures=tuple(FailureCount(name, kind, 3) for name in endpoints),
        lease=Lease("night", 3, 1, "host", 1, NOW, NOW + timedelta(minutes=1), NOW + timedelta(minutes=6)),
        parts_alive=2,
        parts_silent=1,
        llms=tuple(LlmCount(name, "available", 5) for name in endpoints),
        outbox=Waiting(0, None),
        unpublished=0,
        reviews=Waiting(1, NOW),
        champion=Champion(None, NOW),
        ledger_events=9,
        is_head_whole=True,
        aliases_noted={},
    )
    return replace(snapshot, **changes)


def exposed(snapshot: MonitoringSnapshot) -> dict[str, float]:
    samples = Samples()
    add_registry_figures(samples, snapshot)
    return read(Reading(samples).exposition())


def test_a_running_night_and_its_lease_as_figures() -> None:
    found = exposed(snapshot_of("open"))
    expected = {
        "uniroute_night_status active": 1,
        "uniroute_night_status failed": 0,
        "uniroute_night_attempt": 2,
        "uniroute_night_age_seconds": 600,
        "uniroute_night_duration_seconds": 600,
        "uniroute_night_attention": 2,
        "uniroute_llms_drifted": 1,
        "uniroute_night_budget_usd": 20,
        "uniroute_night_calls open": 6,
        "uniroute_night_failures open timeout": 3,
        "uniroute_night_spent_usd open": 1,
        "uniroute_night_reserved_usd open": 2,
        "uniroute_night_planned_calls": 100,
        "uniroute_night_missing_calls": 40,
        "uniroute_lease_held": 1,
        "uniroute_lease_heartbeat_age_seconds": 540,
        "uniroute_lease_expires_in_seconds": -240,
        "uniroute_parts_alive": 2,
        "uniroute_parts_silent": 1,
        "uniroute_llms open available": 5,
        "uniroute_promotions_waiting": 1,
        "uniroute_promotions_waiting_age_seconds": 600,
        "uniroute_champion_age_seconds": 600,
        "uniroute_ledger_events": 9,
        "uniroute_ledger_intact": 1,
        "uniroute_alias_drifts": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "uniroute_champion_version" not in found, "MLflow does not have it yet"


def test_a_drift_that_was_repaired_is_over_and_one_noted_since_counts() -> None:
    assert exposed(snapshot_of(aliases_noted={"champion": False}))["uniroute_alias_drifts"] == 0
    assert exposed(snapshot_of(aliases_noted={"champion": True, "previous": True}))["uniroute_alias_drifts"] == 2


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_make_no_sample_of_their_own_and_do_nothing(text: str) -> None:
    samples = Samples()
    add_registry_figures(samples, snapshot_of(text, "plain", kind=text, finished=None))
    written = Reading(samples).exposition()
    assert not active_signs(written)
    assert set(read(written)) >= {"uniroute_night_calls plain", "uniroute_night_failures plain other"}
    plain = exposed(snapshot_of("some name", "plain", finished=None))
    assert len(read(written)) == len(plain)


def test_labels_are_bounded_whatever_the_registry_holds() -> None:
    found = exposed(snapshot_of(*(f"endpoint-{number:03}" for number in range(300)), kind="invented"))
    calls = [value for name, value in found.items() if name.startswith("uniroute_night_calls")]
    assert (len(calls), sum(calls)) == (MOST_ENDPOINTS + 1, 6 * 300)
    failures = {name.split()[-1] for name in found if name.startswith("uniroute_night_failures")}
    assert failures == {"other"}
    assert {"timeout", "substituted", "judging"} <= KINDS


def test_every_metric_has_a_meaning_and_no_label_that_names_an_llm() -> None:
    assert all(metric.means.endswith(".") for metric in METRICS.values())
    assert {label for metric in METRICS.values() for label in metric.labels} <= {
        "endpoint", "kind", "status", "part", "pool", "version", "schema",
    }  # fmt: skip


def test_the_command_prints_what_the_registry_holds(home: Path, uniroute: Uniroute) -> None:
    ended = uniroute("metrics")
    found = read(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert found["uniroute_up"] == 1
    assert (found["uniroute_champion_version"], found["uniroute_night_status completed"]) == (2, 1)
    assert found["uniroute_ledger_events"] > 0
    listed = {f"uniroute_{name}{'_total' * metric.is_counter}" for name, metric in METRICS.items()}
    assert {name.split()[0] for name in found} <= listed


def test_a_registry_that_is_down_is_a_figure_with_its_reason_in_the_log(
    home: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", "postgresql://ann:pw-CANARY@127.0.0.1:9/uniroute")
    ended = uniroute("metrics")
    found = read(ended.out)
    assert (ended.code, found["uniroute_up"], found["uniroute_scrape_errors_total registry"]) == (3, 0, 1)
    assert ended.err.startswith("metrics_unread part=registry reason=")
    assert ended.err.count("\n") == 1
    assert "CANARY" not in ended.err + ended.out


def test_a_schema_that_is_behind_is_reported_and_not_migrated(home: Path, uniroute: Uniroute) -> None:
    url = f"sqlite:///{home / 'registry.db'}"
    break_in(url, "DROP INDEX ix_outcome_failed", "UPDATE uniroute_alembic_version SET version_num = '0004'")
    ended = uniroute("metrics")
    found = read(ended.out)
    assert (ended.code, found["uniroute_schema_current"]) == (0, 0)
    pending = [one for one in sql.migrations() if one.revision > "0004"]
    assert found["uniroute_schema_pending_migrations"] == len(pending) > 0
    assert "uniroute_night_age_seconds" not in found
    assert break_in(url, "SELECT version_num FROM uniroute_alembic_version") == [("0004",)]


def test_the_file_for_node_exporter_takes_the_place_of_the_old_one_at_once(
    home: Path, uniroute: Uniroute, tmp_path: Path
) -> None:
    file = tmp_path / "uniroute.prom"
    assert uniroute("metrics", "--out", str(file)).out == f"Wrote {file}.\n"
    assert read(file.read_text())["uniroute_up"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "uniroute.prom"], "nothing is left beside it"
    refused = uniroute("metrics", "--out", str(tmp_path / "nowhere" / "uniroute.prom"))
    assert (refused.code, refused.out) == (78, "")
    assert uniroute("metrics", "--out", str(file), "--port", "0").code == 2


@contextmanager
def served(*options: str) -> Iterator[tuple[str, subprocess.Popen]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen([UNIROUTE, "metrics", "--port", "0", *options], text=True, **pipes) as child:
        try:
            line = child.stdout.readline()
            assert line.startswith("Serving metrics at http://127.0.0.1:"), child.stderr.read()
            yield line.split()[3], child
        finally:
            child.kill()


def fetched(url: str) -> dict[str, float]:
    with urlopen(url, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return read(answer.read().decode())


def test_a_served_endpoint_outlives_the_registry_and_ends_when_asked(home: Path) -> None:
    with served() as (url, child):
        assert fetched(url)["uniroute_up"] == 1
        (home / "registry.db").rename(home / "elsewhere.db")
        down = fetched(url)
        assert (down["uniroute_up"], down["uniroute_scrape_errors_total registry"]) == (0, 1)
        (home / "elsewhere.db").rename(home / "registry.db")
        with Registry.open(f"sqlite:///{home / 'registry.db'}") as registry:
            start_night(registry, "night:now", now=datetime.now(UTC), as_of=date(2024, 10, 3))
        up = fetched(url)
        assert (up["uniroute_up"], up["uniroute_lease_held"]) == (1, 1)
        assert 0 < up["uniroute_lease_expires_in_seconds"] <= 60
        port = url.split(":")[2].split("/")[0]
        taken = subprocess.run([UNIROUTE, "metrics", "--port", port], capture_output=True, text=True, timeout=60)
        assert (taken.returncode, taken.stdout) == (75, "")
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
        assert child.stderr.read().count("\n") == 1, "one line for the reading that failed"
