"""What a catalog lists on one day, and what that changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from registry.prices import Price


@dataclass(frozen=True)
class Listing:
    """One row of a catalog as fetched, and what was understood of it.

    Attributes
    ----------
    catalog, endpoint
        Where it was listed and where it is called.
    llm_id
        The id the endpoint knows it by.
    canonical_id
        The dated identity behind an alias, when the catalog names it.
    name
        What people call it; untrusted text.
    released_at
        When it appeared; a listing with a future date is kept but not visible yet.
    context_tokens
        Size of the context window, in tokens.
    input_usd_per_mtok, output_usd_per_mtok
        Price in USD per million tokens; None when unknown or refused.
    refusal
        Why it must not be routed to; None when nothing speaks against it.
    deprecated_at
        Announced day of its withdrawal.
    raw
        The row as fetched, as JSON text.
    """

    catalog: str
    endpoint: str
    llm_id: str
    canonical_id: str | None
    name: str
    released_at: datetime | None
    context_tokens: int | None
    input_usd_per_mtok: Decimal | None
    output_usd_per_mtok: Decimal | None
    refusal: str | None
    deprecated_at: datetime | None
    raw: str

    @property
    def llm_key(self) -> str:
        """The key of the LLM: the same id at the same endpoint is the same LLM in every catalog."""
        return f"{self.endpoint}:{self.llm_id}"


@dataclass(frozen=True)
class QuarantinedRow:
    """A row of a catalog that could not be understood; the others are used."""

    position: int
    reason: str
    raw: str


@dataclass(frozen=True)
class CatalogFetch:
    """What one catalog listed on one occasion."""

    catalog: str
    listings: tuple[Listing, ...]
    quarantined: tuple[QuarantinedRow, ...]
    is_complete: bool
    digest: str


@dataclass(frozen=True)
class Repricing:
    """A listed price that changed; None stands for no usable price."""

    llm_key: str
    before: Price | None
    after: Price | None


@dataclass(frozen=True)
class CatalogDiff:
    """What one fetch changed.

    Attributes
    ----------
    catalog
        Which catalog.
    new
        Keys never seen before in this registry and visible on that day.
    withdrawn
        Keys that were available and that a complete, plausible fetch no longer lists.
    returned
        Keys that were withdrawn and are listed again.
    repriced
        Every LLM whose listed price changed.
    held
        Those of `repriced` whose change is implausible: the old price stays and the LLM waits for review.
    is_suspicious
        Why absences were not believed; None when the fetch was plausible.
    """

    catalog: str
    new: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    repriced: tuple[Repricing, ...] = ()
    held: tuple[str, ...] = ()
    is_suspicious: str | None = None


@dataclass(frozen=True)
class DatedDiff:
    """What the fetches of one catalog in one run changed, and on which day of the catalog."""

    on: date
    diff: CatalogDiff
