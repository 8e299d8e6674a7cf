"""The gate's evidence: answers read from the registry, for routers that may differ in LLMs and embedder."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from sqlalchemy import select

from flows.gate.answers import Answers
from flows.gate.evidence import gather, put_to_gate
from flows.gate.gate import gate_as_json, version_metrics
from flows.gate.measure import measure
from flows.gate.representative import Representative
from flows.versions.store import load_version
from flows.workspace import Workspace
from registry.db.tables import llm
from registry.prices import put_in_force
from routing.cluster_maps import KMeansMap
from routing.embedders import load_embedder
from routing.features import FeatureVector
from routing.router import RoutedLLM, Router
from tests.fakes.contest import clock, digest_of

TODAY = date(2024, 10, 1)


@pytest.fixture
def answers(contest: Workspace) -> Answers:
    return Answers.of_version(contest.registry, digest_of(contest, "challenger"), digest_of(contest, "champion"))


def routers(contest: Workspace) -> tuple[Router, Router]:
    return tuple(load_version(contest, digest_of(contest, alias)) for alias in ("challenger", "champion"))


def simple(embedder_name: str, *errors: tuple[str, float]) -> Router:
    embedder = load_embedder(embedder_name)
    cluster_map = KMeansMap(n_clusters=1, random_state=0).fit(embedder.embed(["one", "two"])).fitted_
    tokens = {"counts": [9], "input_tokens": [50.0], "output_tokens": [9.0], "n_prompts": 9, "n_scored": 9}
    llms = [RoutedLLM(key, 1, 1, FeatureVector([error], standard_errors=[0.1], **tokens)) for key, error in errors]
    weights = np.ones((2, 1), dtype=np.float32)
    return Router(cluster_map, llms, embedder=embedder.id, cost_weight=0.0, calibration_weights=weights)


def test_every_gate_prompt_is_read_for_both_routers(contest: Workspace, answers: Answers) -> None:
    challenger, champion = routers(contest)
    found = gather(answers, challenger, champion, on=TODAY, min_coverage=0.95)
    assert found.outcomes.keys == ("fake:fair", "fake:good", "fake:weak")
    assert (found.outcomes.scores.shape, found.outcomes.n_dropped) == ((120, 3), 0)
    assert [one.llm_key for one in found.newcomers] == ["fake:good"]
    assert found.newcomers[0].gap == pytest.approx(0.0, abs=0.2)
    assert found.unavailable == ()


def test_an_llm_that_only_the_champion_has_and_that_never_answered_is_left_out(
    contest: Workspace, answers: Answers
) -> None:
    challenger, _ = routers(contest)
    champion = simple("hashing-256", ("fake:ghost", 0.01), ("fake:fair", 0.3))
    found = gather(answers, challenger, champion, on=TODAY, min_coverage=0.95).outcomes
    assert "fake:ghost" not in found.keys
    assert found.n_dropped == 0
    assert set(measure(champion, found).chosen) == {"fake:fair"}


def test_a_champion_with_another_embedder_is_measured_with_its_own_embeddings(
    contest: Workspace, answers: Answers
) -> None:
    challenger, _ = routers(contest)
    champion = simple("hashing-64", ("fake:weak", 0.3), ("fake:fair", 0.4))
    found = gather(answers, challenger, champion, on=TODAY, min_coverage=0.95).outcomes
    assert found.embeddings_for(champion).shape == (120, 64)
    assert measure(champion, found).score == pytest.approx(0.4, abs=0.1)


def test_llms_that_went_away_and_llms_accepted_by_a_person_are_distinguished(contest: Workspace) -> None:
    set_status = contest.registry.llms.set_status
    set_status("fake:good", "available", "looked at", actor="ann", now=clock())
    set_status("fake:weak", "withdrawn", "gone", actor="ann", now=clock())
    challenger, champion = routers(contest)
    answers = Answers.of_version(contest.registry, challenger.digest, champion.digest)
    found = gather(answers, challenger, champion, on=TODAY, min_coverage=0.95)
    assert found.unavailable == ("fake:weak",)
    assert found.newcomers[0].is_accepted


def test_a_person_judges_on_both_kinds_of_prompts_as_the_night_did(contest: Workspace, answers: Answers) -> None:
    challenger, champion = routers(contest)
    found = put_to_gate(answers, challenger, champion, contest.settings, on=TODAY)
    by_night = json.loads(contest.registry.promotions.last_gate(challenger.digest).details_json)
    assert gate_as_json(found)["judged"] == by_night["judged"]
    assert found.lower_bound == by_night["lower_bound"]
    judged = found.judged
    assert judged is not None and judged.representative is not None and judged.unused == ""
    assert (judged.gate.n, judged.not_judged) == (120, {})
    assert judged.representative.n + judged.n_left_out == 72
    assert len(judged.differences) == 120 + judged.representative.n
    said = next(check.value for check in found.checks if check.name.startswith("score at the champion's cost"))
    assert f"the procedure is judged on {judged.representative.n} representative prompts" in said
    assert "the published router on 120 gate prompts" in said
    gate = contest.settings.gate.model_copy(update={"cross_fit": False})
    alone = put_to_gate(answers, challenger, champion, contest.settings.model_copy(update={"gate": gate}), on=TODAY)
    assert alone.judged is not None and alone.judged.representative is None
    assert (len(alone.judged.differences), alone.difference) == (120, judged.gate)
    # The headline of every page and of MLflow is the difference that the verdict rests on.
    assert found.difference is not None and found.difference.n == len(judged.differences)
    assert version_metrics(found)["score_difference_at_equal_cost"] == found.difference.mean
    assert f"{found.difference.mean:+.4f}" in said


def test_a_champion_whose_making_is_unknown_is_compared_on_gate_prompts_alone(
    contest: Workspace, answers: Answers
) -> None:
    challenger, _ = routers(contest)
    champion = simple("hashing-256", ("fake:weak", 0.3), ("fake:fair", 0.4))
    gate = gather(answers, challenger, champion, on=TODAY, min_coverage=0.95).outcomes
    found = Representative(answers, challenger, champion, champion.digest, TODAY, gate).cross_fit()
    assert isinstance(found, str) and found.startswith("what the vectors were made from is not known")


def test_answers_under_other_settings_do_not_count(contest: Workspace, answers: Answers) -> None:
    challenger, champion = routers(contest)
    elsewhere = replace(answers, sampling={**answers.sampling, "fake:good": '{"max_tokens":1}'})
    found = gather(elsewhere, challenger, champion, on=TODAY, min_coverage=0.95)
    assert (len(found.outcomes.embeddings), found.outcomes.n_dropped) == (0, 120)
    assert found.newcomers[0].gap is None


def test_the_champion_is_judged_as_it_can_serve_and_nobody_is_compared_with_what_is_gone(
    contest: Workspace, answers: Answers
) -> None:
    challenger, champion = routers(contest)
    whole = put_to_gate(answers, challenger, champion, contest.settings, on=TODAY)
    assert whole.champion is not None and whole.against == champion.digest
    dead = max(whole.champion.shares, key=lambda one: one[1])[0]
    contest.registry.llms.set_status(dead, "withdrawn", "gone", actor="ann", now=clock())
    rest = put_to_gate(answers, challenger, champion, contest.settings, on=TODAY)
    assert rest.champion is not None and rest.against == champion.digest
    assert dead not in dict(rest.champion.shares) and dead not in rest.champion.chosen
    for key in set(champion.keys) - {dead}:
        contest.registry.llms.set_status(key, "withdrawn", "gone", actor="ann", now=clock())
    alone = put_to_gate(answers, challenger, champion, contest.settings, on=TODAY)
    assert alone.champion is None and alone.difference is None and alone.against == champion.digest


def test_an_llm_that_was_repriced_is_judged_at_the_price_in_force(contest: Workspace, answers: Answers) -> None:
    challenger, champion = routers(contest)
    before = gather(answers, challenger, champion, on=TODAY, min_coverage=0.95).outcomes
    column = before.keys.index("fake:good")
    (price,) = contest.registry.llms.price_history("fake:good")
    with contest.registry.unit() as unit:
        number = unit.execute(select(llm.c.id).where(llm.c.key == "fake:good")).scalar_one()
        tripled = replace(
            price, input_usd_per_mtok=3 * price.input_usd_per_mtok, output_usd_per_mtok=3 * price.output_usd_per_mtok
        )
        put_in_force(unit, number, tripled, TODAY, price.catalog)
    after = gather(answers, challenger, champion, on=TODAY, min_coverage=0.95).outcomes
    assert after.costs_usd[:, column] == pytest.approx(3 * before.costs_usd[:, column])
    others = [place for place in range(3) if place != column]
    assert after.costs_usd[:, others] == pytest.approx(before.costs_usd[:, others])
    yesterday = gather(answers, challenger, champion, on=price.since, min_coverage=0.95).outcomes
    assert yesterday.costs_usd == pytest.approx(before.costs_usd)
