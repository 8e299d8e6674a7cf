"""The analyst views on each database that the registry runs on."""

from tests.registry.conftest import backend, migrated, migrated_database, postgres, registry, url

__all__ = ["backend", "migrated", "migrated_database", "postgres", "registry", "url"]
