"""The document of OpenRouter's ``/api/v1/models``: prices as numerals in USD per token."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flows.catalogs.claims import ruled_out
from flows.catalogs.documents import Row, rows_of_list
from flows.catalogs.facts import (
    Facts,
    RowRefused,
    day_moment,
    display_name,
    identifier,
    lacks_text,
    mapping,
    optional_identifier,
    release_moment,
    token_count,
)
from flows.catalogs.prices import ListedPrice, highest_price, is_positive, listed_price, per_mtok, search_fee

_LONG_PROMPT_TOKENS = 16_000
"""A more expensive tier that starts above this affects no prompt that is profiled or routed here."""


_PER_REQUEST = re.compile(r"request|query|citation|per_call|per_message", re.IGNORECASE)


class OpenRouterFormat:
    """Read OpenRouter's document.

    Refused are aliases (``~...`` ids, `alias_target`), ``:batch`` variants (they answer within a day, not at once),
    LLMs that neither read nor write text, and those with a fee for every request or search, which the price per token
    does not show.
    ``:free`` variants cost zero and are refused unless allow-listed; ``:thinking``, ``:beta`` and ``:extended`` are
    LLMs of their own. Where a price depends on the hour or starts early in a prompt, the highest one counts; tiers of
    long prompts do not.
    """

    def rows(self, text: str) -> Iterator[Row]:
        """Split the document into rows."""
        return rows_of_list(text, "data")

    def read(self, row: Row, is_free: Callable[[str], bool]) -> Facts:
        """Read one row; `is_free` says which ids the user allow-listed at price zero."""
        value = mapping(row.value, "the row")
        llm_id = identifier(value.get("id"))
        architecture = mapping(value.get("architecture"), "architecture")
        pricing = mapping(value.get("pricing"), "pricing")
        return Facts(
            llm_id=llm_id,
            canonical_id=optional_identifier(value.get("canonical_slug"), "canonical_slug"),
            name=display_name(value.get("name"), llm_id),
            released_at=release_moment(value.get("created")),
            context_tokens=token_count(value.get("context_length")),
            deprecated_at=day_moment(value.get("expiration_date"), "expiration_date"),
            price=_price(pricing, is_free_allowed=is_free(llm_id)),
            refusal=_refusal(llm_id, value, architecture, pricing),
        )


def _price(pricing: Mapping[str, Any], *, is_free_allowed: bool) -> ListedPrice:
    tiers = [pricing, *_early_tiers(pricing.get("overrides"))]
    input_prices = [tier.get("prompt") for tier in tiers if "prompt" in tier]
    output_prices = [tier.get("completion") for tier in tiers if "completion" in tier]
    # Hidden reasoning is billed too; where it costs more than the visible answer, the answer may cost as much.
    reasoning = pricing.get("internal_reasoning")
    if is_positive(reasoning) and is_positive(pricing.get("completion")):
        output_prices.append(reasoning)
    return listed_price(
        per_mtok(highest_price(input_prices)), per_mtok(highest_price(output_prices)), is_free_allowed=is_free_allowed
    )


def _early_tiers(overrides: Any) -> list[Mapping[str, Any]]:
    if overrides is None:
        return []
    if not isinstance(overrides, list) or not all(isinstance(tier, dict) for tier in overrides):
        raise RowRefused("overrides is not a list of prices")
    return [tier for tier in overrides if not _starts_late(tier.get("min_prompt_tokens"))]


def _starts_late(min_prompt_tokens: Any) -> bool:
    return type(min_prompt_tokens) is int and min_prompt_tokens >= _LONG_PROMPT_TOKENS


def _refusal(
    llm_id: str, value: Mapping[str, Any], architecture: Mapping[str, Any], pricing: Mapping[str, Any]
) -> str | None:
    alias_target = value.get("alias_target")
    if alias_target is not None or llm_id.startswith("~"):
        slug = alias_target.get("slug") if isinstance(alias_target, dict) else alias_target
        return f"alias of {display_name(slug, 'another LLM')}"
    if llm_id.endswith(":batch"):
        return "batch variant, does not answer at once"
    if lacks_text(architecture.get("output_modalities")):
        return "no text output"
    if lacks_text(architecture.get("input_modalities")):
        return "no text input"
    if any(is_positive(per_mtok(fee)) for name, fee in pricing.items() if _PER_REQUEST.search(name)):
        return "fee per request"
    return search_fee(llm_id, pricing.get("web_search")) or ruled_out(value)
