"""Canaries over several nights: they rotate, are compared together, and start again once a profile was asked again."""

import json

import pytest

from flows.reports.digest import digest, night_record
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import AskedNight, candidate, right, wrong

CANARIES = 7


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


def test_a_change_too_small_for_one_night_is_found_by_two_and_named_by_its_cluster(
    tmp_path, fake, migrated, monkeypatch
):
    asked = AskedNight(tmp_path, fake, migrated, monkeypatch)
    fake.scripts = dict.fromkeys(("steady", "changing", "relapsing", "failing"), "ok")
    asked.prepare(*fake.scripts, n_prompts=60, night=f"canary_prompts = {CANARIES}")
    asked.run(day(1), candidate)
    for quiet in (2, 3):
        report = asked.run(day(quiet))
        assert not any(found.is_drifted for found in report.canaries)
        calls = len(fake.requests)
        assert [found.pairs for found in asked.run(day(quiet)).canaries] == [CANARIES] * 4
        assert len(fake.requests) == calls, "a night that is repeated asks the same prompts, which are answered"

    def answer(llm_id: str, prompt: str) -> str:
        is_worse = llm_id in changed and "rivers" in prompt
        return (wrong if is_worse else right)(prompt)

    fake.answer, changed = answer, {"changing", "relapsing"}
    fake.scripts["failing"] = "500"
    found = {one.llm_key: one for one in asked.run(day(4)).canaries}
    assert not any(one.is_drifted for one in found.values())
    assert 3 <= found["fake:changing"].worse <= CANARIES
    assert (found["fake:failing"].pairs, found["fake:failing"].p_value) == (0, 1.0), "a failure is no wrong answer"

    changed.remove("relapsing")
    fake.scripts["failing"] = "ok"
    report = asked.run(day(5))
    drifted = [one for one in report.canaries if one.is_drifted]
    assert [(one.llm_key, one.nights, one.pairs) for one in drifted] == [("fake:changing", 2, 2 * CANARIES)]
    (whole, cluster) = drifted[0].moved
    assert (whole.group, whole.prompts, whole.before) == ("", 2 * CANARIES, 1.0)
    assert (cluster.before, cluster.now, cluster.prompts) == (1.0, 0.0, drifted[0].worse)
    assert cluster.group.startswith("cluster ") and f"{cluster.group} from 1.00 to 0.00 on" in digest(report)
    stored = night_record(report).as_data()["canaries"]
    assert [one.get("nights") for one in stored if one["is_drifted"]] == [2]
    assert [len(one.get("moved", ())) for one in stored] == [2 * one["is_drifted"] for one in stored]
    nights = asked_by_night(asked, "steady")
    assert [len(night) for night in nights] == [CANARIES] * 4
    assert len(set.union(*nights)) == 4 * CANARIES, "no prompt is asked twice before all were"
    assert nights != asked_by_night(asked, "changing")

    report = asked.run(day(6))
    assert [planned.llm.llm_id for planned in report.plan.profiles] == ["changing"]
    report = asked.run(day(7))
    assert not any(one.is_drifted for one in report.canaries), "compared with the profile that was asked again"
    assert {one.llm_key: one.nights for one in report.canaries}["fake:changing"] == 1


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
