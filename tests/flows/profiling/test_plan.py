"""What a night plans to ask, and what that costs."""

from datetime import UTC, date, datetime
from decimal import Decimal

from flows.profiling.plan import cost_usd, plan_night
from registry.llms import LLM, Price
from registry.prompts import Prompt

PRICE = Price(Decimal("2"), Decimal("10"), date(2024, 1, 1), "c")
PROMPTS = tuple(Prompt(f"p{number}", "x" * 400, "A", "choice") for number in range(4))


def llm(
    name: str,
    *,
    released: int = 1,
    price: Price | None = PRICE,
    refusal: str | None = None,
    deprecated_at: datetime | None = None,
) -> LLM:
    return LLM(
        key=f"e:{name}",
        endpoint="e",
        llm_id=name,
        canonical_id=None,
        name=name,
        catalog="c",
        released_at=datetime(2024, 1, released, tzinfo=UTC),
        deprecated_at=deprecated_at,
        first_seen_on=date(2024, 1, 1),
        last_seen_on=date(2024, 1, 1),
        context_tokens=None,
        status="available",
        status_reason=None,
        refusal=refusal,
        price=price,
    )


def planned(
    llms: list[LLM], missing: dict[str, tuple[Prompt, ...]], max_new: int = 9, seen: float | None = None, **more
):
    return plan_night(
        llms,
        date(2024, 9, 1),
        missing,
        dict.fromkeys(missing, 4),
        max_new=max_new,
        max_tokens={"e": 1000},
        seen_output_tokens=seen,
        **more,
    )


def test_only_what_is_missing_is_planned() -> None:
    plan = planned([llm("a"), llm("b")], {"e:a": PROMPTS[1:], "e:b": ()})
    assert [(found.llm.key, len(found.prompts), found.is_new) for found in plan.profiles] == [("e:a", 3, False)]
    assert (plan.calls, plan.complete) == (3, 1)


def test_an_llm_without_a_usable_price_is_never_planned() -> None:
    plan = planned([llm("a", price=None), llm("b", refusal="negative price")], {})
    assert plan.profiles == ()
    assert {found.key for found in plan.unroutable} == {"e:a", "e:b"}


def test_an_llm_past_its_last_day_is_never_planned_and_one_before_it_is() -> None:
    gone, going = (llm(name, deprecated_at=datetime(2024, 9, day, tzinfo=UTC)) for name, day in (("a", 1), ("b", 2)))
    plan = planned([gone, going], {"e:b": PROMPTS})
    assert [found.llm.key for found in plan.profiles] == ["e:b"]
    assert [found.key for found in plan.unroutable] == ["e:a"]


def test_new_llms_above_the_cap_wait_and_resumed_ones_do_not() -> None:
    llms = [llm("late", released=9), llm("early", released=2), llm("half", released=5)]
    missing = {"e:late": PROMPTS, "e:early": PROMPTS, "e:half": PROMPTS[:1]}
    plan = planned(llms, missing, max_new=1)
    assert [found.llm.llm_id for found in plan.profiles] == ["early", "half"]
    assert [found.llm_id for found in plan.deferred] == ["late"]


def test_new_llms_that_may_gain_the_router_most_come_first_after_those_that_were_begun() -> None:
    llms = [llm(name, released=day) for day, name in enumerate(("unknown", "poor", "half", "best"), start=1)]
    missing = dict.fromkeys(("e:unknown", "e:poor", "e:best"), PROMPTS) | {"e:half": PROMPTS[:1]}
    plan = planned(llms, missing, worth={"e:poor": 0.001, "e:best": 0.02})
    assert [found.llm.llm_id for found in plan.profiles] == ["half", "best", "poor", "unknown"]
    capped = planned(llms, missing, max_new=1, worth={"e:poor": 0.001, "e:best": 0.02})
    assert [found.llm.llm_id for found in capped.profiles] == ["half", "best"]
    as_before = planned(llms, missing)
    assert [found.llm.llm_id for found in as_before.profiles] == ["unknown", "poor", "half", "best"]


def test_the_cost_is_planned_from_the_output_seen_and_bounded_by_the_longest_answer() -> None:
    missing = {"e:a": PROMPTS}
    input_usd = 4 * 116 * Decimal(2) / 1_000_000
    plan = planned([llm("a")], missing, seen=50.0)
    assert plan.expected_usd == input_usd + 4 * 50 * Decimal(10) / 1_000_000
    assert plan.worst_usd == input_usd + 4 * 1000 * Decimal(10) / 1_000_000


def test_cost_is_price_times_tokens_per_million() -> None:
    assert cost_usd(PRICE, 1_000_000, 500_000) == Decimal(7)
