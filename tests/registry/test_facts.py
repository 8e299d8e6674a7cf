"""Rows of the nights under digests of the ledger: what the registry itself changes fits, and nothing else does."""

import ast
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from registry.db.seals import OPEN, retired_rows
from registry.db.tables import SEALED_TABLES
from registry.db.tables import completion as completions
from registry.db.tables import outcome as outcomes
from registry.ledger.facts import RowSum, row_number, sums_by_seal
from registry.outcomes import Verdict
from registry.pruning import Retention
from registry.store import Registry
from tests.postgres import break_in
from tests.registry.samples import (
    GRADERS,
    NOW,
    SAMPLING,
    TODAY,
    failed,
    fetch,
    freeze,
    know_llms,
    listing,
    outcome,
    record_fetch,
    start_night,
)
from tests.registry.test_regrading import regrade

LATER = NOW + timedelta(days=1)
ALL_OLD = Retention(completions_days=1, listings_days=1)


def check(registry):
    assert registry.ledger.verify().is_intact
    return registry.check_facts(registry.ledger.events())


def intact(registry):
    found = check(registry)
    assert found.problems == ()
    return found


def finish(registry, run, at=NOW):
    registry.runs.finish(run, "completed", "fine", "{}", at)


@pytest.fixture
def sealed(registry, night):
    """A registry after a night: LLMs a and b, ten answers of a, one of them unreadable, and a failure of b."""
    keys = know_llms(registry, night, "a", "b", "judge")
    asked = freeze(registry).prompts
    rows = [outcome(keys[0], one, score=0.0, is_unreadable=True) for one in asked[:1]]
    registry.outcomes.record(night, rows + [outcome(keys[0], one) for one in asked[1:]])
    registry.outcomes.record(night, [failed(keys[1], asked[0], completion="cut")])
    finish(registry, night)
    return registry


def next_night(registry, day=1):
    at = NOW + timedelta(days=day)
    return start_night(registry, f"night:{day}", as_of=at.date(), now=at)


def test_a_night_ends_with_a_digest_per_table_of_all_that_it_wrote(sealed):
    (event,) = sealed.ledger.events(event="run:facts:sealed")
    found = intact(sealed)
    assert (event.subject, event.actor, found.n_nights, found.n_open, found.n_unknown) == (
        "night:2024-09-01:abc",
        "host-a",
        1,
        0,
        0,
    )
    assert found.n_rows > 50


def test_what_the_registry_changes_itself_still_fits(sealed):
    run = next_night(sealed)
    asked = freeze(sealed).prompts
    dear = [listing("a", "50"), listing("b", "2"), listing("judge")]
    record_fetch(sealed, run, fetch(dear, "2"), run.as_of)
    sealed.outcomes.record(run, [outcome("router:b", asked[0], asked_at=LATER)])
    (answer,) = sealed.outcomes.undecided("router:a", asked, GRADERS, SAMPLING)
    assert sealed.outcomes.decide(run, [Verdict(answer, "judge/2", 1.0)], now=LATER) == 1
    assert regrade(sealed, run, "router:a", asked[1:4]) == 3
    assert intact(sealed).n_open > 0
    finish(sealed, run, LATER)
    assert intact(sealed).n_open == 0
    sealed.llms.accept_price("router:a", actor="ann", reason="announced", now=LATER)
    sealed.llms.set_status("router:b", "quarantined", "odd", actor="ann", now=LATER)
    found = intact(sealed)
    assert 0 < found.n_open < 6, "what people decide between nights is under the next digest"
    again = start_night(sealed, "night:1", as_of=run.as_of, now=LATER)
    assert again.attempt == 2
    sealed.outcomes.record(again, [outcome("router:b", asked[1], asked_at=LATER)])
    finish(sealed, again, LATER)
    assert (intact(sealed).n_open, intact(sealed).n_nights) == (0, 2)


def test_what_was_pruned_is_told_from_what_was_removed(sealed, url):
    before = intact(sealed)
    done = sealed.pruning.prune(ALL_OLD, NOW + timedelta(days=9), actor="ann")
    found = intact(sealed)
    assert found.n_pruned == done.completions == 11
    assert found.n_rows == before.n_rows - 11
    break_in(url, "DELETE FROM outcome WHERE score = 0")
    assert "outcomes of night:2024-09-01:abc (event 1): 1 row removed" in check(sealed).problems[0]


def test_a_removed_text_is_no_pruned_one(sealed, url):
    break_in(url, "DELETE FROM completion WHERE prompt_id = (SELECT min(prompt_id) FROM completion)")
    (problem,) = check(sealed).problems
    assert "completions of night:2024-09-01:abc (event 1): 2 rows removed (9 of 11 rows left)" in problem
    kept = "INSERT INTO retired_rows SELECT 'completion', 1, 1, 2, digest_sum FROM retired_rows LIMIT 1"
    sealed.pruning.prune(ALL_OLD, NOW + timedelta(days=9), actor="ann")
    break_in(url, kept)
    assert "what is kept of replaced or pruned rows is not what event 1 says" in check(sealed).problems[0]


@pytest.mark.parametrize("table", [outcomes, completions], ids=str)
def test_a_removed_row_is_not_excused_by_a_sum_that_no_event_holds(sealed, url, table):
    of_first = table.c.prompt_id == 1, table.c.llm_id == 1
    with sealed.unit() as unit:
        for seal, one in sums_by_seal(unit, table, *of_first).items():
            row = {"table_name": table.name, "seal": seal, "ended": OPEN, "n_rows": one.n_rows}
            unit.execute(retired_rows.insert().values(**row, digest_sum=one.stored))
    break_in(url, f"DELETE FROM {table.name} WHERE prompt_id = 1 AND llm_id = 1")
    (problem,) = check(sealed).problems
    assert problem.endswith(": 1 row removed since the last night ended (1 left their digests, 0 are here)")


def test_rows_of_a_night_that_was_killed_are_under_the_digest_of_the_one_that_follows(registry, night):
    know_llms(registry, night, "a")
    late = NOW + timedelta(hours=5)
    newer = start_night(registry, "night:newer", now=late)
    assert intact(registry).n_nights == 0
    finish(registry, newer, late)
    assert (intact(registry).n_open, intact(registry).n_nights) == (0, 1)


def test_rows_that_an_older_release_wrote_are_unknown_until_they_are_written_again(sealed, url):
    break_in(url, *(f"UPDATE {name} SET seal = NULL" for name in ("run", "llm", "charge", "llm_price")))
    run = next_night(sealed)
    record_fetch(sealed, run, fetch([listing("a", "2"), listing("b"), listing("judge")], "2"), run.as_of)
    finish(sealed, run, LATER)
    found = check(sealed)
    assert (found.n_unknown_nights, found.unknown_until) == (1, TODAY)
    assert any("charges of night:2024-09-01:abc" in one for one in found.problems), "to forget a digest is a change"


def test_a_copy_on_the_other_database_fits_the_same_digests(sealed, url, tmp_path, request):
    sealed.llms.set_status("router:b", "excluded", "odd", actor="ann", now=NOW)
    sealed.pruning.prune(ALL_OLD, NOW + timedelta(days=9), actor="ann")
    is_file = url.startswith("sqlite")
    elsewhere = request.getfixturevalue("empty_database") if is_file else f"sqlite:///{tmp_path / 'elsewhere.db'}"
    with Registry.unmade(elsewhere) as other:
        sealed.backups.copy_to(other.backups, NOW)
        assert check(other) == intact(sealed)
        run = next_night(other, 10)
        other.outcomes.record(run, [outcome("router:b", freeze(other).prompts[0], cost_usd=Decimal("0.1"))])
        finish(other, run, NOW + timedelta(days=10))
        intact(other)


def test_the_digest_of_a_row_is_the_same_in_every_release():
    """Changing it would make every digest of earlier nights differ."""
    number = row_number("charge", ("run_id", "purpose", "seal", "cost_picousd"), (1, "profile", 7, None))
    assert RowSum(1, number).digest == "5463d1a9fdbf6ee3f34fd5fcd3bf9b2851119758fb576e9aaf65ac1bb2980960"


OPEN_ALREADY = {
    "charges.py add": "the charges of a run are open while it holds its lease",
    "runs.py finish": "a run is open while it is active",
    "monitoring.py note_plan": "a run is open while it is active",
    "outcomes.py regrade": "`regraded_rows` has reopened what it replaces",
    "outcomes.py _keep_completions": "the failures that they belong to are reopened with their texts",
}


def test_whatever_changes_rows_that_are_under_a_digest_takes_them_out_of_it_first():
    sealed_tables = {table.name for table in SEALED_TABLES}
    unmarked = set()
    for path in (Path(__file__).parents[2] / "registry").rglob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        bodies = [module.body, *(one.body for one in module.body if isinstance(one, ast.ClassDef))]
        for function in (one for body in bodies for one in body if isinstance(one, ast.FunctionDef)):
            calls = [one for one in ast.walk(function) if isinstance(one, ast.Call)]
            names = {ast.unparse(one.func) for one in calls}
            if not names & {"reopen", "reopen_failures", "sums_to_keep"}:
                changed = {_changed_table(one) for one in calls} & sealed_tables
                unmarked |= {f"{path.name} {function.name}" for _ in changed}
    assert unmarked == set(OPEN_ALREADY)


def _changed_table(call: ast.Call) -> str:
    """Return the table that a call of SQLAlchemy's, or `Database.upsert`, changes rows of; empty for any other call."""
    target, _, verb = ast.unparse(call.func).rpartition(".")
    if verb in ("update", "delete", "upsert") and call.args and isinstance(call.args[0], ast.Name):
        return call.args[0].id
    return target.removesuffix("_table") if verb in ("update", "delete") else ""
