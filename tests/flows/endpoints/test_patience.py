"""Back-off and the gate."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from flows.endpoints import Patience
from flows.endpoints.patience import Gate


@given(st.integers(min_value=1, max_value=10_000), st.none() | st.floats(min_value=0, max_value=1e9), st.integers())
def test_a_wait_is_at_least_what_was_asked_for_and_never_beyond_the_caps(attempts, retry_after_s, seed):
    patience = Patience()
    wait_s = patience.wait_s(attempts, retry_after_s, random.Random(seed))
    asked_s = retry_after_s or 0.0
    if asked_s > patience.longest_retry_after_s:
        assert wait_s is None
    else:
        assert asked_s <= wait_s <= asked_s + patience.longest_backoff_s


def test_waits_grow_with_attempts_and_spread():
    waits = [[Patience().wait_s(n, None, random.Random(seed)) for seed in range(200)] for n in (1, 4)]
    assert max(waits[0]) <= 0.5 < max(waits[1]) <= 4.0
    assert len(set(waits[1])) == 200


@given(st.integers(min_value=1, max_value=20), st.lists(st.booleans(), max_size=60))
def test_a_gate_never_lets_more_through_than_its_limit_and_recovers_its_width(width, refusals):
    async def run():
        gate = Gate(width)
        inside = 0

        async def call(is_refused):
            nonlocal inside
            async with gate:
                inside += 1
                assert inside <= width
                await asyncio.sleep(0)
                inside -= 1
                if is_refused:
                    gate.narrow()
                else:
                    gate.widen()
                assert 1 <= gate.limit <= width

        await asyncio.gather(*(call(is_refused) for is_refused in refusals))
        for _ in range(width * width):
            await call(False)
        assert gate.limit == width
        assert gate._permits._value == width

    asyncio.run(run())
