"""Back-off, circuits and the limiter of concurrency."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from flows.endpoints import RetryPolicy
from flows.endpoints.retry_policy import Circuits, ConcurrencyLimiter


@given(st.integers(min_value=1, max_value=10_000), st.none() | st.floats(min_value=0, max_value=1e9), st.integers())
def test_a_wait_is_at_least_what_was_asked_for_and_never_beyond_the_caps(attempts, retry_after_s, seed):
    retry_policy = RetryPolicy()
    wait_s = retry_policy.wait_s(attempts, retry_after_s, random.Random(seed))
    asked_s = retry_after_s or 0.0
    if asked_s > retry_policy.longest_retry_after_s:
        assert wait_s is None
    else:
        assert asked_s <= wait_s <= asked_s + retry_policy.longest_backoff_s


def test_waits_grow_with_attempts_and_are_spread_out():
    waits = [[RetryPolicy().wait_s(n, None, random.Random(seed)) for seed in range(200)] for n in (1, 4)]
    assert max(waits[0]) <= 0.5 < max(waits[1]) <= 4.0
    assert len(set(waits[1])) == 200


@given(st.integers(min_value=1, max_value=20), st.lists(st.booleans(), max_size=60))
def test_a_limiter_never_lets_more_through_than_its_limit_and_recovers_its_width(width, refusals):
    async def run():
        limiter = ConcurrencyLimiter(width)
        inside = 0

        async def call(is_refused):
            nonlocal inside
            async with limiter:
                inside += 1
                assert inside <= width
                await asyncio.sleep(0)
                inside -= 1
                if is_refused:
                    limiter.narrow()
                else:
                    limiter.widen()
                assert 1 <= limiter.limit <= width

        await asyncio.gather(*(call(is_refused) for is_refused in refusals))
        for _ in range(width * width):
            await call(False)
        assert limiter.limit == width
        assert limiter._permits._value == width

    asyncio.run(run())


def refused(limiter, n):
    for _ in range(n):
        limiter.narrow()


def answered(limiter, n):
    for _ in range(n):
        limiter.widen()


def test_one_refusal_among_many_answers_leaves_a_wide_limiter_wide():
    limiter = ConcurrencyLimiter(64)
    for _ in range(50):
        refused(limiter, 1)
        answered(limiter, 19)
    assert limiter.limit >= 63


def test_a_round_trip_of_refusals_halves_the_limit_and_it_is_wide_again_after_some_hundred_answers():
    limiter = ConcurrencyLimiter(64)
    refused(limiter, 64)
    assert limiter.limit == 32
    refused(limiter, 1000)
    assert limiter.limit == 1
    answered(limiter, 1000)
    assert limiter.limit == 64


def test_an_endpoint_that_refuses_most_calls_is_asked_few_at_a_time():
    limiter = ConcurrencyLimiter(64)
    for _ in range(200):
        refused(limiter, 3)
        answered(limiter, 1)
    assert limiter.limit <= 2


def test_the_calls_of_an_llm_wait_as_long_as_the_endpoint_asks_and_those_of_others_do_not():
    circuits = Circuits(RetryPolicy(longest_retry_after_s=60))
    circuits.failed("busy", "rate_limited", 100.0, retry_after_s=5.0)
    assert circuits.refusal("busy", 102.0).wait_s == 3.0
    assert circuits.refusal("free", 102.0) is None
    assert circuits.refusal("busy", 105.0) is None
    circuits.failed("busy", "rate_limited", 105.0, retry_after_s=3600.0)
    assert circuits.refusal("busy", 106.0) is None, "no call waits an hour: it fails, and the next one is sent"


def test_patience_counts_refusals_in_a_row_and_no_time_in_which_an_llm_was_not_asked():
    circuits = Circuits(RetryPolicy(), llm_patience_s=300.0)
    circuits.failed("a", "rate_limited", 0.0)
    circuits.failed("a", "rate_limited", 3600.0)
    assert circuits.refusal("a", 3600.0) is None and circuits.patience_left_s("a", 3600.0) == 300.0
    for now_s in range(3630, 3960, 30):
        circuits.failed("a", "rate_limited", float(now_s), 30.0)
    assert circuits.refusal("a", 4000.0).kind == "rate_limited" and circuits.refusal("a", 4000.0).wait_s == 0.0
    assert circuits.refusal("b", 4000.0) is None
    circuits.answered("a")
    assert circuits.refusal("a", 4000.0) is None, "a call in flight was answered after all"


def test_other_failures_are_no_refusals():
    circuits = Circuits(RetryPolicy(failures_to_open=99), llm_patience_s=1.0)
    for now_s in range(9):
        circuits.failed("a", "transient", float(now_s))
    assert circuits.refusal("a", 9.0) is None and circuits.patience_left_s("a", 9.0) is None
