"""The single-cell experiment: every column of every table is changed once, and found or named as harmless.

Rows under the nights' digests are checked table by table, so that one column of each of these tables is changed at a
time; the others are changed alone.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Boolean, Column

from flows.audit.earlier import read_export
from flows.audit.export import export_lines
from flows.audit.verification import verify_registry
from registry.db.tables import SEALED_TABLES, metadata
from registry.ledger import GENESIS, LedgerEvent
from registry.ledger.facts import SEALED, WORDS
from registry.prompts.prompt_orders import AskedScope, PromptOrderRecord
from registry.pruning import Retention
from registry.store import Registry
from tests.flows.audit.damage import other
from tests.postgres import break_in
from tests.registry.samples import outcome, start_night

ROOT = Path(__file__).resolve().parents[3]
Cell = tuple[str, str]


@pytest.fixture
def file(audited, tmp_path) -> Path:
    """A registry after two nights, a later one with one answer, a pruning, and a decision about an LLM since."""
    copied = tmp_path / "registry.db"
    with sqlite3.connect(audited.home / "registry.db") as source, sqlite3.connect(copied) as target:
        source.backup(target)
    with Registry.open(f"sqlite:///{copied}") as registry:
        now = registry.ledger.events(limit=1)[0].at + timedelta(days=400)
        later = start_night(registry, "night:later", now=now)
        prompts = registry.prompts.get(audited.registry.runs.latest().prompt_set_digest)
        asked = prompts.members[0].prompt
        digests = tuple(one.digest for one in prompts.with_role("representative"))
        order = PromptOrderRecord(prompts.digest, "representative", "random", digests, 2, 3, 0, 0)
        registry.prompt_orders.save(order, later)
        registry.prompt_orders.save_scopes([AskedScope("fake:weak", "other", order.digest, 3)], later)
        registry.outcomes.record(later, [outcome("fake:weak", asked, sampling="other", asked_at=now)])
        registry.runs.finish(later, "completed", "fine", "{}", now)
        assert (
            registry.pruning.prune(Retention(completions_days=395, listings_days=1), now, actor="ann").completions > 0
        )
        registry.llms.set_status("fake:weak", "quarantined", "odd", actor="ann", now=now)
    return copied


@contextmanager
def changed(file: Path, cells: list[Cell]) -> Iterator[None]:
    """Change cells past every guard of the database, and put them back."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    undo = [_change(connection, table, column) for table, column in cells]
    yield
    for statement, values in undo:
        connection.execute(statement, values)
    for _, statement in guards:
        connection.execute(statement)
    connection.close()


def _change(connection: sqlite3.Connection, table: str, column: str) -> tuple[str, list[object]]:
    keys = [one.name for one in metadata.tables[table].primary_key]
    # A row that is under a digest, and whose cell has a value if any has.
    under = "seal > 0 DESC, " if "seal" in metadata.tables[table].columns else ""
    columns = ", ".join([column, *keys])
    row = connection.execute(f"SELECT {columns} FROM {table} ORDER BY {under}{column} IS NULL LIMIT 1").fetchone()
    value, *key = row
    update = f"UPDATE {table} SET {column} = ? WHERE {' AND '.join(f'{name} = ?' for name in keys)}"
    for instead in _others(connection, metadata.tables[table].columns[column], value):
        try:
            connection.execute(update, [instead, *key])
            break
        except sqlite3.IntegrityError:  # a key that another row has
            continue
    key = [instead if name == column else part for name, part in zip(keys, key, strict=True)]
    return update, [value, *key]


def _others(connection: sqlite3.Connection, column: Column, value: object) -> Iterator[object]:
    """Return values instead of one: of a reference, what else there is to refer to."""
    for reference in column.foreign_keys:
        parent, name = reference.column.table.name, reference.column.name
        rows = connection.execute(f"SELECT {name} FROM {parent} WHERE {name} IS NOT ? LIMIT 1", [value]).fetchall()
        yield from (row[0] for row in rows)
    if isinstance(column.type, Boolean):
        yield not value
    elif isinstance(value, int):
        yield value + 1000
    else:
        yield "x" if value == "" else b"x" if value == b"" else other(value)


def rounds(file: Path) -> Iterator[list[Cell]]:
    """Return the cells that are changed at a time."""
    columns: defaultdict[int, list[Cell]] = defaultdict(list)
    with sqlite3.connect(file) as connection:
        for table in metadata.sorted_tables:
            if connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0] == 0:
                assert table.name == "signed_head", table.name
                continue
            for place, column in enumerate(table.columns):
                if table in SEALED_TABLES:
                    columns[place].append((table.name, column.name))
                else:
                    yield [(table.name, column.name)]
    yield from columns.values()


def harmless() -> set[str]:
    """Return the cells, or tables, that registry/README.md names as harmless."""
    readme = (ROOT / "registry" / "README.md").read_text(encoding="utf-8")
    rows = readme.partition("| harmless cell |")[2].partition("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([a-z_.]+)`", row.split("|")[1])}


def found_in(registry: Registry, cells: list[Cell]) -> set[Cell]:
    """Return which of the changed cells a verification finds."""
    if cells[0][0] not in WORDS:
        return set(cells) if any(one.severity == "damaged" for one in verify_registry(registry).findings) else set()
    problems = registry.check_facts(registry.ledger.events()).problems
    named = {name: (f"{word} of night", f"{word} name ", f"rows of {word} cannot") for name, word in WORDS.items()}
    return {(table, column) for table, column in cells if any(one.startswith(named[table]) for one in problems)}


def test_every_cell_that_is_changed_is_found_or_named_as_harmless(file):
    missed: set[Cell] = set()
    n_cells = 0
    with Registry.open(f"sqlite:///{file}", migrate=False) as registry:
        assert {one.severity for one in verify_registry(registry).findings} == {"ok"}
        for cells in rounds(file):
            with changed(file, cells):
                missed |= set(cells) - found_in(registry, cells)
            n_cells += len(cells)
        assert {one.severity for one in verify_registry(registry).findings} == {"ok"}, "each change was undone"
    named = harmless()
    assert {f"{table}.{column}" for table, column in missed if not {table, f"{table}.{column}"} & named} == set()
    assert named <= {name for table, column in missed for name in (table, f"{table}.{column}")}
    assert n_cells - len(missed) > 170


ON_A_SERVER = {
    "run": "verdict = NULL",
    "llm": "context_tokens = 1",
    "llm_price": "input_usd_per_mtok = '7'",
    "catalog_fetch": "is_complete = NOT is_complete",
    "listing_text": "raw = raw || '\\x20'::bytea",
    "listing": "llm_key = 'fake:other'",
    "prompt": "grader = 'other'",
    "prompt_set": "seed = seed + 1",
    "prompt_set_member": "role = CASE role WHEN 'map' THEN 'gate' ELSE 'map' END",
    "embedding": "embedder_key = 'other'",
    "protocol": "sampling = '{}'",
    "outcome": "latency_s = latency_s + 1e-9",
    "completion": "is_truncated = NOT is_truncated",
    "charge": "cost_picousd = cost_picousd - 1",
    "cluster_map": "seed = seed + 1",
    "cluster_map_array": "name = 'other'",
    "feature_vector": "n_prompts = n_prompts + 1",
    "router": "mlflow_version = 99",
    "router_llm": "position = 99",
    "router_metric": "value = value + 1e-9",
    "prompt_order": "seed = seed + 1",
    "prompt_order_member": "is_random = NOT is_random",
    "asked_scope": "n_prompts = n_prompts + 1",
}


def test_on_a_server_a_changed_and_a_removed_row_of_every_table_is_found(file, empty_database):
    with Registry.open(f"sqlite:///{file}") as here, Registry.unmade(empty_database) as there:
        here.backups.copy_to(there.backups, here.ledger.events(limit=1)[0].at)
        assert {one.severity for one in verify_registry(there).findings} == {"ok"}
        assert {table.name for table in SEALED_TABLES} == set(ON_A_SERVER)
        one_row = "ctid = (SELECT min(ctid) FROM {0} WHERE seal > 0)"
        was_open = break_in(empty_database, "SELECT count(*) FROM llm WHERE seal = 0")
        assert was_open == [(1,)]
        updates = [f"UPDATE {name} SET {to} WHERE {one_row.format(name)}" for name, to in ON_A_SERVER.items()]
        break_in(empty_database, *updates)
        assert found_in(there, [(name, "any") for name in ON_A_SERVER]) == {(name, "any") for name in ON_A_SERVER}
        break_in(empty_database, *(f"DELETE FROM {name} WHERE {one_row.format(name)}" for name in ON_A_SERVER))
        problems = there.check_facts(there.ledger.events()).problems
        assert all(any(f"{word} of night" in one and "removed" in one for one in problems) for word in WORDS.values())
        for statement in (
            "DELETE FROM alias WHERE name = 'champion'",
            "UPDATE promotion SET reason = '\\x78' WHERE id = 1",
            "UPDATE ledger SET actor = 'eve' WHERE number = 2",
        ):
            before = {one.text for one in verify_registry(there).findings if one.severity == "damaged"}
            break_in(empty_database, statement)
            after = {one.text for one in verify_registry(there).findings if one.severity == "damaged"}
            assert after - before, statement


def rewritten(file: Path, number: int) -> None:
    """Change an event, and give it and all that follow it the hashes that then are theirs."""
    with Registry.open(f"sqlite:///{file}") as registry:
        events = registry.ledger.events()
    previous, statements = GENESIS, []
    for event in events:
        actor = "eve" if event.number == number else event.actor
        again = LedgerEvent(**(vars(event) | {"actor": actor, "previous_hash": previous}))
        previous = again.content_hash
        values = f"actor = '{actor}', previous_hash = '{again.previous_hash}', hash = '{previous}'"
        statements.append(f"UPDATE ledger SET {values} WHERE number = {event.number}")
    head = f"UPDATE ledger_head SET hash = '{previous}'"
    break_in(f"sqlite:///{file}", *statements, head)


def test_a_history_that_was_rewritten_with_its_hashes_is_found_by_what_was_kept_elsewhere(file, tmp_path):
    kept = tmp_path / "kept.jsonl"
    with Registry.open(f"sqlite:///{file}") as registry:
        kept.write_text("\n".join(export_lines(registry, None, None)) + "\n")
        head = registry.ledger.head()[1]
        export = read_export(kept)
        registry.llms.set_status("fake:fair", "excluded", "why", actor="ann", now=registry.ledger.events()[-1].at)
        found = verify_registry(registry, head=head, export=export).findings
        assert {one.severity for one in found} == {"ok"}
        assert any(one.subject == "earlier export" and "digests of 3 nights" in one.text for one in found)
        (first, *_) = registry.ledger.events(event=SEALED)
    rewritten(file, first.number)
    with Registry.open(f"sqlite:///{file}") as registry:
        assert {one.severity for one in verify_registry(registry).findings} == {"ok"}, "whole in itself"
        found = {one.subject: one for one in verify_registry(registry, head=head, export=export).findings}
    assert {name for name, one in found.items() if one.severity == "damaged"} == {"earlier head", "earlier export"}
    assert f"event {first.number} ({SEALED}" in found["earlier export"].text
