import gzip
import json
import threading
from pathlib import Path

import pytest

from flows.cli.endings import ExitCode, exit_code_of
from registry.backup import backups
from registry.errors import NotFound, RegistryCorrupt, RegistryError, SchemaMismatch
from registry.store import Registry
from tests.postgres import break_in
from tests.registry.samples import NOW, failed, outcome, save_routers, start_night


@pytest.fixture
def filled(registry):
    """A registry with every kind of value: texts with NUL and lone surrogates, blobs, times, money."""
    run = start_night(registry)
    digests = save_routers(registry, run)
    prompt_set = registry.prompts.get(registry.routers.get(digests[0]).prompt_set_digest)
    registry.outcomes.record(
        run, [outcome("router:a", one, completion="A\x00\ud800\u00e9") for one in prompt_set.prompts]
    )
    registry.outcomes.record(run, [failed("router:b", prompt_set.prompts[0])])
    registry.promotions.set_challenger(digests[0], actor="ann", now=NOW)
    for number in range(3):
        registry.ledger.append("test:row:added", f"row {number}", actor="\udc80", now=NOW, reason="\x00why")
    registry.runs.finish(run, "completed", "fine", "{}", NOW)
    return registry


@pytest.fixture
def elsewhere(url, tmp_path, request) -> str:
    """URL of an empty database of the other kind."""
    if url.startswith("sqlite"):
        return request.getfixturevalue("empty_database")
    return f"sqlite:///{tmp_path / 'elsewhere.db'}"


def test_a_backup_comes_back_row_by_row_on_either_database(filled, url, elsewhere, tmp_path, request):
    size = filled.backups.write(tmp_path / "all.backup", NOW)
    before = filled.backups.contents()
    assert (size, (tmp_path / "all.backup").stat().st_mode & 0o777) == ((tmp_path / "all.backup").stat().st_size, 0o600)
    assert {one.name for one in before.tables if one.rows} >= {"outcome", "completion", "ledger", "router", "lease"}
    with Registry.unmade(elsewhere) as other:
        assert other.backups.restore(tmp_path / "all.backup") == before
        assert other.backups.contents() == before
        assert other.schema_status().is_current
        assert other.ledger.verify().is_intact
        assert other.ledger.verify().head_hash == filled.ledger.verify().head_hash
        assert other.routers.list() == filled.routers.list()
        assert other.damages() == ()


def test_a_copy_has_the_same_digest_and_continues_numbering_where_the_original_stopped(filled, elsewhere):
    with Registry.unmade(elsewhere) as other:
        copied = filled.backups.copy_to(other.backups, NOW)
        assert copied.digest == filled.backups.contents().digest == other.backups.contents().digest
        assert filled.backups.copy_to(other.backups, NOW) == copied, "repeated, it finds everything there"
        for registry in (filled, other):
            run = start_night(registry, "night:2024-09-02:abc")
            assert (run.id, run.lease_number) == (2, 2)
        assert other.backups.contents().tables == filled.backups.contents().tables


def test_rows_of_two_registries_are_never_mixed(filled, elsewhere, tmp_path):
    filled.backups.write(tmp_path / "all.backup", NOW)
    with Registry.open(elsewhere) as other:
        other.ledger.append("test:row:added", "theirs", actor="bob", now=NOW)
        theirs = other.backups.contents()
        with pytest.raises(RegistryError, match="holds rows already") as caught:
            filled.backups.copy_to(other.backups, NOW)
        assert exit_code_of(caught.value) == ExitCode.CONFIGURATION
        with pytest.raises(RegistryError, match="holds rows already"):
            other.backups.restore(tmp_path / "all.backup")
        assert other.backups.contents() == theirs


def test_a_backup_made_while_others_write_is_one_moment(filled, tmp_path, elsewhere):
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with filled.unit() as unit:
                filled.ledger.append("test:pair:added", "one", actor="t", now=NOW, unit=unit)
                filled.ledger.append("test:pair:added", "two", actor="t", now=NOW, unit=unit)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while filled.ledger.count() < 20:
            pass
        filled.backups.write(tmp_path / "all.backup", NOW)
    finally:
        stop.set()
        writer.join()
    with Registry.unmade(elsewhere) as other:
        other.backups.restore(tmp_path / "all.backup")
        check = other.ledger.verify()
        assert check.is_intact
        assert len(other.ledger.events(event="test:pair:added")) % 2 == 0, "no half of a transaction"


def rewritten(file: Path, change) -> None:
    lines = gzip.decompress(file.read_bytes()).decode("ascii").splitlines()
    file.write_bytes(gzip.compress("\n".join(change(lines)).encode("ascii") + b"\n"))


def swapped(lines):
    place = next(place for place, line in enumerate(lines) if '"completed"' in line)
    return [*lines[:place], lines[place].replace("fine", "f1ne").replace("completed", "failed"), *lines[place + 1 :]]


def hostile(lines):
    header = json.loads(lines[0])
    header["tables"][0]["columns"][0] = "number\") FROM PROGRAM 'true' --"
    return [json.dumps(header), *lines[1:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[: len(lines) // 2],
        lambda lines: [line for line in lines if '"night:2024-09-01:abc"' not in line],
        swapped,
        hostile,
        lambda lines: [lines[0].replace('"uniroute_backup": 1', '"uniroute_backup": 2'), *lines[1:]],
        lambda lines: ["{}"],
    ],
    ids=["no-end", "half", "row-missing", "row-changed", "hostile-name", "other-form", "no-head"],
)
def test_a_backup_that_is_not_whole_is_refused_and_nothing_of_it_stays(filled, elsewhere, tmp_path, change):
    file = tmp_path / "all.backup"
    filled.backups.write(file, NOW)
    rewritten(file, change)
    with Registry.unmade(elsewhere) as other:
        for read in (other.backups.inspect, other.backups.restore):
            with pytest.raises(RegistryCorrupt) as caught:
                read(file)
            assert exit_code_of(caught.value) == ExitCode.INTEGRITY
        assert other.backups.contents_or_none() is None, "not even tables were created"


@pytest.mark.parametrize("cut", [0, 10, 0.5])
def test_a_backup_cut_off_by_a_full_disk_is_refused(filled, elsewhere, tmp_path, cut):
    file = tmp_path / "all.backup"
    filled.backups.write(file, NOW)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * cut) if cut < 1 else cut])
    with Registry.unmade(elsewhere) as other:
        with pytest.raises(RegistryCorrupt):
            other.backups.restore(file)
        assert other.backups.contents_or_none() is None


def test_a_backup_of_a_newer_uniroute_is_refused(filled, elsewhere, tmp_path):
    file = tmp_path / "all.backup"
    filled.backups.write(file, NOW)
    head = filled.schema_status().head
    rewritten(file, lambda lines: [lines[0].replace(f'"schema": "{head}"', '"schema": "9999"'), *lines[1:]])
    with Registry.unmade(elsewhere) as other, pytest.raises(SchemaMismatch, match="has schema 9999"):
        other.backups.restore(file)


def test_no_file_is_overwritten_and_a_missing_one_is_named(registry, tmp_path):
    file = tmp_path / "all.backup"
    file.write_text("precious")
    with pytest.raises(RegistryError, match="already exists"):
        registry.backups.write(file, NOW)
    assert file.read_text() == "precious"
    with pytest.raises(NotFound, match="there is no file"):
        registry.backups.restore(tmp_path / "other.backup")
    with pytest.raises(RegistryError, match="cannot be written"):
        registry.backups.write(tmp_path / "no" / "folder", NOW)
    assert [one.name for one in tmp_path.iterdir() if "backup" in one.name] == ["all.backup"]


def test_one_changed_value_anywhere_changes_the_digest(filled, url):
    before = filled.backups.contents().digest
    break_in(url, "UPDATE llm SET name = 'changed' WHERE id = 1")
    assert filled.backups.contents().digest != before


def test_a_line_longer_than_any_row_or_than_the_memory_is_damage(registry, tmp_path, monkeypatch):
    file = tmp_path / "one-line.backup"
    with gzip.open(file, "wb", compresslevel=1) as written:
        written.write(b"[" + b"7" * 5_000_000)
    monkeypatch.setattr(backups, "LONGEST_LINE", 1_000_000)
    with pytest.raises(RegistryCorrupt, match="a line of more than 1,000,000 characters") as caught:
        registry.backups.inspect(file)
    assert exit_code_of(caught.value) == ExitCode.INTEGRITY

    def no_memory(_lines):
        raise MemoryError

    monkeypatch.setattr(backups, "_bounded", no_memory)
    with pytest.raises(RegistryCorrupt, match="more memory than this process has"):
        registry.backups.inspect(file)
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:200] + b"\xff\x00\xff" * 50)
    with pytest.raises(RegistryCorrupt):
        registry.backups.inspect(file)
