"""Ways to damage stored data, each undone when its context ends."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def flipped(path: Path, place: int = -2) -> Iterator[None]:
    """Flip one bit of a file."""
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[place % len(whole)] ^= 1
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(whole)


def other(value: object) -> object:
    """Return a value that differs in one bit, or by one."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) if len(value) == 1 else value[:-2] + bytes([value[-2] ^ 1]) + value[-1:]
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1)
    if isinstance(value, float):
        return value + 2**-40
    return value + 1 if value is not None else 1


@contextmanager
def changed_cell(database: Path, table: str, column: str, where: str, value_instead: object = None) -> Iterator[None]:
    """Change one cell of a database with its triggers disabled, by one bit unless a value is given."""
    with sqlite3.connect(database) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", [table]
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        keys = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
        columns = ", ".join([column, *keys])
        value, *key = connection.execute(f"SELECT {columns} FROM {table} WHERE {where} LIMIT 1").fetchone()
        row = " AND ".join(f"{name} = ?" for name in keys)
        instead = other(value) if value_instead is None else value_instead
        assert instead != value
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {row}", [instead, *key])
        key = [instead if name == column else part for name, part in zip(keys, key, strict=True)]
    try:
        yield
    finally:
        with sqlite3.connect(database) as connection:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {row}", [value, *key])
            for _, statement in triggers:
                connection.execute(statement)
        connection.close()
