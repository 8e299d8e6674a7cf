"""The users and databases that the service `postgres` creates: each server may do what it must, and no more."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from registry.store import Registry
from tests.docker.conftest import PASSWORDS, Databases
from tests.docker.topology import DATABASES, DOCKER, Container, command_of, environment_of

each_user = pytest.mark.parametrize("user", sorted(DATABASES))


@pytest.fixture
def given(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Write every user's password for this process, as the entrypoint does for a server."""
    container = Container(tmp_path)
    container.give(**{f"{user}_db_password": password for user, password in PASSWORDS.items()})
    subprocess.run([DOCKER / "entrypoint.sh", "true"], env=container.environment, check=True)
    monkeypatch.setenv("PGPASSFILE", container.environment["PGPASSFILE"])
    return container


def run(databases: Databases, user: str, database: str, *statements: str) -> list[tuple]:
    engine = create_engine(databases.found(f"postgresql+psycopg://{user}@postgres/{database}"), poolclass=NullPool)
    rows: list[tuple] = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            result = connection.execute(text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
    return rows


@each_user
def test_a_user_makes_what_it_likes_in_its_databases(given: Container, databases: Databases, user: str) -> None:
    for database in DATABASES[user]:
        found = run(
            databases,
            user,
            database,
            "CREATE TABLE made (x integer)",
            "INSERT INTO made VALUES (1)",
            "SELECT x FROM made",
        )
        assert found == [(1,)]
        run(databases, user, database, "DROP TABLE made")


@each_user
def test_a_user_enters_no_database_of_others(given: Container, databases: Databases, user: str) -> None:
    others = {name for names in DATABASES.values() for name in names} - set(DATABASES[user])
    for database in {*others, "postgres", "template1"}:
        with pytest.raises(DBAPIError, match="permission denied for database"):
            run(databases, user, database, "SELECT 1")


@each_user
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE more",
        "CREATE DATABASE more",
        "ALTER ROLE {user} SUPERUSER",
        "SET ROLE postgres",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_a_user_may_do_nothing_to_the_server(given: Container, databases: Databases, user: str, statement: str) -> None:
    with pytest.raises(DBAPIError, match=r"permission denied|must be|superuser"):
        run(databases, user, DATABASES[user][0], statement.format(user=user))


def test_only_the_right_password_opens_a_database(
    given: Container, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    given.give(uniroute_db_password="another")
    subprocess.run([DOCKER / "entrypoint.sh", "true"], env=given.environment, check=True)
    with pytest.raises(DBAPIError, match="password authentication failed"):
        run(databases, "uniroute", "uniroute", "SELECT 1")
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    with pytest.raises(DBAPIError, match="no password supplied"):
        run(databases, "uniroute", "uniroute", "SELECT 1")


def test_the_registry_opens_and_migrates_at_the_address_of_compose(given: Container, databases: Databases) -> None:
    url = databases.found(environment_of("setup")["UNIROUTE_REGISTRY__URL"])
    with Registry.open(url) as registry:
        assert registry.schema_status().is_current


def test_prefects_driver_takes_its_password_from_the_same_file(given: Container, databases: Databases) -> None:
    """Prefect's server opens its database with asyncpg, which is not built on libpq and reads the file on its own."""
    url = databases.found(environment_of("prefect")["PREFECT_API_DATABASE_CONNECTION_URL"])

    async def who() -> str:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            return (await connection.execute(text("SELECT current_user"))).scalar_one()

    assert asyncio.run(who()) == "prefect"


def test_mlflow_is_sent_to_its_own_databases() -> None:
    store = next(part for part in command_of("mlflow") if part.startswith("--backend-store-uri="))
    users = (DOCKER / "mlflow" / "basic-auth.ini").read_text(encoding="utf-8")
    urls = [make_url(store.split("=", 1)[1]), make_url(users.split("database_uri = ")[1].splitlines()[0])]
    assert [(url.username, url.password, url.database) for url in urls] == [
        ("mlflow", None, name) for name in DATABASES["mlflow"]
    ]


def test_running_the_script_again_changes_passwords_and_keeps_data(given: Container, databases: Databases) -> None:
    run(databases, "prefect", "prefect", "CREATE TABLE kept (x integer)")
    databases.container.give(prefect_db_password="rotated")
    try:
        assert databases.make().returncode == 0
        with pytest.raises(DBAPIError, match="password authentication failed"):
            run(databases, "prefect", "prefect", "SELECT 1")
        given.give(prefect_db_password="rotated")
        subprocess.run([DOCKER / "entrypoint.sh", "true"], env=given.environment, check=True)
        assert run(databases, "prefect", "prefect", "SELECT count(*) FROM kept") == [(0,)]
        run(databases, "prefect", "prefect", "DROP TABLE kept")
    finally:
        databases.container.give(prefect_db_password=PASSWORDS["prefect"])
        assert databases.make().returncode == 0


def test_a_secret_that_is_empty_makes_no_user_and_no_password_is_logged(databases: Databases) -> None:
    databases.container.give(mlflow_db_password="")
    try:
        refused = databases.make()
        assert refused.returncode == 78
        assert "The secret mlflow_db_password is empty" in refused.stderr
    finally:
        databases.container.give(mlflow_db_password=PASSWORDS["mlflow"])
    assert databases.server.folder is not None
    log = (databases.server.folder / "log").read_text(encoding="utf-8")
    assert not any(password in log for password in PASSWORDS.values())


def test_a_dump_of_a_database_is_restored_for_its_user_alone(given: Container, databases: Databases) -> None:
    """With the options of docker/README.md."""
    run(databases, "mlflow", "mlflow", "CREATE TABLE saved AS SELECT 7 AS x", "CREATE VIEW seen AS SELECT x FROM saved")
    dump = databases.program("pg_dump", "--format=custom", "mlflow")
    databases.server.drop("mlflow")
    assert databases.make().returncode == 0
    databases.program("pg_restore", "--exit-on-error", "--no-owner", "--role=mlflow", "--dbname=mlflow", given=dump)
    assert run(databases, "mlflow", "mlflow", "SELECT x FROM seen") == [(7,)]
    run(databases, "mlflow", "mlflow", "DROP VIEW seen", "DROP TABLE saved")
    with pytest.raises(DBAPIError, match="permission denied for database"):
        run(databases, "prefect", "mlflow", "SELECT 1")
