"""The benchmark of refits tells a prior that knows newer LLMs from one that does not."""

import numpy as np

from tests.bench.releases import WAYS, Releases, measured, report, sign_test


def synthetic() -> Releases:
    """Return two topics and twelve LLMs, of which the later ones are each good at one topic."""
    rng = np.random.default_rng(0)
    topic = np.arange(300) % 2
    rows = np.eye(4)[topic] + rng.normal(0, 0.1, (300, 4))
    skill = np.full((2, 12), 0.5)
    skill[0, 4:], skill[1, 4:] = np.tile([0.9, 0.1], 4), np.tile([0.1, 0.9], 4)
    scores = (rng.random((300, 12)) < skill[topic]).astype(float)
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    costs_usd = np.tile(np.linspace(1, 2, 12), (300, 1))
    return Releases(unit, tuple(map(str, range(300))), scores, costs_usd, tuple(map(str, range(12))))


def test_areas_along_the_sequence_are_those_of_every_way() -> None:
    releases = synthetic()
    assert [len(one) for one in releases.arrivals] == [4, 2, 2, 1, 1, 1, 1]
    found = measured(releases, splits=1, n_val=30)
    assert list(found) == [8, 9, 10, 11, 12]
    assert all(set(areas) == set(WAYS) and 0 < areas["frozen"][0] <= 1 for areas in found.values())
    # Only this prior knows that LLMs differ by topic, which the founding LLMs did not show.
    gained = np.mean([areas["asked"][0] - areas["frozen"][0] for areas in found.values()])
    assert gained > 0.02
    assert len(report(found).splitlines()) == 7


def test_ties_say_nothing() -> None:
    assert sign_test(np.array([0.0, 0.0])) == 1
    assert sign_test(np.array([1.0] * 10)) == 2 / 1024
