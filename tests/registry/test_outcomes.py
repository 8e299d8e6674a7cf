import hashlib
import itertools
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import event, func, select

from registry.db.tables import completion
from registry.db.tables import outcome as outcome_table
from registry.errors import NotFound, RegistryError, RunAlreadyActive
from registry.outcomes import MAX_COMPLETION_BYTES, grader_labels
from routing.errors import InvalidInput
from routing.features import plain_feature_vector
from tests.properties import examples
from tests.registry.samples import GRADERS, NOW, SAMPLING, failed, freeze, know_llms, outcome, start_night

versions = itertools.count(100)


@pytest.fixture
def asked(registry, night):
    """Keys of two LLMs and the prompts they are asked."""
    return know_llms(registry, night, "a", "b"), freeze(registry, 6).prompts


def scores_of(registry, keys, prompts):
    return registry.outcomes.table(keys, prompts, GRADERS, SAMPLING).scores


def test_what_is_recorded_is_no_longer_missing(registry, night, asked):
    (a, _), prompts = asked
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING) == prompts
    assert registry.outcomes.record(night, [outcome(a, one) for one in prompts[1:4]]) == 3
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING) == (prompts[0], *prompts[4:])


def test_another_sampling_or_llm_is_another_outcome(registry, night, asked):
    (a, b), prompts = asked
    registry.outcomes.record(night, [outcome(a, one) for one in prompts])
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING) == ()
    assert registry.outcomes.missing(a, prompts, GRADERS, '{"temperature":1}') == prompts
    assert registry.outcomes.missing(b, prompts, GRADERS, SAMPLING) == prompts


def test_graders_may_be_named_by_label(registry, night, asked):
    (a, _), prompts = asked
    registry.outcomes.record(night, [outcome(a, prompts[0])])
    assert prompts[0] not in registry.outcomes.missing(a, prompts, {"choice": "choice/1"}, SAMPLING)
    assert grader_labels({"choice": "1", "exact": "exact/2"}) == {"choice": "choice/1", "exact": "exact/2"}


def test_a_prompt_whose_grader_has_no_version_is_refused(registry, night, asked):
    (a, _), prompts = asked
    with pytest.raises(InvalidInput, match="no version of the grader 'choice'"):
        registry.outcomes.missing(a, prompts, {"exact": "1"}, SAMPLING)


def test_a_score_is_final(registry, night, asked):
    (a, _), prompts = asked
    registry.outcomes.record(night, [outcome(a, prompts[0], score=0.25, completion="first")])
    later = [outcome(a, prompts[0], score=1.0, completion="second"), failed(a, prompts[0])]
    assert registry.outcomes.record(night, later) == 0
    assert scores_of(registry, [a], prompts[:1])[0, 0] == 0.25
    assert registry.outcomes.completions(a, prompts, GRADERS, SAMPLING) == {prompts[0].digest: "first"}
    assert registry.outcomes.spend(night).calls == 1, "what was not written was not booked"


def test_a_failure_is_replaced_by_a_later_answer(registry, night, asked):
    (a, _), prompts = asked
    assert registry.outcomes.record(night, [failed(a, prompts[0])]) == 1
    assert np.isnan(scores_of(registry, [a], prompts)).all()
    assert registry.outcomes.record(night, [failed(a, prompts[0], failure="timeout")]) == 1
    assert registry.outcomes.record(night, [outcome(a, prompts[0], score=0.0)]) == 1
    assert scores_of(registry, [a], prompts)[0, 0] == 0.0
    with registry._database.read() as unit:
        assert unit.execute(select(func.count()).select_from(outcome_table)).scalar() == 1


def test_of_two_outcomes_of_one_key_the_first_score_counts(registry, night, asked):
    (a, _), prompts = asked
    both = [failed(a, prompts[0]), outcome(a, prompts[0], score=0.5), outcome(a, prompts[0], score=1.0)]
    assert registry.outcomes.record(night, both) == 1
    assert scores_of(registry, [a], prompts)[0, 0] == 0.5


def test_failures_of_this_attempt_wait_for_the_next_night(registry, night, asked):
    (a, _), prompts = asked
    registry.outcomes.record(night, [failed(a, prompts[0]), outcome(a, prompts[1])])
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING, run=night) == prompts[2:]
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING, run=night.id) == prompts[2:]
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING) == (prompts[0], *prompts[2:])
    registry.runs.finish(night, "attention", "one failed", "{}", NOW)
    tomorrow = start_night(registry, "night:2024-09-02:abc")
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING, run=tomorrow) == (prompts[0], *prompts[2:])


def test_a_run_that_starts_again_asks_its_earlier_failures_again(registry, night, asked):
    (a, _), prompts = asked
    registry.outcomes.record(night, [failed(a, prompts[0])])
    registry.runs.finish(night, "failed", "key refused", "{}", NOW)
    again = start_night(registry)
    assert (again.id, again.attempt) == (night.id, 2)
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING, run=again) == prompts


def test_c12_missing_is_not_wrong(registry, night, asked):
    (a, b), prompts = asked
    registry.outcomes.record(night, [outcome(a, prompts[0], score=0.0), failed(a, prompts[1]), outcome(b, prompts[1])])
    table = registry.outcomes.table([b, a], prompts, GRADERS, SAMPLING)
    assert table.llm_keys == (b, a)
    assert table.prompt_digests == tuple(one.digest for one in prompts)
    expected = np.full((6, 2), np.nan)
    expected[0, 1], expected[1, 0] = 0.0, 1.0
    np.testing.assert_array_equal(table.scores, expected)
    assert table.failures.tolist() == [0, 1]
    assert table.input_tokens[0, 1] == 100
    assert np.isnan(table.output_tokens[1, 1])
    assert table.cost_usd[1, 0] == pytest.approx(0.00012, rel=1e-12)


def test_the_table_takes_the_order_and_only_the_prompts_asked_for(registry, night, asked):
    (a, b), prompts = asked
    registry.outcomes.record(night, [outcome(a, one, score=i / 10) for i, one in enumerate(prompts)])
    wanted = [prompts[4], prompts[1].digest, "f" * 64]
    table = registry.outcomes.table([a, b, "router:unknown"], wanted, GRADERS, SAMPLING)
    np.testing.assert_array_equal(table.scores[:, 0], [0.4, 0.1, np.nan])
    assert np.isnan(table.scores[:, 1:]).all()


def test_an_empty_table_has_its_shape(registry):
    table = registry.outcomes.table(["router:x"], [], GRADERS, SAMPLING)
    assert table.scores.shape == (0, 1)
    assert registry.outcomes.table([], [], GRADERS, SAMPLING).scores.shape == (0, 0)


def test_sampling_may_differ_from_llm_to_llm(registry, night, asked):
    (a, b), prompts = asked
    registry.outcomes.record(night, [outcome(a, prompts[0], sampling="s1"), outcome(b, prompts[0], sampling="s2")])
    table = registry.outcomes.table([a, b], prompts[:1], GRADERS, {a: "s1", b: "s2"})
    assert table.scores.tolist() == [[1.0, 1.0]]


def test_coverage_counts_scored_and_failed(registry, night, asked):
    (a, b), prompts = asked
    registry.outcomes.record(night, [outcome(a, one) for one in prompts[:3]] + [failed(a, prompts[3])])
    first, second = registry.outcomes.coverage([a, b], prompts, GRADERS, SAMPLING)
    assert (first.n_prompts, first.n_scored, first.n_failed, first.share) == (6, 3, 1, 0.5)
    assert (second.n_scored, second.n_failed, second.share) == (0, 0, 0.0)
    assert registry.outcomes.coverage([a], (), GRADERS, SAMPLING)[0].share == 0.0


def test_failures_are_counted_by_kind_the_most_frequent_first(registry, night, asked):
    (a, b), prompts = asked
    kinds = ["moderated", "timeout", "moderated", "forbidden"]
    failures = [failed(a, one, failure=kind) for one, kind in zip(prompts[:4], kinds, strict=True)]
    registry.outcomes.record(night, [*failures, outcome(a, prompts[4]), failed(b, prompts[0])])
    found = registry.outcomes.failures(a, GRADERS, SAMPLING)
    assert list(found.items()) == [("moderated", 2), ("forbidden", 1), ("timeout", 1)]
    assert registry.outcomes.failures(a, GRADERS, "another sampling") == {}


def test_spend_is_exact_and_counts_attempts(registry, night, asked):
    (a, b), prompts = asked
    tenth = Decimal("0.1")
    registry.outcomes.record(night, [outcome(a, one, cost_usd=tenth, attempts=2) for one in prompts[:3]])
    registry.outcomes.record(
        night, [outcome(b, prompts[0], cost_usd=Decimal("1e-12")), failed(b, prompts[1], attempts=4)]
    )
    registry.outcomes.record(night, [outcome(b, prompts[2], cost_usd=tenth)], purpose="canary")
    spend = registry.outcomes.spend(night)
    assert spend.total_usd == Decimal("0.400000000001")
    assert spend.calls == 3 * 2 + 1 + 4 + 1
    assert [(one.endpoint, one.calls, one.cost_usd) for one in spend.by_endpoint] == [("router", 12, spend.total_usd)]
    assert spend.by_llm == {a: Decimal("0.3"), b: Decimal("0.100000000001")}
    assert registry.outcomes.spend(night.id) == spend


def test_the_cost_of_a_failure_stays_booked_when_an_answer_replaces_it(registry, night, asked):
    (a, _), prompts = asked
    registry.outcomes.record(night, [failed(a, prompts[0], cost_usd=Decimal("0.5"))])
    registry.outcomes.record(night, [outcome(a, prompts[0], cost_usd=Decimal("0.25"))])
    assert registry.outcomes.spend(night).total_usd == Decimal("0.75")


def test_f98_what_is_reserved_and_never_settled_stays_visible(registry, night, asked):
    (a, _), _prompts = asked
    registry.charges.reserve(night, a, Decimal("0.5"))
    registry.charges.reserve(night, a, Decimal("0.25"))
    registry.charges.settle(night, a, Decimal("0.5"))
    spend = registry.outcomes.spend(night)
    assert (spend.total_usd, spend.reserved_usd) == (Decimal(0), Decimal("0.25"))
    with pytest.raises(RegistryError, match="rule of the registry"):
        registry.charges.settle(night, a, Decimal(1))
    assert registry.outcomes.spend(night).reserved_usd == Decimal("0.25")
    with pytest.raises(NotFound):
        registry.charges.reserve(night, "router:unknown", Decimal(1))


def test_a_run_that_spent_nothing(registry, night):
    spend = registry.outcomes.spend(night)
    assert (spend.total_usd, spend.calls, spend.by_endpoint, dict(spend.by_llm)) == (0, 0, (), {})


def test_recording_nothing_writes_nothing(registry, night):
    assert registry.outcomes.record(night, []) == 0


@pytest.mark.parametrize("which", ["llm", "prompt", "run"])
def test_unknown_llms_prompts_and_runs_are_refused_whole(registry, night, asked, which):
    (a, _), prompts = asked
    good = outcome(a, prompts[0])
    bad = {"llm": replace(good, llm_key="router:x"), "prompt": replace(good, prompt_digest="f" * 64), "run": good}[
        which
    ]
    with pytest.raises(NotFound):
        registry.outcomes.record(999 if which == "run" else night, [good, bad])
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING) == prompts


def test_f06_outcomes_of_a_run_that_lost_its_lease_are_refused(registry, night, asked):
    (a, _), prompts = asked
    start_night(registry, "night:other", holder_is_gone=lambda _: True)
    with pytest.raises(RunAlreadyActive, match="can write no more"):
        registry.outcomes.record(night, [outcome(a, prompts[0])])
    assert registry.outcomes.missing(a, prompts, GRADERS, SAMPLING) == prompts


@pytest.mark.parametrize(
    "changes",
    [
        {"score": None},
        {"failure": "timeout"},
        {"score": float("nan")},
        {"score": 1.0000001},
        {"score": -0.1},
        {"score": float("inf")},
        {"input_tokens": -1},
        {"output_tokens": 10**16},
        {"latency_s": float("nan")},
        {"latency_s": float("inf")},
        {"latency_s": -0.1},
        {"cost_usd": Decimal("NaN")},
        {"cost_usd": Decimal("-1")},
        {"attempts": 0},
    ],
)
def test_f24_outcomes_with_impossible_values_cannot_be_created(registry, night, asked, changes):
    (a, _), prompts = asked
    with pytest.raises(InvalidInput):
        outcome(a, prompts[0], **changes)


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    score=st.floats(0, 1),
    latency_s=st.floats(0, 1e8),
    tokens=st.integers(0, 10**14),
    pico=st.integers(0, 10**15),
    text=st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=50),
)
def test_outcomes_come_back_as_they_were(registry, night, asked, score, latency_s, tokens, pico, text):
    (a, _), prompts = asked
    label = f"choice/{next(versions)}"
    one = outcome(
        a,
        prompts[0],
        grader=label,
        score=score,
        latency_s=latency_s,
        input_tokens=tokens,
        cost_usd=Decimal(pico).scaleb(-12),
        completion=text,
        finish_reason=text,
        served_llm=text,
    )
    assert registry.outcomes.record(night, [one]) == 1
    table = registry.outcomes.table([a], prompts[:1], {"choice": label}, SAMPLING)
    assert (table.scores[0, 0], table.input_tokens[0, 0]) == (score, tokens)
    assert table.cost_usd[0, 0] == pico / 1e12
    assert registry.outcomes.completions(a, prompts, {"choice": label}, SAMPLING) == {prompts[0].digest: text}


def test_numpy_numbers_are_accepted(registry, night, asked):
    (a, _), prompts = asked
    one = outcome(a, prompts[0], score=np.float32(0.5), latency_s=np.float64(0.25), input_tokens=np.int64(3))
    assert registry.outcomes.record(night, [one]) == 1
    table = registry.outcomes.table([a], prompts[:1], GRADERS, SAMPLING)
    assert (table.scores[0, 0], table.input_tokens[0, 0]) == (0.5, 3.0)


def test_f25_long_completions_are_cut_with_a_flag_and_the_digest_of_the_whole(registry, night, asked):
    (a, _), prompts = asked
    long = "é" * MAX_COMPLETION_BYTES + "\x00\ud800"
    registry.outcomes.record(
        night, [outcome(a, prompts[0], completion=long), outcome(a, prompts[1], completion="\ud800\x00")]
    )
    with registry._database.read() as unit:
        rows = unit.execute(select(completion).order_by(completion.c.prompt_id)).fetchall()
    by_flag = {row.is_truncated: row for row in rows}
    assert long.startswith(by_flag[True].text)
    assert MAX_COMPLETION_BYTES - 4 < len(by_flag[True].text.encode()) <= MAX_COMPLETION_BYTES
    assert by_flag[True].full_digest == hashlib.sha256(long.encode("utf-8", "surrogatepass")).hexdigest()
    assert by_flag[False].text == "\ud800\x00"


def test_a_completion_cut_by_the_client_keeps_its_flag(registry, night, asked):
    (a, _), prompts = asked
    registry.outcomes.record(night, [outcome(a, prompts[0], completion="begin", completion_truncated=True)])
    with registry._database.read() as unit:
        assert unit.execute(select(completion.c.is_truncated)).scalar() is True


def test_thousands_of_outcomes_are_recorded_and_read_with_few_statements(registry, night):
    (a,) = know_llms(registry, night, "a")
    prompts = freeze(registry, 4000).prompts
    statements = []

    def note(_connection, _cursor, statement, _parameters, _context, _many):
        statements.append(statement)

    event.listen(registry._database.engine, "before_cursor_execute", note)
    assert registry.outcomes.record(night, [outcome(a, one) for one in prompts]) == 4000
    recorded = len(statements)
    assert np.isfinite(registry.outcomes.table([a], prompts, GRADERS, SAMPLING).scores).all()
    assert recorded < 60
    assert len(statements) - recorded < 20


def test_sums_per_cluster_are_the_plain_feature_vectors(registry, night):
    keys = know_llms(registry, night, "a", "b", "c")
    asked = freeze(registry, 60).prompts
    score_of = {key: np.random.default_rng(seed).integers(0, 5, 60) / 4 for seed, key in enumerate(keys)}
    for key in keys[:2]:
        rows = [outcome(key, one, score=float(score_of[key][n]), input_tokens=n) for n, one in enumerate(asked)]
        registry.outcomes.record(night, [row for row in rows if row.prompt_digest != asked[7].digest])
    registry.outcomes.record(night, [failed(key, asked[7]) for key in keys[:2]])
    registry.outcomes.record(night, [outcome(keys[0], one, sampling="another", score=0.0) for one in asked])
    clusters = {one.digest: n % 4 for n, one in enumerate(asked[:50])}  # no prompt has cluster 4
    sums = registry.outcomes.sums(keys, clusters | {"f" * 64: 4}, GRADERS, SAMPLING)
    inside = np.array([n for n in range(50) if n != 7])
    for place, key in enumerate(keys[:2]):
        vector = plain_feature_vector(
            inside % 4, score_of[key][inside], inside, np.full(49, 20), n_clusters=5, n_prompts=50
        )
        assert sums.mean_errors()[place] == pytest.approx(vector.errors, abs=1e-6)
        assert sums.n_scored[place].tolist() == vector.counts.tolist()
        assert sums.input_tokens[place].sum() == inside.sum()
        assert sums.n_failed[place].tolist() == [0, 0, 0, 1, 0]
    assert sums.n_scored[2].sum() == 0
    assert np.isnan(sums.mean_errors()[2]).all(), "nothing is known of an LLM without an answer"


def test_sums_follow_the_sampling_of_each_llm(registry, night):
    keys = know_llms(registry, night, "a", "b")
    asked = freeze(registry).prompts
    for key in keys:
        registry.outcomes.record(night, [outcome(key, asked[0]), outcome(key, asked[1], sampling="{}")])
    groups = {asked[0].digest: 0, asked[1].digest: 1}
    sums = registry.outcomes.sums(keys, groups, GRADERS, {keys[0]: SAMPLING, keys[1]: "{}"})
    assert sums.n_scored.tolist() == [[1, 0], [0, 1]]
