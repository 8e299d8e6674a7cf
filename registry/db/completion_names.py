"""Names for shell completion, read without SQLAlchemy, which takes longer to load than a keystroke may take.

Only an SQLite registry is read, read-only; if anything is wrong with it, there are simply no names.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

_QUERIES = {
    "llm": "SELECT key FROM llm ORDER BY key",
    "router": "SELECT name FROM alias UNION SELECT CAST(mlflow_version AS TEXT) FROM router WHERE mlflow_version > 0",
    "run": "SELECT key FROM run ORDER BY lease_number DESC LIMIT 50",
    "promotion": "SELECT CAST(id AS TEXT) FROM promotion ORDER BY id DESC LIMIT 50",
    "waiting promotion": "SELECT CAST(id AS TEXT) FROM promotion WHERE status = 'requested' ORDER BY id DESC",
}
_BUSY_TIMEOUT_S = 0.1


def names(url: str, kind: str) -> tuple[str, ...]:
    """Return the names of one kind that a registry knows.

    Parameters
    ----------
    url
        Where the registry is, as `Registry.open` takes it.
    kind
        ``llm``, ``router``, ``run``, ``promotion`` or ``waiting promotion``.
    """
    file = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not file.is_file():
        return ()
    try:
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
        try:
            return tuple(row[0] for row in connection.execute(_QUERIES[kind]))
        finally:
            connection.close()
    except sqlite3.Error:
        return ()
