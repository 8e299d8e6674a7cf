"""What a benchmark says about its figures, checked against numbers worked out by hand."""

import json

import pytest

from flows.bench.folder import OutcomeFolder
from flows.bench.report import COST_GRID, BenchResult, MethodTrials, as_json, as_text, study_as_json, study_as_text


def method(
    name: str, area: list[float], *, qnc: list[float] | None = None, reached: list[bool] | None = None
) -> MethodTrials:
    n = len(area)
    return MethodTrials(
        name=name,
        area=tuple(area),
        qnc=tuple(qnc or [0.5] * n),
        qnc_vs_best=tuple([0.75] * n),
        peak=tuple([0.9] * n),
        aiq=tuple([0.8] * n),
        reached=tuple(reached or [True] * n),
        curve=tuple(COST_GRID),
    )


def result(*methods: MethodTrials, n_val: int = 100) -> BenchResult:
    return BenchResult("data", len(methods[0].area), n_val, 9, 1000, methods)


BLIND = method("zero_router", [0.50, 0.52, 0.54, 0.56])
OURS = method("posterior", [0.60, 0.62, 0.64, 0.54], qnc=[0.2, 0.4, 1.0, 0.4], reached=[True, True, False, True])
ABOVE = method("clairvoyant", [0.60, 0.66, 0.66, 0.68])
WHOLE = result(BLIND, OURS, ABOVE)
FOLDER = OutcomeFolder("data", (), (), None, None, "recorded tokens times prices", (), 0)


def test_the_share_of_the_way_is_taken_between_means() -> None:
    # Means 0.53, 0.60 and 0.65: 0.07 of 0.12.
    assert WHOLE.share_of_clairvoyant() == pytest.approx(7 / 12)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_without_one_of_the_three_methods_there_is_no_share(missing) -> None:
    kept = [one for place, one in enumerate((BLIND, OURS, ABOVE)) if place != missing]
    assert result(*kept).share_of_clairvoyant() is None
    assert json.loads(as_json(result(*kept)))["share_of_clairvoyant"] is None


def test_with_equal_base_and_ceiling_there_is_no_share() -> None:
    same = method("clairvoyant", list(BLIND.area))
    assert result(BLIND, OURS, same).share_of_clairvoyant() is None


def test_the_sign_test_counts_trials_and_leaves_ties_out() -> None:
    # Against ZeroRouter three of four: P(3 or more, or 1 or fewer, of 4) = 10 / 16.
    found = WHOLE.sign_test("zero_router")
    assert (found.wins, found.losses, found.p) == (3, 1, pytest.approx(10 / 16))
    # Against clairvoyant one tie and three losses: 2 / 8.
    found = WHOLE.sign_test("clairvoyant")
    assert (found.wins, found.losses, found.p) == (0, 3, pytest.approx(0.25))
    ten = result(method("posterior", [0.5] * 10), method("knn", [0.4] * 10)).sign_test("knn")
    assert (ten.wins, ten.losses, ten.p) == (10, 0, pytest.approx(2 / 1024))
    assert result(OURS, method("knn", list(OURS.area))).sign_test("knn").p == 1.0
    assert WHOLE.sign_test("posterior") is None
    assert WHOLE.sign_test("knn") is None


def test_the_json_has_these_keys_and_numbers_and_no_others() -> None:
    found = json.loads(as_json(WHOLE), parse_constant=pytest.fail)
    assert found.pop("methods")["posterior"] == {
        "area": {"mean": pytest.approx(0.6), "sd": pytest.approx(0.0432049), "per_trial": [0.60, 0.62, 0.64, 0.54]},
        "qnc": {"mean": pytest.approx(0.5), "sd": pytest.approx(0.3464102), "per_trial": [0.2, 0.4, 1.0, 0.4]},
        "qnc_vs_best": {"mean": 0.75, "sd": 0.0, "per_trial": [0.75] * 4},
        "peak": {"mean": pytest.approx(0.9), "sd": pytest.approx(0.0), "per_trial": [0.9] * 4},
        "reach_rate": 0.75,
    }
    assert found == {
        "data": "data",
        "trials": 4,
        "n_val": 100,
        "n_llms": 9,
        "n_prompts": 1000,
        "share_of_clairvoyant": pytest.approx(7 / 12),
        "sign_test": {
            "zero_router": {"wins": 3, "losses": 1, "p": pytest.approx(0.625)},
            "clairvoyant": {"wins": 0, "losses": 3, "p": pytest.approx(0.25)},
        },
    }


def test_the_table_has_the_largest_area_first_and_says_what_it_shows() -> None:
    lines = as_text(WHOLE, FOLDER).splitlines()
    assert lines[0] == (
        "data: 9 LLMs x 1,000 prompts, 4 trials, 100 representative prompts; cost is recorded tokens times prices"
    )
    assert [line.split()[0] for line in lines[3:6]] == ["clairvoyant", "posterior", "zero_router"]
    assert all(figure in lines[4] for figure in ("0.6000 ± 0.0432", "0.8000 ± 0.0000", "75%"))
    assert lines[5].endswith("3:1 p=0.6")
    assert lines[-1] == "posterior goes 58.3% of the way from zero_router to clairvoyant."


def test_the_study_gives_every_count_of_representative_prompts_in_the_same_shape() -> None:
    results = [result(BLIND, OURS, n_val=count) for count in (50, 1000)]
    assert [found["n_val"] for found in json.loads(study_as_json(results))] == [50, 1000]
    assert json.loads(study_as_json(results))[0] == json.loads(as_json(results[0]))
    table = study_as_text(results)
    assert "N_VAL 50" in table and "N_VAL 1,000" in table
    assert table.count("0.6000 ± 0.0432") == 2
