"""What a catalog lists on one day, and what that changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from registry.prices import Price

NOT_INCLUDED: Final = "not among the included ids"
EXCLUDED: Final = "excluded by the settings"
LEFT_OUT: Final = (NOT_INCLUDED, EXCLUDED)
"""Refusals of LLMs that the settings leave out: such LLMs are hidden."""

ENDPOINT_PRECEDENCE: Final = 1
"""Precedence of a catalog that is the endpoint's own list: after what a person wrote, before a price map of others."""

PRICE_MISSING: Final = "price missing"
"""How the refusal of a catalog begins that says nothing of a price, so that another catalog may say it."""


def llm_key(endpoint: str, llm_id: str) -> str:
    """Return the key of an LLM: the same id at the same endpoint is the same LLM in every catalog."""
    return f"{endpoint}:{llm_id}"


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
    is_price_refused
        Whether `refusal` is about the listed price, which another catalog may supply, and not about the LLM.
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
    is_price_refused: bool = False

    @property
    def llm_key(self) -> str:
        """The key of the LLM."""
        return llm_key(self.endpoint, self.llm_id)


@dataclass(frozen=True)
class QuarantinedRow:
    """A row of a catalog that could not be understood; the others are used."""

    position: int
    reason: str
    raw: str


@dataclass(frozen=True)
class CatalogFetch:
    """What one catalog listed on one occasion.

    Attributes
    ----------
    catalog
        Which catalog.
    listings
        Its rows, without those that the settings leave out.
    quarantined
        Rows that could not be understood.
    is_complete
        Whether nothing is missing, so that absence means something.
    digest
        SHA-256 of the document.
    precedence
        Where several catalogs list an LLM, the one of the lowest precedence decides, then the first by name.
    left_out
        By key, why the settings leave an LLM out: one of `LEFT_OUT`.
    """

    catalog: str
    listings: tuple[Listing, ...]
    quarantined: tuple[QuarantinedRow, ...]
    is_complete: bool
    digest: str
    precedence: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UnreadCatalog:
    """A catalog of the settings that could not be read tonight: what it said before still counts.

    Attributes
    ----------
    name, endpoint, precedence
        As in its fetches.
    leaves_out
        Returns why the settings leave an id out; None when they do not.
    """

    name: str
    endpoint: str
    precedence: int
    leaves_out: Callable[[str], str | None]


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
    n_left_out
        How many LLMs the catalog lists that the settings leave out.
    unlisted
        Keys that the endpoint's own list lacks for the first night although another catalog names them.
    """

    catalog: str
    new: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    repriced: tuple[Repricing, ...] = ()
    held: tuple[str, ...] = ()
    is_suspicious: str | None = None
    n_left_out: int = 0
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatedDiff:
    """What the fetches of one catalog in one run changed, and on which day of the catalog."""

    on: date
    diff: CatalogDiff
