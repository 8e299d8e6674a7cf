"""The stored form of a night: its keys and values stay what they were, and nights of other releases can be read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.reports.night_record import NightRecord, read_night
from flows.reports.recording import night_record
from registry.runs import Run
from tests.flows.cli.test_hostile import TODAY, report_of
from tests.registry.samples import NOW

# Written by the release before there was a record: a night on the sandbox, and the night of `report_of("plain")`.
STORED = json.loads(Path(__file__).with_name("stored_nights.json").read_text(encoding="utf-8"))


def run_with(summary: object, status: str = "completed") -> Run:
    text = json.dumps(summary)
    return Run(1, "night:x", TODAY, status, 1, 1, "s", "{}", None, "host", 1, NOW, None, NOW, text)


@pytest.mark.parametrize("stored", STORED, ids=["sandbox", "plain"])
def test_a_stored_night_is_read_and_written_again_as_it_was(stored: dict) -> None:
    record = read_night(run_with(stored))
    assert record.as_data() == stored
    assert json.loads(record.as_json()) == stored


def test_a_night_is_stored_under_the_keys_it_always_had() -> None:
    assert json.loads(night_record(report_of("plain")).as_json()) == STORED[1]


def test_the_gate_of_a_stored_night_has_its_checks() -> None:
    router = read_night(run_with(STORED[0])).router
    assert router is not None
    assert router.gate is not None
    assert [check.name for check in router.checks] == [check["name"] for check in router.gate["checks"]] != []


def test_missing_and_unknown_keys_are_tolerated() -> None:
    record = read_night(
        run_with({"attention": ["a"], "router": {"alias_drifts": ["b"], "x": 1}, "of a later release": 2})
    )
    assert record.attention == ("a",)
    assert record.closing is None
    assert record.router is not None
    assert (record.router.alias_drifts, record.router.checks) == (("b",), ())


@pytest.mark.parametrize("status", ["active", "failed"])
def test_a_night_that_has_not_ended_well_has_no_figures(status: str) -> None:
    assert read_night(run_with({"plan": {"east": 5}}, status)) == NightRecord()


def test_a_number_that_is_not_finite_is_not_stored() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(night_record(report_of("plain")), spent_usd=float("nan")).as_json()
