"""LiteLLM's price map: one row per id, prices as numbers in USD per token, all providers in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flows.catalogs.documents import Row, rows_of_map
from flows.catalogs.facts import Facts, RowRefused, day_moment, identifier, lacks_text, mapping, token_count
from flows.catalogs.prices import ListedPrice, highest_price, is_positive, listed_price, per_mtok, search_fee

_EXAMPLE = "sample_spec"
_FEES_PER_REQUEST = (
    "input_cost_per_request",
    "output_cost_per_request",
    "cost_per_request",
    "input_cost_per_query",
    "cost_per_query",
)


@dataclass(frozen=True)
class LiteLLMFormat:
    """Read LiteLLM's price map: rows of mode ``chat``, of one provider when that is set.

    Refused are LLMs that do not write text, and those billed per request, search, citation or second, which the price
    per token does not show. A price map has no release dates. Of tiered prices, those for the shortest prompts count.

    Attributes
    ----------
    provider
        Only rows with this `litellm_provider`; all when empty.
    prefix
        How ids start here but not at the endpoint; rows without it keep their id.
    """

    provider: str = ""
    prefix: str = ""

    def rows(self, text: str) -> Iterator[Row]:
        """Split the document into rows, without the example row."""
        return (row for row in rows_of_map(text) if row.key != _EXAMPLE)

    def read(self, row: Row, is_free: Callable[[str], bool]) -> Facts | None:
        """Read one row; return None for anything but a chat LLM of the provider."""
        value = mapping(row.value, "the row")
        if value.get("mode") != "chat" or (self.provider and value.get("litellm_provider") != self.provider):
            return None
        llm_id = identifier(identifier(row.key).removeprefix(self.prefix))
        return Facts(
            llm_id=llm_id,
            name=llm_id,
            context_tokens=token_count(value.get("max_input_tokens", value.get("max_tokens"))),
            deprecated_at=day_moment(value.get("deprecation_date"), "deprecation_date"),
            price=_price(value, is_free_allowed=is_free(llm_id)),
            refusal=_refusal(str(row.key), value),
        )


def _price(value: Mapping[str, Any], *, is_free_allowed: bool) -> ListedPrice:
    shortest = _shortest_tier(value.get("tiered_pricing"))
    input_price = value.get("input_cost_per_token", shortest.get("input_cost_per_token"))
    output_price = value.get("output_cost_per_token", shortest.get("output_cost_per_token"))
    # Hidden reasoning is billed too; where it costs more than the visible answer, the answer may cost as much.
    reasoning = value.get("output_cost_per_reasoning_token", shortest.get("output_cost_per_reasoning_token"))
    if is_positive(reasoning) and is_positive(output_price):
        output_price = highest_price([output_price, reasoning])
    return listed_price(per_mtok(input_price), per_mtok(output_price), is_free_allowed=is_free_allowed)


def _shortest_tier(tiers: Any) -> Mapping[str, Any]:
    if tiers is None:
        return {}
    if not isinstance(tiers, list) or not all(isinstance(tier, dict) for tier in tiers):
        raise RowRefused("tiered_pricing is not a list of prices")
    return next((tier for tier in tiers if _starts_at_zero(tier.get("range"))), {})


def _starts_at_zero(span: Any) -> bool:
    return isinstance(span, list) and bool(span) and span[0] == 0


def _refusal(key: str, value: Mapping[str, Any]) -> str | None:
    if lacks_text(value.get("supported_output_modalities")):
        return "no text output"
    if any(is_positive(value.get(fee)) for fee in _FEES_PER_REQUEST):
        return "fee per request"
    if is_positive(value.get("citation_cost_per_token")):
        return "fee per citation"
    if any(
        is_positive(value.get(fee)) for fee in ("input_cost_per_second", "output_cost_per_second", "cost_per_second")
    ):
        return "billed per second"
    return search_fee(f"{value.get('litellm_provider')}/{key}", value.get("search_context_cost_per_query"))
