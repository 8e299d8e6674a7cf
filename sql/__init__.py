"""The schema: Alembic migrations and the analyst views."""
