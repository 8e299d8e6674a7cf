"""How the benchmark of batch routing compares the decisions of its ways; the ways have tests of their own."""

import numpy as np
import pyarrow as pa
import pytest

from tests.bench.batches import Answers, Batches, report


def answers(llms: str, clusters: list[int], score: float = 0.5) -> Answers:
    numbers = {name: np.full(len(llms), score) for name in ("expected_score", "standard_error", "expected_cost_usd")}
    return Answers.of_columns({"llm": list(llms), "cluster": clusters} | numbers)


def test_another_llm_or_another_cluster_is_another_decision() -> None:
    assert answers("abc", [0, 1, 2]).differing(answers("abc", [0, 1, 2])) == 0
    assert answers("abc", [0, 1, 2]).differing(answers("abd", [0, 0, 2])) == 2


def test_a_way_with_fewer_prompts_is_compared_on_these() -> None:
    assert answers("ab", [0, 1]).differing(answers("abc", [0, 1, 2])) == 0
    assert answers("ab", [0, 1], 1.0).largest_difference(answers("abc", [0, 1, 2], 0.75)) == 0.25


def test_rows_of_a_file_count_in_the_order_of_the_prompts() -> None:
    numbers = {name: [0.1, 0.2] for name in ("expected_score", "standard_error", "expected_cost_usd")}
    found = Answers.of_table(pa.table({"id": [1, 0], "llm": ["b", "a"], "cluster": [4, 3]} | numbers))
    assert (found.llms, found.clusters.tolist()) == (("a", "b"), [3, 4])
    assert found.numbers[:, 0] == pytest.approx([0.2, 0.1])


def test_the_report_gives_every_rate_as_a_share_of_the_bare_loops() -> None:
    rates = {"Spark, file to file": 500.0, "bare loop over chunks": 1000.0}
    text = report(Batches(rates, {"Spark, file to file": 3}, {"Spark, file to file": 1e-7}, 6.0, 4.0))
    assert "0.50" in text and "1.00" in text and "6.0 s to start" in text
