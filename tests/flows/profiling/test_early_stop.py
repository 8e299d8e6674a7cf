"""The profile of a new LLM ends when no decision would change, over a real endpoint on loopback."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from flows import stages
from flows.night.context import Night
from flows.profiling.early_stop import EarlyStop, most_open_decision, open_deviations
from flows.reports.asking import saved_lines
from flows.workspace import Workspace
from tests.fakes.endpoint import FakeEndpoint
from tests.fakes.nights import settings_of
from tests.faults.asked_night import AskedNight, right, wrong
from tests.homes import copied_home
from tests.registry.samples import outcome

DAY = "2024-11-01"
N_ASKED, N_RANDOM = 10, 5


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    """An endpoint that knows one LLM which is always wrong and one which is right every other time."""

    def answered(llm_id: str, prompt: str) -> str:
        is_right = llm_id == "mixed" and int(prompt.split()[1]) % 2 == 0
        return (right if is_right else wrong)(prompt)

    with FakeEndpoint(answered, scripts={"hopeless": "ok", "mixed": "ok"}) as server:
        yield server


@pytest.fixture
def asked(
    tmp_path: Path, answered_template: Path, fake: FakeEndpoint, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> AskedNight:
    """A home whose champion routes to two LLMs, with a catalog of two new ones; each is asked ten prompts."""
    home = copied_home(answered_template, tmp_path / "home")
    text = answered_template.with_name("uniroute.toml").read_text().replace("http://127.0.0.1:9", fake.base_url)
    sections = {"[prompts]": f"ask = {N_ASKED}", "[gate]": "", "[profiling]": "decided = 0.05"}
    for name, line in sections.items():
        text = text.replace(f"{name}\n", f"{name}\n{line}\n") if name in text else f"{text}{name}\n{line}\n"
    (tmp_path / "uniroute.toml").write_text(f"{text}[routing]\nmin_answers = 1\ncost_weight = 2000\n")
    known = json.loads((home / "prompts.jsonl").read_text().splitlines()[0])
    assert known["text"].startswith("Question 0 about")
    prices = {"weak": 1, "fair": 2, "hopeless": 200, "mixed": 2}
    rows = [
        f'[[llm]]\nid = "{name}"\ninput_usd_per_mtok = {usd}\noutput_usd_per_mtok = {usd}\n'
        for name, usd in prices.items()
    ]
    (tmp_path / "llms.toml").write_text("\n".join(rows))
    return AskedNight(tmp_path, fake, migrated, monkeypatch)


def representative(night: Night, llm_id: str) -> int:
    """Return how many representative prompts an LLM has a score for."""
    llm = night.registry.llms.get(f"fake:{llm_id}")
    prompts = night.prompt_set.with_role("representative")
    table = night.registry.outcomes.table([llm.key], prompts, night.grader_versions, night.asked_sampling(llm))
    return int((table.scores == table.scores).sum())


def test_a_hopeless_llm_is_asked_the_drawn_prompts_alone_and_the_same_night_asks_no_more(
    asked: AskedNight, fake: FakeEndpoint
) -> None:
    counts: dict[str, int] = {}

    def look(night: Night) -> None:
        counts.update({name: representative(night, name) for name in ("hopeless", "mixed")})

    report = asked.run(DAY, look)
    assert counts == {"hopeless": N_RANDOM, "mixed": N_ASKED}
    found = {one.llm_key: one for one in report.profiles}
    hopeless, mixed = found["fake:hopeless"], found["fake:mixed"]
    assert (hopeless.saved_calls, mixed.saved_calls) == (N_ASKED - N_RANDOM, 0)
    assert hopeless.coverage == mixed.coverage == 1.0
    assert hopeless.saved_usd == pytest.approx(
        next(one for one in report.plan.profiles if one.llm.key == "fake:hopeless").expected_usd
        * hopeless.saved_calls
        / (hopeless.asked + hopeless.saved_calls)
    )
    (line,) = saved_lines(report.profiles)
    assert line.startswith("decided early: 1 LLM, 5 calls and about $")
    assert report.plan.order is not None and report.plan.order.n_asked == N_ASKED
    calls = len(fake.requests)
    again = asked.run(DAY)
    assert again.plan.calls == 0 and len(fake.requests) == calls


def test_a_night_that_was_killed_after_the_first_answers_stops_where_it_would_have(
    asked: AskedNight, fake: FakeEndpoint
) -> None:
    """The first attempt is killed when the drawn prompts are answered; the second decides before it asks another."""
    with Workspace(settings_of(asked.folder / "home")) as workspace:
        night = Night(workspace, date.fromisoformat(DAY))
        night.run = workspace.registry.runs.start(
            night.run_key,
            as_of=night.as_of,
            settings_hash=workspace.settings.digest,
            settings_json=workspace.settings.canonical(),
            prompt_set_digest=night.prompt_set.digest,
            host="host-a",
            pid=1,
            now=night.clock(),
            lease_s=60,
        )
        stages.sync(night, workspace.catalogs())
        planned = stages.plan(night)
        night.asked.keep(one.llm for one in planned.profiles)
        hopeless = workspace.registry.llms.get("fake:hopeless")
        first = night.asked.representative(hopeless)[:N_RANDOM]
        rows = [
            outcome(
                hopeless.key, one, score=0.0, grader=night.grader_versions["choice"], sampling=night.sampling["fake"]
            )
            for one in first
        ]
        early = EarlyStop(night)
        assert not early.is_decided(hopeless, N_RANDOM), "without an answer nothing is decided"
        workspace.registry.outcomes.record(night.run, rows[:-1])
        assert not early.is_decided(hopeless, N_RANDOM), "an answer that is missing is not taken to be like the others"
        workspace.registry.outcomes.record(night.run, rows[-1:])
        assert early.is_decided(hopeless, N_RANDOM)
        workspace.registry.runs.finish(night.run, "interrupted", "", "{}", night.clock())
    counts: dict[str, int] = {}
    report = asked.run(DAY, lambda night: counts.update(hopeless=representative(night, "hopeless")))
    assert counts["hopeless"] == N_RANDOM
    measuring = len(report.prompt_set.with_role("gate", "hidden"))
    assert fake.calls["hopeless"] == measuring, "gate and hidden prompts are asked as always"


def test_nothing_is_decided_when_the_settings_say_so(asked: AskedNight) -> None:
    config = asked.folder / "uniroute.toml"
    config.write_text(config.read_text().replace("decided = 0.05", "decided = 0"))
    counts: dict[str, int] = {}
    asked.run(DAY, lambda night: counts.update(hopeless=representative(night, "hopeless")))
    assert counts["hopeless"] == N_ASKED


# --- what is open ---------------------------------------------------------------------------------------------------


def test_only_what_answers_will_settle_is_open() -> None:
    assert open_deviations(np.array([0.5, 0.1, 0.2]), np.array([0.3, 0.1, 0.4])).tolist() == pytest.approx(
        [0.4, 0.0, 0.0]
    )


def decided(errors: list[float], costs: list[float], deviations: list[float], weight: float = 1.0) -> float:
    others, other_costs = np.array([[0.3, 0.5], [0.3, 0.2]]), np.array([[0.1, 0.0], [0.1, 0.0]])
    return most_open_decision(
        np.array(errors), np.array(costs), np.array(deviations), others, other_costs, cost_weights=[weight]
    )


def test_the_most_open_prompt_counts_and_the_best_other_llm_is_the_rival() -> None:
    # Against 0.4 and 0.2 at cost weight 1.
    expected = max(norm.sf(0.4 / 0.1), norm.sf(0.1 / 0.2))
    assert decided([0.7, 0.2], [0.1, 0.1], [0.1, 0.2]) == pytest.approx(expected)
    assert decided([0.3, 0.1], [0.1, 0.1], [0.1, 0.1]) == pytest.approx(0.5), "a tie is as open as can be"


def test_nothing_is_open_where_nothing_may_move() -> None:
    assert decided([0.4, 0.2], [0.0, 0.0], [0.0, 0.0]) == 0.0


def test_every_cost_weight_counts() -> None:
    tables = np.array([[0.3]]), np.array([[0.2]])
    cheap, dear = (
        most_open_decision(np.array([0.5]), np.array([0.0]), np.array([0.1]), *tables, cost_weights=weights)
        for weights in ([0.0], [0.0, 1.0])
    )
    assert cheap < 0.05 and dear == pytest.approx(0.5)
