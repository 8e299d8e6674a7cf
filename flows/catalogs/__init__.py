"""Catalogs: where LLMs and their prices are listed. `open_catalog` opens one; its `fetch` reads its present content."""

from __future__ import annotations

from flows.catalogs.catalog import Catalog, CatalogKind, open_catalog

__all__ = ["Catalog", "CatalogKind", "open_catalog"]
