"""What `uniroute bench --speed` prints; the figures themselves depend on the machine."""

import numpy as np
import pytest

from flows.bench import speed


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in {"_PROMPTS": 400, "_LLMS": 3, "_REPEATS": 1, "_DIM": 32, "_CLUSTERS": 8}.items():
        monkeypatch.setattr(speed, name, value)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_bare_loop_decides_as_the_router_does_when_costs_are_alike(rng):
    rows = speed._unit(rng.normal(size=(200, speed._DIM)))
    for kind, router in speed._routers(rng):
        bare = speed._bare(router)(rows)
        free = router.route(rows, cost_weight=0)
        assert np.mean(bare == free.llm_index) > 0.99, kind


def test_every_line_says_what_was_measured_and_its_target(rng):
    rows = speed._unit(rng.normal(size=(400, speed._DIM)))
    (hard, soft, posterior) = speed._routers(rng)
    found = [speed._batch(rows, soft[1], soft[0]), speed._single(rows, posterior[1], posterior[0], 150.0)]
    found.append(speed._single(rows, hard[1], hard[0], None))
    text = speed.speed_table(found)
    assert "ratio to bare numpy" in text
    assert "ratio at most 1.3" in text
    assert text.count("30 microseconds") == 2
    assert "and its own input tokens" in text
