"""What all catalogs of a night say together about one LLM, whatever the order in which they are read.

A catalog that a person wrote (precedence 0) decides before the list of the endpoint, and that before a price map;
a catalog that says nothing of a price leaves it to the next. Prices that differ by an order of magnitude are doubted.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from registry.listings import ENDPOINT_PRECEDENCE, PRICE_MISSING, Listing
from registry.prices import LARGEST_CHANGE, Price

SAME_NAME_CHANGE = 100
"""How many times more one endpoint may ask for an LLM than others for that of the same name; in three releases of a
public price map and three days of a catalog, no two real prices are that far apart."""

_LEAST_NAME_CHARACTERS = 4
_MANY = 50


@dataclass(frozen=True)
class RankedListing:
    """A listing, and the precedence of its catalog."""

    precedence: int
    listing: Listing


@dataclass(frozen=True)
class Offer:
    """One LLM as all catalogs of a night describe it.

    Attributes
    ----------
    listing
        The listing of the deciding catalog, with what only others know.
    precedence
        That of the deciding catalog.
    price
        The price, with the catalog that it comes from; None without a usable one.
    refusal
        Why it must not be routed to; None when nothing speaks against it.
    doubt
        Why the price must be reviewed before it counts: other catalogs disagree. None when they do not.
    is_price_unknown
        Whether no catalog says anything of a price.
    """

    listing: Listing
    precedence: int
    price: Price | None
    refusal: str | None
    doubt: str | None
    is_price_unknown: bool


def offer_of(listings: Iterable[RankedListing], on: date) -> Offer:
    """Combine the listings of one LLM.

    Parameters
    ----------
    listings
        At least one, in any order.
    on
        The day from which the price counts.
    """
    ranked = sorted(listings, key=lambda one: (one.precedence, one.listing.catalog))
    first = ranked[0]
    refusal = _refusal(ranked)
    deciding = _deciding_price([*ranked])
    price = _usable_price(deciding.listing, on) if deciding is not None and refusal is None else None
    if refusal is None and price is None:
        refusal = _price_refusal(deciding.listing if deciding is not None else first.listing)
    return Offer(
        listing=_with_facts_of_all(ranked),
        precedence=first.precedence,
        price=price,
        refusal=refusal,
        doubt=None if price is None else _disagreement(price, [one.listing for one in ranked]),
        is_price_unknown=deciding is None,
    )


def _refusal(ranked: Sequence[RankedListing]) -> str | None:
    """Return why the LLM itself is refused; where a person lists it, only that person's word counts."""
    heard = [one for one in ranked if one.precedence == 0] or ranked
    return next((r.listing.refusal for r in heard if r.listing.refusal and not r.listing.is_price_refused), None)


def _deciding_price(ranked: list[RankedListing]) -> RankedListing | None:
    """Return the listing whose price, or whose refusal of one, counts; None when no catalog says anything of a price.

    Among catalogs of one precedence a refused price counts before any other, and the most expensive before the others.
    """

    def rank(one: RankedListing) -> tuple[int, bool, Decimal, Decimal, str]:
        pair = _amounts(one.listing)
        cost = (-pair[1], -pair[0]) if pair is not None else (Decimal(0), Decimal(0))
        return (one.precedence, pair is not None, *cost, one.listing.catalog)

    return min((one for one in ranked if not _says_nothing(one.listing)), key=rank, default=None)


def _says_nothing(one: Listing) -> bool:
    is_missing = one.refusal is None or (one.is_price_refused and one.refusal.startswith(PRICE_MISSING))
    return is_missing and None in (one.input_usd_per_mtok, one.output_usd_per_mtok)


def _amounts(one: Listing) -> tuple[Decimal, Decimal] | None:
    """Return the prices of input and output; None unless both are finite and not negative."""
    pair = (one.input_usd_per_mtok, one.output_usd_per_mtok)
    if one.refusal is not None or any(amount is None or not amount.is_finite() or amount < 0 for amount in pair):
        return None
    return pair  # type: ignore[return-value]


def _usable_price(one: Listing, on: date) -> Price | None:
    pair = _amounts(one)
    return None if pair is None else Price(*pair, on, one.catalog)


def _price_refusal(one: Listing) -> str:
    if one.refusal is not None:
        return one.refusal
    is_missing = None in (one.input_usd_per_mtok, one.output_usd_per_mtok)
    return PRICE_MISSING if is_missing else "price is not a finite, non-negative number"


def _with_facts_of_all(ranked: Sequence[RankedListing]) -> Listing:
    """Return the first listing; what it lacks comes from the first that has it.

    Only what decides, or the endpoint itself, says that an LLM is retired: the dates of price maps are often wrong.
    """
    listings = [one.listing for one in ranked]
    believed = [one.listing for one in ranked if one.precedence <= max(ranked[0].precedence, ENDPOINT_PRECEDENCE)]

    def first(name: str, among: Sequence[Listing]) -> object:
        return next((value for one in among if (value := getattr(one, name)) is not None), None)

    return replace(
        listings[0],
        name=next((one.name for one in listings if one.name != one.llm_id), listings[0].name),
        **{name: first(name, listings) for name in ("canonical_id", "released_at", "context_tokens")},
        deprecated_at=first("deprecated_at", believed),
    )


def _disagreement(price: Price, listings: Iterable[Listing]) -> str | None:
    for one in listings:
        pair = _amounts(one)
        if one.catalog != price.catalog and pair is not None:
            doubt = _far_apart(price, pair, LARGEST_CHANGE, f"the price in {one.catalog}")
            if doubt is not None:
                return doubt
    return None


def _far_apart(price: Price, other: tuple[Decimal, Decimal], factor: int, what: str) -> str | None:
    sides = (("input", price.input_usd_per_mtok, other[0]), ("output", price.output_usd_per_mtok, other[1]))
    for side, mine, theirs in sides:
        # A price of zero was allow-listed by the user, whatever others ask.
        if mine > 0 and theirs > 0 and not (mine <= theirs * factor and theirs <= mine * factor):
            return f"{side} price is x{mine / theirs:.3g} of {what}, held for review"
    return None


class SameNames:
    """Prices of LLMs by the name that they have at every endpoint, to notice a mistake of unit in one of them."""

    def __init__(self) -> None:
        self._prices: defaultdict[str, dict[str, Price]] = defaultdict(dict)
        self._usual: dict[str, tuple[Decimal, Decimal] | None] = {}

    def add(self, key: str, price: Price) -> None:
        """Note the price of an LLM; a later one replaces it."""
        name = _common_name(key)
        if name is not None:
            self._prices[name][key] = price
            self._usual.pop(name, None)

    def doubt(self, key: str, price: Price) -> str | None:
        """Return why a price is doubted; None when it is like that of others, or when there are none."""
        name = _common_name(key)
        named = self._prices.get(name, {}) if name is not None else {}
        if name is None or len(named) <= _MANY:
            usual = _median(one for other, one in named.items() if other != key)
        else:
            # Among many the price itself hardly counts, and all of them have the same median.
            if name not in self._usual:
                self._usual[name] = _median(named.values())
            usual = self._usual[name]
        return None if usual is None else _far_apart(price, usual, SAME_NAME_CHANGE, f"what others ask for {name}")


def _median(prices: Iterable[Price]) -> tuple[Decimal, Decimal] | None:
    """Return the medians of the prices of input and of output that are not zero; None when there are none."""
    known = list(prices)
    inputs = [one.input_usd_per_mtok for one in known if one.input_usd_per_mtok > 0]
    outputs = [one.output_usd_per_mtok for one in known if one.output_usd_per_mtok > 0]
    return (statistics.median(inputs), statistics.median(outputs)) if inputs and outputs else None


def _common_name(key: str) -> str | None:
    """Return the last part of an id without its variant; None for one that could mean any LLM."""
    llm_id = key.partition(":")[2].rpartition("/")[2]
    name = re.split("[:@]", llm_id, maxsplit=1)[0].lower().replace(".", "-")
    is_telling = len(name) >= _LEAST_NAME_CHARACTERS and any(character.isdigit() for character in name)
    return name if is_telling else None
