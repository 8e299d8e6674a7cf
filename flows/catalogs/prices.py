"""Prices as catalogs write them: read exactly or refused with a reason, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from typing import Any, Final

LEAST_USD_PER_MTOK: Final = Decimal("0.005")
"""A positive price below this would win every comparison, as zero would; real prices begin at 0.01."""

MOST_USD_PER_MTOK: Final = Decimal(1_500)
"""A price above this is a wrong unit, such as USD per thousand tokens; real prices end at 600."""

_ALWAYS_SEARCHES = re.compile(
    r"(^|[-/:_.~])(perplexity|sonar|search|online|deep[-_]?research)(?=$|[-/:_.@])", re.IGNORECASE
)
_NUMERAL = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_EXACT = Context(prec=200, traps=[Inexact])


@dataclass(frozen=True)
class ListedPrice:
    """The price of a listing, or why it has none.

    Attributes
    ----------
    input_usd_per_mtok, output_usd_per_mtok
        USD per million tokens, exact; both None when `refusal` is set.
    refusal
        Why the listed price must not be used.
    """

    input_usd_per_mtok: Decimal | None
    output_usd_per_mtok: Decimal | None
    refusal: str | None = None


def per_mtok(usd_per_token: Any) -> Any:
    """Turn a price per token into one per million tokens; what is no price stays for `listed_price` to refuse."""
    number = _number(usd_per_token)
    return number.scaleb(6, _EXACT) if number is not None and number.is_finite() and number > 0 else usd_per_token


def listed_price(input_usd_per_mtok: Any, output_usd_per_mtok: Any, *, is_free_allowed: bool) -> ListedPrice:
    """Judge a pair of listed prices.

    Parameters
    ----------
    input_usd_per_mtok, output_usd_per_mtok
        As listed: a `Decimal`, an integer or a numeral, in USD per million tokens.
    is_free_allowed
        Whether the user said that this LLM is free.

    Returns
    -------
    ListedPrice
        The pair, exact, or a refusal: missing, not a number, negative, zero without allowance, or implausible.
    """
    amounts = []
    for side, listed in (("input", input_usd_per_mtok), ("output", output_usd_per_mtok)):
        amount, refusal = _judge(side, listed, is_free_allowed)
        if amount is None:
            return ListedPrice(None, None, refusal)
        amounts.append(amount)
    return ListedPrice(*amounts)


def highest_price(prices: Iterable[Any]) -> Any:
    """Return the highest of several prices of the same thing, or the first that is not a price."""
    highest: Any = None
    for price in prices:
        number = _number(price)
        if number is None or not number.is_finite() or number < 0:
            return price
        if highest is None or number > _number(highest):
            highest = price
    return highest


def is_positive(price: Any) -> bool:
    """Whether this is a number above zero; a fee that cannot be read counts as one."""
    if price is None:
        return False
    number = _number(price)
    return number is None or not number.is_finite() or number > 0


def search_fee(llm_id: str, fees: Any) -> str | None:
    """Return the refusal of an LLM that searches the web for every answer, at a fee; None for any other.

    Most LLMs list such a fee for searches that a request may ask for, which is never done here. Those whose names say
    that they search always charge it, and the price per token does not show it.

    Parameters
    ----------
    llm_id
        The id of the LLM in the catalog, with its maker.
    fees
        As listed: one fee, or several by the size of the search.
    """
    listed = fees.values() if isinstance(fees, dict) else [fees]
    return "fee per search" if _ALWAYS_SEARCHES.search(llm_id) and any(map(is_positive, listed)) else None


def _number(listed: Any) -> Decimal | None:
    if isinstance(listed, bool):
        return None
    if isinstance(listed, int):
        listed = str(listed) if abs(listed) < 10**40 else ""
    if isinstance(listed, Decimal):
        if not listed.is_finite():
            return listed
        listed = str(listed)
    if isinstance(listed, str) and _NUMERAL.fullmatch(listed):
        return Decimal(listed)
    return None


def _judge(side: str, listed: Any, is_free_allowed: bool) -> tuple[Decimal | None, str | None]:
    if listed is None or listed == "":
        return None, "price missing"
    number = _number(listed)
    if number is None or not number.is_finite():
        return None, f"{side} price is not a number"
    if number < 0:
        return None, f"negative {side} price {_short(number)}"
    if number == 0:
        return (Decimal(0), None) if is_free_allowed else (None, "zero price, not allow-listed")
    if not LEAST_USD_PER_MTOK <= number <= MOST_USD_PER_MTOK:
        return None, f"implausible {side} price of {_short(number)} USD per million tokens, a mistake of unit?"
    return _canonical(number), None


def _canonical(number: Decimal) -> Decimal:
    plain = number.normalize(_EXACT)
    return plain if plain.as_tuple().exponent <= 0 else plain.quantize(Decimal(1), context=_EXACT)  # type: ignore[operator]


def _short(number: Decimal) -> str:
    is_long = not Decimal("1e-9") < abs(number) < Decimal("1e12")
    return f"{number:.6g}" if is_long else f"{number.normalize():f}"
