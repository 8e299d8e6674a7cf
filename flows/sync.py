"""Stage one: what the catalogs list today, and what changed since the last night."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.catalogs import Catalog
from flows.errors import CatalogError, CatalogUnavailable
from flows.night import Night
from registry.llms import CatalogDiff


@task(
    name="sync-catalog",
    task_run_name="sync {name}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=lambda _task, _run, state: isinstance(state.result(raise_on_failure=False), CatalogUnavailable),
)
def sync_catalog(night: Night, catalog: Catalog, name: str, rank: int) -> CatalogDiff:
    """Fetch a catalog and record it; asked again only when it did not answer."""
    return night.registry.llms.record_fetch(night.run, catalog.fetch(), night.as_of, rank=rank)


def sync(night: Night, catalogs: Sequence[Catalog]) -> tuple[tuple[CatalogDiff, ...], tuple[str, ...]]:
    """Sync every catalog; one that fails leaves yesterday's listings as they are.

    Returns
    -------
    tuple
        What changed, catalog by catalog, and one line for each catalog that could not be read.

    Raises
    ------
    CatalogError
        No catalog at all could be read.
    """
    diffs: list[CatalogDiff] = []
    failures: list[CatalogError] = []
    for rank, catalog in enumerate(catalogs):
        try:
            diffs.append(sync_catalog(night, catalog, catalog.name, rank))
        except CatalogError as error:
            failures.append(error)
    if failures and not diffs:
        raise failures[0]
    return tuple(diffs), tuple(error.message for error in failures)
