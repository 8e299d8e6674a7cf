"""The certainty stated with a router version."""

from dataclasses import replace

from flows.promotion.publication import certainty
from tests.routing.synthetic import flat_llm, flat_router


def test_a_version_says_the_middle_and_the_largest_standard_error_of_its_llms_and_clusters() -> None:
    first, second = flat_llm("a", [0.5, 0.25], 1.0), flat_llm("b", [0.5, 0.5], 2.0)
    llms = [
        replace(llm, vector=replace(llm.vector, standard_errors=errors))
        for llm, errors in ((first, [0.01, 0.02]), (second, [0.04, 0.125]))
    ]
    assert certainty(flat_router(llms)) == "- Expected errors per LLM and cluster: standard error 0.030, at most 0.125."
