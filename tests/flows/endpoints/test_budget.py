"""Ceilings hold, and reservations in flight delay calls rather than refuse them."""

import asyncio
import threading
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.endpoints import Budget, worst_case_usd
from flows.errors import BudgetExceeded

USD = Decimal


def reserve(budget, llm_key, usd):
    return asyncio.run(budget.reserve(llm_key, USD(usd)))


def test_the_worst_case_counts_bytes_and_the_longest_answer():
    worst = worst_case_usd("é" * 18, max_tokens=1000, input_usd_per_mtok=USD("1"), output_usd_per_mtok=USD("10"))
    assert worst == USD("0.0101")


@pytest.mark.parametrize("prices", [(None, USD(1)), (USD(1), None)])
def test_an_llm_without_a_price_is_refused(prices):
    worst = worst_case_usd("x", max_tokens=1, input_usd_per_mtok=prices[0], output_usd_per_mtok=prices[1])
    with pytest.raises(BudgetExceeded, match="e:unpriced has no price") as raised:
        asyncio.run(Budget().reserve("e:unpriced", worst))
    assert raised.value.scope == "llm"


@pytest.mark.parametrize(
    ("ceilings", "scope"),
    [({"call_usd": USD("0.9")}, "call"), ({"llm_usd": USD("2.9")}, "llm"), ({"night_usd": USD("4.9")}, "night")],
)
def test_the_ceiling_that_is_reached_is_named(ceilings, scope):
    budget = Budget(already_spent={"a": USD(2), "b": USD(2)}, **ceilings)
    with pytest.raises(BudgetExceeded, match=f"per {scope}") as raised:
        reserve(budget, "a", "1")
    assert raised.value.scope == scope
    assert budget.spent_usd == 4 and budget.reserved_usd == 0


def test_settling_books_the_cost_and_releasing_books_nothing():
    budget = Budget(night_usd=USD(1))
    first = reserve(budget, "a", "0.6")
    assert (budget.reserved_usd, budget.spent_usd) == (USD("0.6"), 0)
    budget.settle(first, USD("0.1"))
    budget.release(reserve(budget, "b", "0.9"))
    assert (budget.reserved_usd, budget.spent_usd) == (0, USD("0.1"))
    assert (budget.spent_on("a"), budget.spent_on("b")) == (USD("0.1"), 0)


@pytest.mark.parametrize("close", [lambda b, r: b.settle(r, USD(0)), lambda b, r: b.release(r)])
def test_a_reservation_is_closed_once(close):
    budget = Budget()
    reservation = reserve(budget, "a", "1")
    close(budget, reservation)
    with pytest.raises(ValueError, match="already closed"):
        close(budget, reservation)


@pytest.mark.parametrize("usd", ["NaN", "Infinity", "-1"])
def test_invalid_amounts_are_refused(usd):
    with pytest.raises(ValueError, match="finite amount"):
        Budget(night_usd=USD(usd))
    with pytest.raises(ValueError, match="finite amount"):
        reserve(Budget(), "a", usd)
    budget = Budget()
    with pytest.raises(ValueError, match="finite amount"):
        budget.settle(reserve(budget, "a", "1"), USD(usd))


def test_many_calls_in_flight_wait_for_each_other_instead_of_failing():
    """A night whose worst cases are far beyond its ceiling and whose spend is far below it."""
    budget = Budget(night_usd=USD("1"))
    most = USD(0)

    async def call():
        nonlocal most
        reservation = await budget.reserve("a", USD("0.3"))
        most = max(most, budget.reserved_usd + budget.spent_usd)
        await asyncio.sleep(0)
        budget.settle(reservation, USD("0.001"))

    async def night():
        await asyncio.gather(*(call() for _ in range(200)))

    asyncio.run(night())
    assert budget.spent_usd == USD("0.2")
    assert USD("0.3") <= most <= 1


def test_a_waiting_call_is_refused_once_what_is_settled_leaves_no_room():
    async def run():
        budget = Budget(llm_usd=USD("1"))
        first = await budget.reserve("a", USD("0.6"))
        waiting = asyncio.create_task(budget.reserve("a", USD("0.6")))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert (await budget.reserve("b", USD("0.6"))).usd == USD("0.6")
        budget.settle(first, USD("0.6"))
        with pytest.raises(BudgetExceeded):
            await waiting

    asyncio.run(run())


def test_a_cancelled_wait_keeps_nothing():
    async def run():
        budget = Budget(night_usd=USD("1"))
        first = await budget.reserve("a", USD("1"))
        waiting = asyncio.create_task(budget.reserve("a", USD("1")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        budget.release(first)
        await budget.reserve("a", USD("1"))
        assert budget.reserved_usd == 1

    asyncio.run(run())


def test_a_wait_cancelled_after_it_was_granted_gives_the_money_back():
    async def run():
        budget = Budget(night_usd=USD("1"))
        first = await budget.reserve("a", USD("1"))
        waiting = [asyncio.create_task(budget.reserve(key, USD("1"))) for key in "bc"]
        await asyncio.sleep(0)
        budget.release(first)
        waiting[0].cancel()
        assert (await waiting[1]).llm_key == "c"
        assert budget.reserved_usd == 1

    asyncio.run(run())


def test_threads_with_their_own_event_loops_share_a_budget():
    budget = Budget(night_usd=USD("1"))

    async def calls(llm_key):
        for _ in range(100):
            reservation = await budget.reserve(llm_key, USD("0.4"))
            await asyncio.sleep(0)
            budget.settle(reservation, USD("0.001"))

    threads = [threading.Thread(target=lambda key=str(n): asyncio.run(calls(key))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (budget.spent_usd, budget.reserved_usd) == (USD("0.4"), 0)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 100), st.booleans()), max_size=40))
def test_spend_never_passes_the_ceiling_when_calls_cost_no_more_than_their_worst_case(calls):
    async def run():
        budget = Budget(night_usd=USD(100))

        async def call(worst, percent, is_answered):
            try:
                reservation = await budget.reserve("a", USD(worst))
            except BudgetExceeded:
                return
            await asyncio.sleep(0)
            assert budget.spent_usd + budget.reserved_usd <= 100
            if is_answered:
                budget.settle(reservation, USD(worst) * percent / 100)
            else:
                budget.release(reservation)

        await asyncio.gather(*(call(*one) for one in calls))
        assert budget.spent_usd <= 100
        assert budget.reserved_usd == 0

    asyncio.run(run())


def test_what_other_processes_spend_counts_against_the_night_and_not_against_the_llm():
    budget = Budget(llm_usd=USD("0.5"), night_usd=USD(1), already_spent={"a": USD("0.1")})
    budget.note_elsewhere(settled_usd=USD("0.6"), reserved_usd=USD(0))
    budget.release(reserve(budget, "a", "0.3"))
    with pytest.raises(BudgetExceeded, match="per night"):
        reserve(budget, "a", "0.4")
    assert budget.spent_on("a") == USD("0.1")


def test_a_call_waits_for_what_other_processes_have_only_reserved():
    async def waiting():
        budget = Budget(night_usd=USD(1))
        budget.note_elsewhere(settled_usd=USD("0.2"), reserved_usd=USD("0.7"))
        asked = asyncio.create_task(budget.reserve("a", USD("0.5")))
        await asyncio.sleep(0)
        assert budget.is_waited_for and not asked.done()
        budget.note_elsewhere(settled_usd=USD("0.3"), reserved_usd=USD(0))
        budget.settle(await asked, USD("0.4"))
        refused = asyncio.create_task(budget.reserve("a", USD("0.5")))
        with pytest.raises(BudgetExceeded, match="per night"):
            await refused

    asyncio.run(asyncio.wait_for(waiting(), 10))


def test_a_call_is_not_sent_on_top_of_calls_that_cost_more_than_was_set_aside():
    budget = Budget(llm_usd=USD(2), night_usd=USD(3))
    first, second, other = (reserve(budget, key, "1") for key in ("a", "a", "b"))
    assert budget.may_send(first) and budget.may_send(first), "a repeated attempt is no second call"
    budget.settle(first, USD("1.5"))
    assert not budget.may_send(second), "1.5 USD and 1 USD are more than one LLM may cost"
    assert budget.may_send(other), "the other LLM has its own ceiling"
    budget.release(second)
    with pytest.raises(BudgetExceeded, match="per llm"):
        reserve(budget, "a", "1")


def test_calls_that_are_sent_count_against_the_night_before_they_are_settled():
    budget = Budget(night_usd=USD(3))
    first, second, third = (reserve(budget, key, "1") for key in "abc")
    assert budget.may_send(first)
    budget.settle(first, USD("1.5"))
    assert budget.may_send(second)
    assert not budget.may_send(third)
    budget.settle(second, USD("0.1"))
    assert budget.may_send(third)


def test_what_attempts_without_an_answer_cost_counts_before_their_call_is_settled():
    budget = Budget(night_usd=USD(4))
    first, second = (reserve(budget, key, "1") for key in "ab")
    assert budget.may_send(first)
    assert budget.may_send(first, USD("1.5")), "asked again, after reasoning of 1.5 USD without an answer"
    assert budget.may_send(second)
    assert not budget.may_send(second, USD("0.6")), "1.5 + 1 and 0.6 + 1 USD are more than a night may cost"

    async def waiting():
        third = asyncio.create_task(budget.reserve("c", USD("0.6")))
        await asyncio.sleep(0)
        assert budget.is_waited_for, "it would be refused when it is sent"
        budget.settle(first, USD("1.6"))
        return await third

    assert budget.may_send(asyncio.run(asyncio.wait_for(waiting(), 10)))
