"""Alembic's environment; run it through ``uniroute db migrate``."""
