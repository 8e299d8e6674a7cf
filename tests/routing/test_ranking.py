import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from routing.ranking import Ranking, Tables


@given(
    hnp.arrays(np.int64, (2, 5), elements=st.integers(0, 3)),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.sampled_from([0.0, 1.0]),
)
def test_first_and_runner_up_follow_the_rule_with_any_ties(tenths, prices, cost_weight):
    errors, costs = tenths / 10, np.tile(np.array(prices) / 10, (2, 1))
    ranking = Ranking(Tables(errors, costs, np.zeros((2, 5))), cost_weight, range(5))
    weights = np.array([0.25, 0.75])
    objective = (weights @ errors + cost_weight * (weights @ costs)).round(9)
    order = sorted(range(5), key=lambda llm: (objective[llm], (weights @ costs)[llm].round(9), llm))
    assert ranking.first_two(weights) == tuple(order[:2])
