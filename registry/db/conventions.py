"""What the tables of the registry have in common: the names of their constraints, and columns of a kind."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, MetaData, String, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def digest(name: str, *rest: ForeignKey, **options: bool) -> Column[str]:
    """Return a column for a SHA-256 in hexadecimal digits."""
    return Column(name, String(64), *rest, **options)


def one_of(column: str, allowed: tuple[str, ...]) -> CheckConstraint:
    """Return the constraint that a column holds one of some words."""
    listed = ", ".join(f"'{value}'" for value in allowed)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def index_of_known(name: str, *columns: str, known: str) -> Index:
    """Return an index of only those rows in which one column has a value."""
    where = text(f"{known} IS NOT NULL")
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)
