"""The analyst views on each database that the registry runs on."""

from tests.registry.conftest import backend, migrated, registry, url

__all__ = ["backend", "migrated", "registry", "url"]
