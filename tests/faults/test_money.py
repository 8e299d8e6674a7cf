"""Money: ceilings hold, what stopped at one continues the next night, and nothing without a price is called."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal

import pytest

from flows.endpoints import Budget
from flows.errors import BudgetExceeded
from flows.reports.attention import attention_lines
from flows.reports.closing import closing_state
from flows.reports.digest import llm_table
from registry.outcomes import UsageFacts
from tests.fakes.endpoint import STEPS, FakeEndpoint, completion
from tests.faults.asked_night import FIRST, SECOND, THIRD, AskedNight, candidate, right


@pytest.fixture
def fake():
    with FakeEndpoint(lambda llm_id, prompt: right(prompt)) as server:
        yield server


@pytest.fixture
def asked(tmp_path, fake, migrated, monkeypatch):
    return AskedNight(tmp_path, fake, migrated, monkeypatch)


EXPENSIVE = "input_usd_per_mtok = 1000\noutput_usd_per_mtok = 1000\n"


@pytest.mark.parametrize("ceiling", ["night_usd = 0.6", "llm_usd = 0.6"])
def test_f96_a_night_stops_before_its_ceiling_uses_no_half_profile_and_continues_the_next_night(asked, fake, ceiling):
    fake.scripts = {"costly": "ok", "cheap": "ok"}
    asked.prepare("costly", "cheap", budget=f"{ceiling}\ncall_usd = 0.5", night="canary_prompts = 0")
    left_out, spends = [], []

    def look(night):
        spends.append(night.registry.outcomes.spend(night.run))
        left_out.append([key for key, _ in candidate(night).left_out])

    def run(as_of):
        return asked.run(as_of, look)

    (asked.folder / "llms.toml").write_text(
        f'[[llm]]\nid = "costly"\nreleased = 2024-01-02\n{EXPENSIVE}'
        '[[llm]]\nid = "cheap"\nreleased = 2024-01-01\ninput_usd_per_mtok = 0.01\noutput_usd_per_mtok = 0.01\n'
    )
    first = run(FIRST)
    costly = next(profile for profile in first.profiles if profile.llm_key == "fake:costly")
    assert 0 < costly.coverage < 0.95
    assert "ceiling" in costly.stopped_by and any("fake:costly is incomplete" in line for line in first.attention)
    assert left_out[0] == ["fake:costly"], "half a profile is not used"
    assert sum(float(usd) for usd in spends[0].by_llm.values()) <= 0.6
    assert first.spent_usd == spends[0].total_usd

    nights = [run(f"2024-09-{day:02d}") for day in range(2, 8)]
    assert left_out[-1] == []
    assert all(night.spent_usd <= Decimal("0.6") for night in nights)
    assert max(fake.calls_per_prompt.values()) == 1, "nothing is asked twice"


def test_f96_a_night_started_again_does_not_get_its_budget_again(asked, fake):
    fake.scripts = {"costly": "ok"}
    asked.prepare("costly", prices={"costly": EXPENSIVE}, budget="night_usd = 0.3\ncall_usd = 0.3")
    asked.run(FIRST)
    before = len(fake.requests)
    assert before > 0
    asked.run(FIRST)
    assert len(fake.requests) == before


@pytest.mark.parametrize(
    "price", ["", "input_usd_per_mtok = 1\n", "input_usd_per_mtok = -1\noutput_usd_per_mtok = 1\n"]
)
def test_f97_an_llm_without_a_usable_price_is_never_called(asked, fake, price):
    fake.scripts = {"unpriced": "ok", "priced": "ok"}
    asked.prepare("unpriced", "priced", prices={"unpriced": price}).run()
    assert fake.calls["unpriced"] == 0 and fake.calls["priced"] > 0
    with pytest.raises(BudgetExceeded):
        asyncio.run(Budget(night_usd=Decimal(1)).reserve("fake:unpriced", None))


def tokens(**usage):
    async def play(server, request, writer):
        await server.send(writer, json.dumps(completion(request, right(request.prompt), usage=usage)).encode())

    return play


def test_f99_an_answer_without_end_is_cut_off_and_one_beyond_max_tokens_stops_its_llm(asked, fake, monkeypatch):
    async def wordy(server, request, writer):
        text, usage = "and so on, " * 20_000, {"prompt_tokens": 12, "completion_tokens": 50_000}
        await server.send(writer, json.dumps(completion(request, text, usage=usage)).encode())

    fake.scripts = {"endless": "big", "wordy": "wordy", "plain": "ok"}
    monkeypatch.setitem(STEPS, "wordy", wordy)
    asked.prepare(
        "endless",
        "wordy",
        "plain",
        budget="night_usd = 1\ncall_usd = 0.04",
        endpoint="concurrency = 1\nmax_response_bytes = 262144",
    )
    report = asked.run(THIRD)
    assert {failure for (failure,) in asked.rows("o.failure", "endless")} == {"too_large"}
    assert fake.bytes_sent < fake.calls["endless"] * 8 * 2**20, "each is cut off long before its 64 MiB"
    assert fake.calls["wordy"] <= 2, "0.05 USD each really were written, which is more than a call may cost"
    ended = {profile.llm_key: profile for profile in report.profiles}
    assert "above the ceiling of 0.04 USD per call" in ended["fake:wordy"].stopped_by
    assert ended["fake:plain"].coverage == 1, "one LLM cannot use up the night of the others"
    assert Decimal("0.05") <= report.spent_usd <= Decimal("0.11")


def test_usage_that_cannot_be_right_costs_neither_nothing_nor_the_whole_night(asked, fake, monkeypatch):
    """The cases x05, usage 0/0, and 2,000,000 tokens for a line of text."""
    usages = {
        "hidden": tokens(prompt_tokens=30, completion_tokens=10, total_tokens=90, reasoning_tokens=50),
        "nothing": tokens(prompt_tokens=0, completion_tokens=0, total_tokens=0),
        "boasts": tokens(prompt_tokens=12, completion_tokens=2_000_000, total_tokens=2_000_012),
        "plain": tokens(prompt_tokens=12, completion_tokens=5, total_tokens=17),
    }
    for name, play in usages.items():
        monkeypatch.setitem(STEPS, name, play)
    fake.scripts = {name: name for name in usages}
    asked.prepare(*usages, n_prompts=20, prices={"boasts": "input_usd_per_mtok = 1\noutput_usd_per_mtok = 10\n"})
    costs = {}

    def look(night):
        for llm in candidate(night).router.llms:
            costs[llm.key] = (llm.vector.output_tokens.min(), llm.vector.input_token_ratio)

    report = asked.run(look=look)
    assert all(profile.coverage == 1 for profile in report.profiles)
    flags = {name: {row for (row,) in asked.rows("o.usage_flags", name)} for name in usages}
    assert flags == {
        "hidden": {"hidden_output"},
        "nothing": {"few_input few_output"},
        "boasts": {"much_output"},
        "plain": {""},
    }
    assert {row for (row,) in asked.rows("o.output_tokens", "hidden")} == {60}
    assert all(tokens > 0 and ratio > 0 for tokens, ratio in costs.values()) and len(costs) == 4
    assert report.spent_usd < Decimal("0.05")
    assert [line.partition(" ")[0] for line in report.attention] == ["fake:boasts", "fake:nothing"]
    assert "20 with more answer tokens than max_tokens, bounded" in report.attention[0]
    cells = {row["LLM"]: row["usage"] for row in llm_table(report)}
    assert list(cells.values()) == ["20 bounded", "20 completed", "20 estimated", ""]


def test_a_night_above_any_ceiling_needs_attention(asked, fake):
    fake.scripts = {"one": "ok", "two": "ok"}
    asked.prepare("one", "two", n_prompts=20, budget="call_usd = 0.5\nllm_usd = 12\nnight_usd = 20")
    found = []

    def look(night):
        def closing(**usage):
            found.append(closing_state(night, {f"fake:{name}": facts for name, facts in usage.items()}))

        def spend(llm_key, usd):
            night.registry.charges.book(
                night.run, llm_key, Decimal(usd), calls=1, reserved=Decimal(0), purpose="profile"
            )

        closing(one=UsageFacts(highest_usd=Decimal("0.5")))
        closing(one=UsageFacts(highest_usd=Decimal("0.51")))
        spend("fake:one", 11)
        spend("fake:two", 8)
        closing()
        spend("fake:two", 5)
        closing()

    report = asked.run(look=look)
    assert [len(state.ceilings_passed) for state in found] == [0, 1, 0, 2]
    lines = [line for state in found for line in state.ceilings_passed]
    assert ["0.5 USD per call" in lines[0], "12 USD per LLM" in lines[1], "its ceiling of 20 USD" in lines[2]] == [
        True
    ] * 3
    assert set(lines[1:]) <= set(attention_lines(replace(report, closing=found[-1])))


def test_f99_the_second_night_is_as_bounded_as_the_first(asked, fake):
    fake.scripts = {"costly": "ok"}
    asked.prepare("costly", prices={"costly": EXPENSIVE}, budget="llm_usd = 0.2\ncall_usd = 0.2")
    assert asked.run(FIRST).spent_usd <= Decimal("0.2")
    assert asked.run(SECOND).spent_usd <= Decimal("0.2")
