"""How much an LLM must have answered to be routed to."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.fitting.refit import shortfall
from flows.workspace import Workspace
from registry.errors import PromotionRefused
from tests.fakes.nights import FIRST, SECOND, Clock, answered_home, run_night, settings_of

CLUSTERS = np.repeat(np.arange(4), [50, 10, 3, 2])


def lack(
    *missing: int, profile_share: float = 1.0, min_coverage: float = 0.9, min_answers: int = 1, floors: bool = True
) -> str:
    """Return what is lacking when the prompts at these positions have no score."""
    has_score = np.ones(len(CLUSTERS), dtype=bool)
    has_score[list(missing)] = False
    return shortfall(
        has_score,
        CLUSTERS if floors else None,
        profile_share=profile_share,
        min_coverage=min_coverage,
        min_answers=min_answers,
    )


def test_an_llm_that_answered_everything_lacks_nothing():
    assert lack() == ""


def test_a_share_of_all_prompts_is_required_including_gate_and_hidden_ones():
    assert lack(profile_share=0.89) == "only 89% of its prompts have a score"
    assert lack(profile_share=0.5) == "only 50% of its prompts have a score"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((50, 51), ""),
        ((50, 51, 52), "only 7 of the 10 prompts of cluster 1 have a score"),
        ((60,), "only 2 of the 3 prompts of cluster 2 have a score"),
        ((50, 51, 52, 60), "only 2 of the 3 prompts of cluster 2 have a score"),
        ((63, 64), ""),
    ],
)
def test_four_fifths_and_three_answers_are_required_in_every_cluster_that_has_three_prompts(missing, expected):
    assert lack(*missing) == expected


def test_clusters_are_held_to_the_prompts_that_the_llm_was_asked():
    asked = np.arange(len(CLUSTERS)) % 5 == 0
    clusters, settings = np.where(asked, CLUSTERS, -1), {"profile_share": 1.0, "min_coverage": 0.9, "min_answers": 1}
    assert shortfall(asked, clusters, **settings) == ""
    assert "of cluster 0" in shortfall(asked & (np.arange(len(CLUSTERS)) > 14), clusters, **settings)


def test_a_cluster_is_not_held_to_more_than_the_whole():
    assert lack(50, 51, 52, min_coverage=0.6) == ""


def test_an_estimator_without_floors_needs_some_answers_in_all_and_none_in_any_cluster():
    assert lack(50, 51, 52, 60, floors=False) == ""
    assert lack(*range(60), min_answers=5, floors=False) == ""
    expected = "only 5 of the 6 answers that it needs ([routing] min_answers)"
    assert lack(*range(60), min_answers=6, floors=False) == expected
    assert lack(min_answers=1000, floors=False) == "", "where there are fewer prompts, all of them are enough"


@given(st.lists(st.booleans(), min_size=len(CLUSTERS), max_size=len(CLUSTERS)), st.floats(0, 1))
def test_one_more_answer_never_makes_an_llm_lack_more(scored, min_coverage):
    fewer = np.array(scored)
    more = fewer.copy()
    more[int(np.argmin(more))] = True
    settings = {"profile_share": 1.0, "min_coverage": min_coverage, "min_answers": 3}
    assert not shortfall(more, CLUSTERS, **settings) or shortfall(fewer, CLUSTERS, **settings)


def test_llms_of_an_endpoint_that_is_configured_no_more_are_left_out_and_said_to_be(
    tmp_path: Path, migrated: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    with answered_home(tmp_path / "home", migrated, template) as workspace:
        run_night(workspace, FIRST, ("weak", "fair"), clock)
    config = tmp_path / "uniroute.toml"
    config.write_text(config.read_text().replace('"fake"', '"other"'))
    # The champion's LLMs have no answers that count any more, so there is nothing to compare with.
    nothing_to_compare = pytest.raises(PromotionRefused, match="none of the champion's LLMs has a score")
    with Workspace(settings_of(tmp_path / "home")) as workspace, nothing_to_compare as refused:
        run_night(workspace, SECOND, ("good", "late"), clock, endpoint="other")
    assert "UNIROUTE_HOME" in refused.value.hint
    assert "2 LLMs of endpoint fake left out: no [[endpoint]] has that name." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("n_scored", "n_prompts", "enough"), [(25, 60, True), (24, 60, False), (9, 9, True), (8, 9, False)]
)
def test_an_llm_needs_answers_of_its_own_or_all_there_are(n_scored: int, n_prompts: int, enough: bool) -> None:
    has_score = np.arange(n_prompts) < n_scored
    lack = shortfall(has_score, None, profile_share=1.0, min_coverage=0.95, min_answers=25)
    wanted = min(25, n_prompts)
    assert lack == ("" if enough else f"only {n_scored} of the {wanted} answers that it needs ([routing] min_answers)")
