"""The analyst views on each database that the registry runs on."""

from tests.registry.conftest import backend, registry, url

__all__ = ["backend", "registry", "url"]
