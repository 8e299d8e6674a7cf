"""A price is exact or refused; none can make an LLM routable by accident."""

import json
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from flows.catalogs import Catalog
from flows.catalogs.prices import (
    LEAST_USD_PER_MTOK,
    MOST_USD_PER_MTOK,
    highest_price,
    is_positive,
    listed_price,
    per_mtok,
)
from tests.flows.catalogs.conftest import openrouter_row
from tests.properties import examples

CatalogOf = Callable[..., Catalog]


@pytest.mark.parametrize(
    ("per_token", "usd_per_mtok"),
    [
        ("0.000001", "1"),
        ("0.00000045", "0.45"),
        ("0.0000000833333333333333", "0.0833333333333333"),
        ("1e-6", "1"),
        ("+0.00001", "10"),
        ("0.00006", "60"),
        (".000002", "2"),
        (Decimal("7.999999999999999E-7"), "0.7999999999999999"),
        (Decimal("0.001"), "1000"),
    ],
)
def test_a_price_per_token_becomes_exact_per_million_tokens(per_token: object, usd_per_mtok: str) -> None:
    price = listed_price(per_mtok(per_token), per_mtok(per_token), is_free_allowed=False)

    assert price.refusal is None
    assert (str(price.input_usd_per_mtok), str(price.output_usd_per_mtok)) == (usd_per_mtok, usd_per_mtok)


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (None, "price missing"),
        ("", "price missing"),
        ("-1", "negative input price -1"),
        (-1, "negative input price -1"),
        (Decimal("-0.000001"), "negative input price -0.000001"),
        ("0", "zero price, not allow-listed"),
        ("0.000", "zero price, not allow-listed"),
        ("-0", "zero price, not allow-listed"),
        (0, "zero price, not allow-listed"),
        (Decimal("0.0"), "zero price, not allow-listed"),
        ("NaN", "input price is not a number"),
        ("Infinity", "input price is not a number"),
        (Decimal("NaN"), "input price is not a number"),
        (Decimal("-Infinity"), "input price is not a number"),
        (float("nan"), "input price is not a number"),
        (True, "input price is not a number"),
        (False, "input price is not a number"),
        ("free", "input price is not a number"),
        ("0.000001 USD", "input price is not a number"),
        ("1,5", "input price is not a number"),
        ("٠.٥", "input price is not a number"),
        ("0x1", "input price is not a number"),
        ("1_0", "input price is not a number"),
        ("1" * 5000, "input price is not a number"),
        (10**4000, "input price is not a number"),
        ([1], "input price is not a number"),
        ({"usd": 1}, "input price is not a number"),
        ("0.5", "implausible input price of 500000 USD per million tokens, a mistake of unit?"),
        ("1e400", "implausible input price of 1e+406 USD per million tokens, a mistake of unit?"),
        ("1e-30", "implausible input price of 1e-24 USD per million tokens, a mistake of unit?"),
    ],
)
def test_an_invalid_price_is_refused_with_its_reason(listed: object, reason: str) -> None:
    price = listed_price(per_mtok(listed), per_mtok("0.000001"), is_free_allowed=False)

    assert (price.input_usd_per_mtok, price.output_usd_per_mtok, price.refusal) == (None, None, reason)


def test_the_output_price_is_judged_like_the_input_price() -> None:
    assert listed_price(1, "-1", is_free_allowed=False).refusal == "negative output price -1"


def test_zero_is_a_price_only_for_what_the_user_calls_free() -> None:
    assert listed_price("0", "0", is_free_allowed=True).input_usd_per_mtok == 0
    assert listed_price("-1", "0", is_free_allowed=True).refusal == "negative input price -1"
    assert listed_price("1e-9", "0", is_free_allowed=True).refusal.startswith("implausible")


def test_of_several_prices_the_highest_counts_and_an_unreadable_one_is_not_overlooked() -> None:
    assert highest_price(["0.1", "0.3", Decimal("0.2")]) == "0.3"
    assert highest_price(["0.1", "-1", "0.3"]) == "-1"
    assert highest_price([]) is None


@pytest.mark.parametrize(("fee", "counts"), [(None, False), ("0", False), ("0.01", True), ("-1", False), ("?", True)])
def test_a_fee_that_cannot_be_read_counts_as_one(fee: object, counts: bool) -> None:
    assert is_positive(fee) is counts


NUMERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=8),
    st.sampled_from(["-1", "0", "-0", "0.0", "1e-400", "NaN", "inf", "0.000001", "1e-7", "5"]),
)


@given(prompt=NUMERALS, completion=NUMERALS, is_per_token=st.booleans())
def test_no_price_but_a_positive_finite_plausible_one_is_usable(
    prompt: object, completion: object, is_per_token: bool
) -> None:
    pair = (per_mtok(prompt), per_mtok(completion)) if is_per_token else (prompt, completion)
    price = listed_price(*pair, is_free_allowed=False)

    if price.refusal is None:
        amounts = (price.input_usd_per_mtok, price.output_usd_per_mtok)
        assert all(type(amount) is Decimal and amount.is_finite() for amount in amounts)
        assert all(LEAST_USD_PER_MTOK <= amount <= MOST_USD_PER_MTOK for amount in amounts)
    else:
        assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (None, None)


JSON_NUMERALS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.decimals().map(str), st.text(max_size=8)
)


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(JSON_NUMERALS, JSON_NUMERALS), min_size=1, max_size=6))
def test_no_listing_without_a_real_price_is_ever_routable(catalog_of: CatalogOf, rows: list[tuple]) -> None:
    listed = [
        openrouter_row(f"llm-{place}", pricing={"prompt": prompt, "completion": completion})
        for place, (prompt, completion) in enumerate(rows)
    ]
    sound = openrouter_row("sound")
    fetch = catalog_of(json.dumps({"data": [*listed, sound]})).fetch()

    assert len(fetch.listings) + len(fetch.quarantined) == len(rows) + 1
    for listing in fetch.listings:
        amounts = (listing.input_usd_per_mtok, listing.output_usd_per_mtok)
        if listing.refusal is None:
            assert all(amount is not None and amount.is_finite() and amount > 0 for amount in amounts)
    assert fetch.listings[-1].llm_id == "sound"
    assert fetch.listings[-1].refusal is None
