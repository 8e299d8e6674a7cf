"""SQL that is written once for a process: engines of all tests share what SQLAlchemy has compiled.

SQLAlchemy keeps compiled statements by engine, and every test opens engines of its own: a fifth of a registry test was
the same statements, compiled again. Statements are executed as ever.
"""

from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.util import LRUCache

_KEPT = 5000


class SharedStatements:
    """Compiled statements, by the kind of dialect in place of the dialect of one engine."""

    def __init__(self) -> None:
        self._kept: LRUCache = LRUCache(_KEPT)

    @staticmethod
    def _key(key: tuple) -> tuple:
        dialect = key[0]
        version = getattr(dialect, "server_version_info", None)
        return (type(dialect), dialect.paramstyle, version, *key[1:])

    def get(self, key: tuple) -> Any:
        return self._kept.get(self._key(key))

    def __setitem__(self, key: tuple, compiled: Any) -> None:
        self._kept[self._key(key)] = compiled


def share_statements() -> None:
    """Let every engine of this process use the same statements."""
    shared = SharedStatements()

    def use(connection: Connection) -> None:
        connection.execution_options(compiled_cache=shared)

    event.listen(Engine, "engine_connect", use)
