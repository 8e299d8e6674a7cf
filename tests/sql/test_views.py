"""The analyst views, checked for their numbers on a small real registry."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

import sql
from registry.promotions import gate_result
from tests.registry.samples import (
    GRADERS,
    NOW,
    SAMPLING,
    cluster_map,
    digest_of,
    failed,
    fetch,
    freeze,
    know_llms,
    listing,
    outcome,
    record_fetch,
    router,
    start_night,
)

EVERY_LLM = ("representative", "gate", "hidden")


@pytest.fixture
def filled(registry):
    """A registry after two nights: a answered all ten prompts, b four and failed twice, in the map and outside."""
    prompt_set = freeze(registry)
    first = start_night(registry, prompt_set_digest=prompt_set.digest)
    a, b, _unasked = know_llms(registry, first, "a", "b", "c")
    of_all, of_map = prompt_set.with_role(*EVERY_LLM), prompt_set.with_role("map")
    rows = [outcome(a, one, score=i % 2, latency_s=1.0) for i, one in enumerate(of_all)]
    rows += [outcome(a, one, score=1, latency_s=9.0) for one in of_map]
    rows += [outcome(b, one, cost_usd=Decimal("0.002")) for one in (*of_all[:3], of_map[0])]
    rows += [failed(b, one, cost_usd=Decimal("0.5")) for one in (of_all[3], of_map[1])]
    registry.outcomes.record(first, rows)
    registry.charges.reserve(first, b, Decimal("0.25"))
    registry.routers.save_cluster_map(cluster_map(prompt_set))
    registry.routers.save(router(first, prompt_set, 100, (a,)))
    registry.runs.finish(first, "completed", "fine", "{}", NOW)
    second = start_night(registry, "night:2024-09-02:abc", as_of=NOW.date() + timedelta(days=1))
    listed = [listing("a", "2"), listing("b"), listing("c")]
    record_fetch(registry, second, fetch(listed, "2"), second.as_of)
    registry.outcomes.record(second, [outcome(a, of_all[0])], purpose="canary")
    registry.outcomes.record(second, [outcome(a, of_all[0], sampling="other")], purpose="canary")
    registry.routers.save(router(second, prompt_set, 101, (a, b), parent_digest=digest_of(100)))
    for digest in (digest_of(100), digest_of(101)):
        champion = registry.routers.aliases().champion
        asked = registry.promotions.request(digest, champion, gate_result(True, {}), actor="night", now=NOW)
        registry.promotions.apply(asked, actor="night", reason="gate passed", now=NOW + timedelta(hours=1))
    registry.routers.set_published(digest_of(100), "uniroute", 1, "run-1")
    return registry


def rows_of(registry, view, order="1"):
    with registry._database.read() as unit:
        return [dict(row._mapping) for row in unit.execute(text(f"SELECT * FROM {view} ORDER BY {order}"))]


def test_every_view_file_is_one_select_with_a_sentence_about_it():
    names = [one.name for one in sql.views()]
    assert names == ["coverage", "leaderboard", "router_lineage", "spend"]
    for one in sql.views():
        assert one.text.startswith("-- One row per ")
        assert ";" not in one.text.partition("\n")[2]


def test_the_leaderboard_scores_answers_only(filled):
    a, b, other = rows_of(filled, "leaderboard", "sampling DESC, llm_key")
    assert (a["llm_key"], a["n_prompts"], a["n_scored"], a["n_failed"], a["mean_score"]) == (
        "router:a",
        4,
        4,
        0,
        0.5,
    ), "no map prompts"
    assert a["cost_usd_per_1k_prompts"] == pytest.approx(0.12)
    assert (a["mean_latency_s"], a["status"], a["refusal"]) == (1.0, "available", None)
    assert (a["input_usd_per_mtok"], b["input_usd_per_mtok"]) == ("2", "1"), "the price now in force"
    assert (b["llm_key"], b["n_scored"], b["n_failed"], b["mean_score"]) == ("router:b", 3, 1, 1.0)
    assert b["cost_usd_per_1k_prompts"] == pytest.approx(2.0), "failures are no part of the cost of an answer"
    assert (other["sampling"], other["n_scored"]) == ("other", 1)


def test_the_leaderboard_lists_the_best_first(filled):
    b, a = filled.leaderboard()
    assert (b.llm_key, b.mean_score, b.n_scored, b.mean_cost_usd) == ("router:b", 1.0, 3, pytest.approx(0.002))
    assert (a.llm_key, a.mean_score, a.n_scored, a.sampling) == ("router:a", 0.5, 4, SAMPLING)
    assert filled.leaderboard("f" * 64) == ()
    assert filled.leaderboard(b.prompt_set_digest) == (b, a)


def test_spend_is_listed_by_run_llm_and_purpose(filled):
    rows = rows_of(filled, "spend", "run_key, llm_key, purpose")
    found = [(row["run_key"], row["llm_key"], row["purpose"], row["calls"], row["cost_usd"]) for row in rows]
    assert found == [
        ("night:2024-09-01:abc", "router:a", "profile", 10, pytest.approx(0.0012)),
        ("night:2024-09-01:abc", "router:b", "profile", 6, pytest.approx(1.008)),
        ("night:2024-09-02:abc", "router:a", "canary", 1, pytest.approx(0.00012)),
    ]
    assert [row["reserved_usd"] for row in rows] == [0, 0.25, 0]
    assert [row["run_status"] for row in rows] == ["completed", "completed", "active"]
    totals = sum(row["cost_usd"] for row in rows if row["run_status"] == "completed")
    assert totals == pytest.approx(float(filled.outcomes.spend(filled.runs.get("night:2024-09-01:abc")).total_usd))


def test_coverage_is_listed_by_role_and_adds_up(filled):
    rows = [row for row in rows_of(filled, "coverage", "llm_key, role") if row["sampling"] == SAMPLING]
    assert {row["llm_key"] for row in rows} == {"router:a", "router:b"}, "never asked, never shown"
    b = [row for row in rows if row["llm_key"] == "router:b"]
    assert [sum(row[name] for row in b) for name in ("n_prompts", "n_scored", "n_failed", "n_pending")] == [10, 4, 2, 4]
    assert all(row["coverage"] == row["n_scored"] / row["n_prompts"] for row in rows)
    assert all(row["coverage"] == 1.0 for row in rows if row["llm_key"] == "router:a")
    frozen = filled.prompts.get(rows[0]["prompt_set_digest"])
    sizes = {row["role"]: row["n_prompts"] for row in b}
    assert sizes == {role: len(frozen.with_role(role)) for role in sizes}
    by_role = {row["role"]: row["n_scored"] for row in b}
    (coverage,) = filled.outcomes.coverage(["router:b"], frozen.with_role("map"), GRADERS, SAMPLING)
    assert by_role["map"] == coverage.n_scored


def test_the_lineage_names_parents_publication_and_service(filled):
    first, second = rows_of(filled, "router_lineage", "number")
    assert (first["generation"], second["generation"]) == (1, 2)
    assert (first["parent_digest"], second["parent_digest"]) == (None, digest_of(100))
    assert (first["mlflow_version"], second["parent_version"], second["mlflow_version"]) == (1, 1, None)
    assert (first["n_llms"], second["n_llms"]) == (1, 2)
    assert [(row["is_champion"], row["is_previous"], row["is_challenger"]) for row in (first, second)] == [
        (0, 1, 0),
        (1, 0, 0),
    ]
    assert (first["run_key"], second["run_key"]) == ("night:2024-09-01:abc", "night:2024-09-02:abc")
    assert str(second["first_champion_at"]).startswith("2024-09-01 03:00:00")
