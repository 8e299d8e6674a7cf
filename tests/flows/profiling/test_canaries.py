"""Canaries over several nights: they rotate, are compared together, and start again once a profile was asked again."""

import json

import numpy as np
import pytest

from flows.night.context import Night
from flows.profiling.canary_history import CanaryHistory, read_history
from flows.reports.digest import digest
from flows.reports.recording import night_record
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import AskedNight, candidate, right, wrong

CANARIES = 14
# Prompts of two nights, if half of the second night's are those of the first.
PAIRS = 2 * CANARIES - CANARIES // 2


def day(number: int) -> str:
    return f"2024-09-{number:02}"


@pytest.fixture
def fake():
    with FakeEndpoint(lambda llm_id, prompt: right(prompt), scripts={}) as server:
        yield server


def asked_by_night(asked: AskedNight, llm_id: str) -> list[set[int]]:
    """Return the prompts of an LLM's canaries, night by night."""
    nights: dict[str, set[int]] = {}
    joined = "o.prompt_id, (SELECT sampling FROM protocol p WHERE p.id = o.protocol_id)"
    for prompt, sampling in asked.rows(joined, llm_id):
        if "canary" in sampling:
            nights.setdefault(json.loads(sampling)["canary"], set()).add(prompt)
    return [nights[night] for night in sorted(nights)]


def history_of(night: Night, llm_key: str) -> CanaryHistory:
    return read_history(night, night.registry.llms.get(llm_key), with_tonight=True)


def test_a_change_too_small_for_one_night_is_found_by_two_and_its_cluster_named(tmp_path, fake, migrated, monkeypatch):
    asked = AskedNight(tmp_path, fake, migrated, monkeypatch)
    fake.scripts = dict.fromkeys(("steady", "changing", "relapsing", "failing"), "ok")
    asked.prepare(*fake.scripts, n_prompts=56, shares=(0.15, 0.5, 0.3, 0.05), night=f"canary_prompts = {CANARIES}")
    asked.run(day(1), candidate)
    asked.run(day(2))
    calls = len(fake.requests)
    again = asked.run(day(2)).canaries
    assert [(found.pairs, found.p_value) for found in again] == [(CANARIES, 1.0)] * 4
    assert len(fake.requests) == calls, "a night that is repeated asks the same prompts, which are answered"

    left = {"changing": CANARIES // 2, "relapsing": CANARIES // 2}

    def answer(llm_id: str, prompt: str) -> str:
        is_worse = left.get(llm_id, 0) > 0
        left[llm_id] = left.get(llm_id, 0) - is_worse
        return (wrong if is_worse else right)(prompt)

    fake.answer = answer
    fake.scripts["failing"] = "500"
    found = {one.llm_key: one for one in asked.run(day(3)).canaries}
    assert not any(one.is_drifted for one in found.values())
    assert found["fake:changing"].worse == found["fake:relapsing"].worse == CANARIES // 2
    assert (found["fake:failing"].pairs, found["fake:failing"].p_value) == (0, 1.0), "a failure is no wrong answer"

    left["changing"] = CANARIES
    fake.scripts["failing"] = "ok"
    report = asked.run(day(4))
    drifted = [one for one in report.canaries if one.is_drifted]
    assert [(one.llm_key, one.nights, one.pairs) for one in drifted] == [("fake:changing", 2, PAIRS)]
    whole, cluster, *_ = drifted[0].moved
    assert (whole.group, whole.prompts, whole.before) == ("", PAIRS, 1.0)
    assert (cluster.before, drifted[0].worse >= CANARIES, cluster.prompts <= whole.prompts) == (1.0, True, True)
    assert cluster.group.startswith("cluster ") and f"{cluster.group} from 1.00 to {cluster.now:.2f} on" in digest(
        report
    )
    stored = night_record(report).as_data()["canaries"]
    assert [one.get("nights") for one in stored if one["is_drifted"]] == [2]
    assert [len(one.get("moved", ())) > 1 for one in stored] == [one["is_drifted"] for one in stored]
    nights = asked_by_night(asked, "steady")
    assert [len(night) for night in nights] == [CANARIES] * 3
    assert len(set.union(*nights)) == 3 * CANARIES, "no prompt is asked twice before all were"
    for suspected in ("changing", "relapsing"):
        _, second, third = asked_by_night(asked, suspected)
        assert len(second & third) == CANARIES // 2, "whether it changed, or is noisy, shows when it is asked again"

    report = asked.run(day(5))
    assert [planned.llm.llm_id for planned in report.plan.profiles] == ["changing"]
    histories = []
    report = asked.run(day(6), lambda night: histories.append(history_of(night, "fake:changing")))
    assert not any(one.is_drifted for one in report.canaries), "compared with the profile that was asked again"
    assert {one.llm_key: one.nights for one in report.canaries}["fake:changing"] == 1
    (history,) = histories
    assert history.scores.shape == (1, len(history.prompts))
    assert np.isfinite(history.earlier).sum() == CANARIES + PAIRS, "the nights before show its noise"


def test_prompts_go_round_and_none_is_asked_that_has_no_stored_score(tmp_path, fake, migrated, monkeypatch):
    asked = AskedNight(tmp_path, fake, migrated, monkeypatch)
    fake.scripts = {"one": "ok"}
    # 28 representative and gate prompts, and 10 a night: the third night ends the first round and begins the second.
    asked.prepare("one", night="canary_prompts = 10").run(day(1))
    for number in (2, 3, 4, 5):
        asked.run(day(number))
    first, second, third, fourth = asked_by_night(asked, "one")
    assert len(first | second | third) == 28
    assert len(third - first - second) == 8 and len(third & first) == 2, "those asked longest ago come first"
    assert first - third <= fourth
    scored = {prompt for prompt, score in asked.rows("o.prompt_id, o.score", "one") if score is not None}
    assert first | second | third <= scored
