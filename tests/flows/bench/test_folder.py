"""Which outcome folders are measured, what of them is left out, and what is refused by name."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.bench.folder import read_folder
from flows.errors import PrerequisiteError
from tests.flows.bench.synthetic import rewrite, write_folder
from tests.properties import examples

FILES = ("prompts", "outcomes", "models")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """100 prompts p0 to p99 and three LLMs; the answer of both-0 costs four millionths, the others' one."""
    return write_folder(tmp_path / "topics", n=100, of_a_kind=1)


def refusal(folder: Path) -> str:
    with pytest.raises(PrerequisiteError) as caught:
        read_folder(folder)
    assert caught.value.unchanged == "Nothing was measured."
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message


def where(table: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    """Put a value that may be of another type than its column."""
    changed = table.copy()
    changed[column] = changed[column].astype(object)
    changed.loc[row, column] = value
    return changed


def assert_same(one: Path, other: Path) -> None:
    a, b = read_folder(one), read_folder(other)
    assert (a.llms, a.prompts, a.left_out, a.n_dropped) == (b.llms, b.prompts, b.left_out, b.n_dropped)
    assert np.array_equal(a.scores, b.scores) and np.array_equal(a.costs_usd, b.costs_usd)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("outcomes", lambda t: t.astype({"prompt_id": "category", "model": "category"})),
        ("outcomes", lambda t: t.sample(frac=1, random_state=3)),
        ("outcomes", lambda t: t.set_index(["prompt_id", "model"])),
        ("outcomes", lambda t: t.astype({"score": "bool"})),
        ("outcomes", lambda t: t.astype({"score": "float32", "output_tokens": "Int16"})),
        ("outcomes", lambda t: t.assign(pred="A", latency_s=np.nan, more=[[1, 2]] * len(t))),
        ("models", lambda t: t.assign(released=None).iloc[::-1]),
        ("models", lambda t: t.astype({"usd_per_1m_input": "int64"})),
        ("prompts", lambda t: t.assign(category=None, reference=np.nan, grader="")),
        ("prompts", lambda t: t.set_index("prompt_id")),
    ],
)
def test_the_same_content_in_another_form_is_the_same(folder, tmp_path, name, change):
    assert_same(rewrite(folder, name, change), write_folder(tmp_path / "as-it-was", n=100, of_a_kind=1))


def test_numbers_as_ids_in_one_table_are_texts_in_the_other(folder):
    rewrite(folder, "prompts", lambda t: t.assign(prompt_id=range(100)))
    rewrite(folder, "outcomes", lambda t: t.assign(prompt_id=[one[1:] for one in t["prompt_id"]]))
    assert [prompt.prompt_id for prompt in read_folder(folder).prompts[:3]] == ["0", "1", "2"]


def test_ids_and_names_of_any_script_and_categories_that_some_prompts_lack(folder):
    names = {"both-0": "モデル “甲”/1", "first-0": "b\u202ea", "second-0": "c d"}
    rewrite(folder, "prompts", lambda t: t.assign(prompt_id="вопрос " + t["prompt_id"], category=["🏛", None] * 50))
    rewrite(folder, "outcomes", lambda t: t.assign(prompt_id="вопрос " + t["prompt_id"], model=t["model"].map(names)))
    rewrite(folder, "models", lambda t: t.assign(model=t["model"].map(names)))
    found = read_folder(folder)
    assert found.llms == tuple(sorted(names.values()))
    assert [prompt.category for prompt in found.prompts[:2]] == ["🏛", None]
    assert found.prompts[1].prompt_id == "вопрос p1"


def test_scores_between_right_and_wrong_are_kept(folder):
    rewrite(folder, "outcomes", lambda t: t.assign(score=np.linspace(0, 1, len(t))))
    assert read_folder(folder).scores.T.ravel() == pytest.approx(np.linspace(0, 1, 300))


def test_llms_that_cannot_be_measured_are_left_out_and_named(folder):
    # Of 100 prompts, second-0 lacks four; 97 are enough, so first-0 may lack three.
    rewrite(
        folder, "outcomes", lambda t: t[~((t["model"] == "second-0") & t["prompt_id"].isin(["p1", "p2", "p3", "p4"]))]
    )
    rewrite(folder, "outcomes", lambda t: t[~((t["model"] == "first-0") & t["prompt_id"].isin(["p5", "p6", "p7"]))])
    unknown = pd.DataFrame({"model": ["silent"], "usd_per_1m_input": [1.0], "usd_per_1m_output": [1.0]})
    rewrite(folder, "models", lambda t: pd.concat([t, unknown]))
    found = read_folder(folder)
    assert found.llms == ("both-0", "first-0")
    assert found.left_out == (
        ("second-0", "answered 96.0% of the prompts, 97% are needed"),
        ("silent", "no outcome"),
    )
    # What second-0 lacks is no loss, for it is out.
    assert (found.n_dropped, len(found.prompts)) == (3, 97)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t[t["model"] != "both-0"], "no price"),
        (lambda t: t.assign(usd_per_1m_output=t["usd_per_1m_output"].where(t["model"] != "both-0")), "no price"),
        (
            lambda t: t.assign(usd_per_1m_output=t["usd_per_1m_output"] * (t["model"] != "both-0")),
            "both prices are zero",
        ),
    ],
)
def test_an_llm_without_a_price_is_left_out_and_named(folder, change, reason):
    found = read_folder(rewrite(folder, "models", change))
    assert found.llms == ("first-0", "second-0")
    assert found.left_out == (("both-0", reason),)


def test_recorded_costs_are_taken_as_they_are_and_need_no_price(folder):
    costs_usd = np.arange(300) / 1e4
    rewrite(folder, "outcomes", lambda t: t.assign(cost_usd=costs_usd))
    found = read_folder(rewrite(folder, "models", lambda t: t.assign(usd_per_1m_output=[None, 0.0, 1.0])))
    assert np.array_equal(found.costs_usd, costs_usd.reshape(3, 100).T)
    assert (found.cost_note, found.left_out) == ("the recorded cost_usd", ())


def test_answers_without_a_recorded_cost_cost_their_tokens(folder):
    costs_usd = pd.Series([None] * 5 + [0.5] * 195 + [None] * 100, dtype=object)
    found = read_folder(rewrite(folder, "outcomes", lambda t: t.assign(cost_usd=costs_usd)))
    expected = np.tile([0.5, 0.5, 1e-6], (100, 1))
    expected[:5, 0] = 4e-6
    np.testing.assert_allclose(found.costs_usd, expected)
    assert found.cost_note == "the recorded cost_usd, and for 105 of 300 answers recorded tokens times prices"


def test_an_llm_of_which_some_costs_are_missing_still_needs_a_price(folder):
    rewrite(folder, "outcomes", lambda t: t.assign(cost_usd=np.where(np.arange(300) == 7, np.nan, 0.5)))
    found = read_folder(rewrite(folder, "models", lambda t: t.assign(usd_per_1m_output=np.nan)))
    assert found.left_out == (("both-0", "no price"),)
    assert np.isfinite(found.costs_usd).all()


def test_recorded_costs_of_nothing_but_zeros_are_no_costs(folder):
    zeros = np.where(np.arange(300) < 200, 0.0, 0.5)
    found = read_folder(rewrite(folder, "outcomes", lambda t: t.assign(cost_usd=zeros)))
    np.testing.assert_allclose(found.costs_usd[0], [4e-6, 1e-6, 0.5])
    # One zero among others is a cost: an answer from a cache.
    rewrite(folder, "outcomes", lambda t: t.assign(cost_usd=np.where(np.arange(300) == 3, 0.0, 0.5)))
    assert read_folder(folder).costs_usd[3, 0] == 0.0


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_prompts_without_a_text_are_left_out_and_counted(folder, text):
    found = read_folder(rewrite(folder, "prompts", lambda t: where(t, 4, "text", text)))
    assert (len(found.prompts), found.n_without_text, found.n_dropped) == (99, 1, 0)


def test_duplicated_prompts_under_their_own_ids_are_kept(folder):
    assert len(read_folder(rewrite(folder, "prompts", lambda t: t.assign(text="the same"))).prompts) == 100


@pytest.mark.parametrize("lacking", [["output_tokens"], ["output_tokens", "input_tokens"]])
@pytest.mark.parametrize("as_nulls", [False, True])
def test_without_output_tokens_the_cost_is_the_mean_of_the_two_prices(folder, lacking, as_nulls):
    rewrite(folder, "outcomes", lambda t: t.assign(**dict.fromkeys(lacking)) if as_nulls else t.drop(columns=lacking))
    found = read_folder(folder)
    # Input is free, output costs 4 or 1 USD per million.
    np.testing.assert_allclose(found.costs_usd, np.tile([2e-6, 0.5e-6, 0.5e-6], (100, 1)))
    assert found.cost_note == "the mean of the two prices (no output tokens are recorded)"


def test_a_missing_count_is_replaced_by_the_mean_of_the_llm(folder):
    counts = np.where(np.arange(300) % 100 == 7, np.nan, np.arange(300) % 2 * 2.0)
    found = read_folder(rewrite(folder, "outcomes", lambda t: t.assign(output_tokens=counts)))
    # 49 of the 99 others are two, the rest none.
    assert found.costs_usd[7, 0] == pytest.approx(4e-6 * 98 / 99)
    assert found.costs_usd[9, 0] == pytest.approx(8e-6)


@pytest.mark.parametrize(
    ("known", "tokens", "note"),
    [
        ([30.0] * 100, [30.0, 30.0], "recorded tokens times prices"),
        ([30.0] + [None] * 99, [30.0, 2.25], "recorded output tokens and input tokens estimated from the texts"),
        (None, [2.25, 2.25], "recorded output tokens and input tokens estimated from the texts"),
    ],
)
def test_input_tokens_come_from_the_prompts_or_their_texts_where_outcomes_have_none(folder, known, tokens, note):
    rewrite(folder, "outcomes", lambda t: t.drop(columns="input_tokens"))
    rewrite(folder, "models", lambda t: t.assign(usd_per_1m_input=10.0))
    if known is not None:
        rewrite(folder, "prompts", lambda t: t.assign(input_tokens=known))
    found = read_folder(folder)
    # "prompt p0" has nine bytes.
    assert found.costs_usd[:2, 0] == pytest.approx([10e-6 * count + 4e-6 for count in tokens])
    assert found.cost_note.startswith(note)


def test_a_folder_that_is_not_there(tmp_path):
    assert "nowhere is not a folder" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(folder, name):
    (folder / f"{name}.parquet").unlink()
    assert refusal(folder).endswith(f"{name}.parquet cannot be read: there is no such file.")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"prompt_id,text\n1,a\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_not_parquet(folder, name, content):
    (folder / f"{name}.parquet").write_bytes(content)
    assert f"{name}.parquet cannot be read" in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_table_without_rows(folder, name):
    assert refusal(rewrite(folder, name, lambda t: t[:0])).endswith(f"{name}.parquet has no rows.")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("prompts", "prompt_id"),
        ("prompts", "text"),
        ("outcomes", "prompt_id"),
        ("outcomes", "model"),
        ("outcomes", "score"),
        ("models", "model"),
        ("models", "usd_per_1m_input"),
        ("models", "usd_per_1m_output"),
    ],
)
def test_a_missing_column(folder, name, column):
    message = refusal(rewrite(folder, name, lambda t: t.drop(columns=column)))
    assert message.endswith(f"{name}.parquet has no column {column}.")


def column_with(bad: object, at: int, n: int) -> list[object]:
    """A column of one type, as Parquet has them: all are texts where the bad one is."""
    return [bad if row == at else "1" if isinstance(bad, str) else 1.0 for row in range(n)]


@examples(25)
@given(
    row=st.integers(0, 299),
    bad=st.sampled_from([np.nan, np.inf, -np.inf, None, "right", "", "1.5"])
    | st.floats(allow_nan=False).filter(lambda score: not 0 <= score <= 1),
)
def test_a_score_that_is_not_a_number_in_the_unit_interval_is_refused_by_name(tmp_path_factory, row, bad):
    folder = write_folder(tmp_path_factory.mktemp("score") / "topics", n=100, of_a_kind=1)
    rewrite(folder, "outcomes", lambda t: t.assign(score=column_with(bad, row, 300)))
    llm, prompt_id = ("both-0", "first-0", "second-0")[row // 100], f"p{row % 100}"
    assert f"of {llm!r} on {prompt_id!r} is not a number in [0, 1]" in refusal(folder)


@pytest.mark.parametrize(
    ("bad", "shown"),
    [(np.inf, "inf"), (-np.inf, "-inf"), (-1.0, "-1.0"), (2e9, "2000000000.0"), ("free", "'free'"), ("nan", "'nan'")],
)
@pytest.mark.parametrize("column", ["usd_per_1m_input", "usd_per_1m_output"])
def test_an_invalid_price_is_refused_by_name(folder, bad, shown, column):
    message = refusal(rewrite(folder, "models", lambda t: t.assign(**{column: column_with(bad, 1, 3)})))
    assert message.endswith(f"{column} of 'first-0' in models.parquet is {shown}, not a number in [0, 1e+09].")


@pytest.mark.parametrize("bad", [np.inf, -1.0, 1e13, "many"])
@pytest.mark.parametrize("column", ["input_tokens", "output_tokens", "cost_usd"])
def test_an_invalid_count_or_cost_is_refused_by_name(folder, bad, column):
    message = refusal(rewrite(folder, "outcomes", lambda t: t.assign(**{column: column_with(bad, 9, 300)})))
    assert f"{column} of 'both-0' on 'p9' in outcomes.parquet is" in message


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("prompts", "'p0' appears more than once in prompts.parquet"),
        ("models", "'both-0' appears more than once in models.parquet"),
        ("outcomes", "'both-0' on 'p0' appears more than once in outcomes.parquet"),
    ],
)
def test_duplicates(folder, name, cause):
    assert cause in refusal(rewrite(folder, name, lambda t: pd.concat([t, t[:1]])))


@pytest.mark.parametrize(
    ("name", "column"),
    [("prompts", "prompt_id"), ("outcomes", "prompt_id"), ("outcomes", "model"), ("models", "model")],
)
def test_rows_without_an_id_or_a_name(folder, name, column):
    message = refusal(rewrite(folder, name, lambda t: where(t, 2, column, None)))
    assert f"1 row of {name}.parquet names no {column}" in message


def test_outcomes_of_unknown_prompts(folder):
    message = refusal(rewrite(folder, "prompts", lambda t: t[t["prompt_id"] != "p7"]))
    assert "3 outcomes refer to prompts missing from prompts.parquet; the first is 'p7'" in message


def test_llms_of_outcomes_and_prices_that_do_not_overlap(folder):
    message = refusal(rewrite(folder, "models", lambda t: t.assign(model="other " + t["model"])))
    assert "nothing is left to measure: 0 LLMs with prices and coverage" in message
    assert "'both-0' is left out: no price" in message


def test_facts_of_llms_are_read_where_they_are_and_missing_otherwise(folder: Path) -> None:
    rewrite(
        folder,
        "models",
        lambda t: t.assign(
            released=["2024-05-13", "soon", None][: len(t)],
            parameters_b=["7.5", None, "x"][: len(t)],
            kind=["reasoning", None, "chat"][: len(t)],
        ),
    )
    names = pd.read_parquet(folder / "models.parquet")["model"].tolist()
    found = {one.key: one for one in read_folder(folder).facts}
    assert tuple(found) == read_folder(folder).llms
    first, second, third = (found[name] for name in names)
    assert (first.released_on, first.parameters_b, first.reasons) == (date(2024, 5, 13), 7.5, True)
    for one in (second, third):
        assert (one.released_on, one.parameters_b, one.reasons) == (None, None, False)
    assert first.output_usd_per_mtok is not None
