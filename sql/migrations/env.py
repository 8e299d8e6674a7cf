"""Run migrations on the connection that the registry hands over, or on ``-x url=...`` from Alembic's own command."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.types import TypeDecorator

from registry.db.database import Database
from registry.db.tables import VERSION_TABLE, metadata


def render_plain_types(kind: str, item: Any, _autogenerate: Any) -> str | bool:
    """Write columns with the plain type below ours: an applied migration must not change with the code."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def run(connection: Connection) -> None:
    """Apply what is asked for inside the caller's transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        render_as_batch=True,
        transactional_ddl=True,
        render_item=render_plain_types,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    database = Database(context.get_x_argument(as_dictionary=True)["url"])
    with database.migration() as opened:
        run(opened)
    database.close()
