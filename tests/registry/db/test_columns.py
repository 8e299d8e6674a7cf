from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, create_engine, select

from registry.db.columns import (
    ExactDecimal,
    ExactText,
    PlainText,
    Usd,
    UtcDateTime,
    array_bytes,
    array_from_bytes,
    from_pico_usd,
    to_pico_usd,
)
from registry.errors import RegistryCorrupt
from routing.errors import InvalidInput

any_text = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=200)


def through_sqlite(kind, value):
    """Write a value and read it back through a real database."""
    table = Table("one", MetaData(), Column("value", kind))
    engine = create_engine("sqlite://")
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert().values(value=value))
        found = connection.execute(select(table.c.value)).scalar()
    engine.dispose()
    return found


@given(any_text)
def test_exact_text_survives_to_the_byte(text):
    assert through_sqlite(ExactText, text) == text


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800", "\udfff\ud800", "é vs e\u0301", ""])
def test_exact_text_survives_what_databases_dislike(text):
    assert through_sqlite(ExactText, text) == text


@given(any_text)
def test_plain_text_is_always_storable_and_short(text):
    found = through_sqlite(PlainText(50), text)
    assert len(found) <= 50
    assert "\x00" not in found
    found.encode("utf-8")


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)), st.integers(-12, 14))
def test_moments_come_back_in_utc(moment, hours):
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    found = through_sqlite(UtcDateTime, aware)
    assert found == aware
    assert found.tzinfo is UTC


def test_a_moment_without_time_zone_is_refused():
    with pytest.raises(InvalidInput, match="no time zone"):
        UtcDateTime().process_bind_param(datetime(2024, 9, 1), None)


@given(st.decimals(min_value=0, max_value=10**9, allow_nan=False, allow_infinity=False, places=12))
def test_prices_are_exact(price):
    assert through_sqlite(ExactDecimal, price) == price


def test_equal_prices_are_equal_text():
    column = ExactDecimal()
    assert {column.process_bind_param(Decimal(text), None) for text in ("1.50", "1.5", "15E-1")} == {"1.5"}


@pytest.mark.parametrize("price", [Decimal("NaN"), Decimal("Infinity"), Decimal("-1"), 0.5, Decimal("1e-70")])
def test_unusable_prices_are_refused(price):
    with pytest.raises(InvalidInput):
        ExactDecimal().process_bind_param(price, None)


@given(st.integers(0, 2**62))
def test_money_converts_without_loss(pico):
    assert to_pico_usd(from_pico_usd(pico)) == pico


@given(st.decimals(min_value=0, max_value=9_000_000, allow_nan=False, allow_infinity=False, places=12))
def test_money_survives_the_database(amount):
    assert through_sqlite(Usd, amount) == amount


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal("-0.01"), Decimal("Infinity"), Decimal("1e8"), 0.1])
def test_money_that_is_none_is_refused(amount):
    with pytest.raises(InvalidInput):
        to_pico_usd(amount)


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<i8", "<i4", ">f4"])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), (1, 2, 2), ()])
def test_arrays_survive(kind, shape):
    array = np.arange(int(np.prod(shape)), dtype=kind).reshape(shape)
    found = array_from_bytes(array_bytes(array))
    assert found.shape == shape
    assert found.dtype == array.dtype.newbyteorder("<")
    assert np.array_equal(found, array)


def test_array_bytes_do_not_depend_on_memory_layout():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert array_bytes(np.asfortranarray(array)) == array_bytes(array) == array_bytes(array.astype(">f4"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_arrays_are_refused(value):
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        array_bytes(np.array([0.5, value], dtype=np.float32))


def test_arrays_of_objects_are_refused():
    with pytest.raises(InvalidInput, match="not stored"):
        array_bytes(np.array([{}], dtype=object))


@given(st.binary(max_size=40))
def test_foreign_bytes_are_an_array_or_a_typed_error(data):
    try:
        found = array_from_bytes(data)
    except RegistryCorrupt:
        return
    assert array_bytes(np.nan_to_num(found)) is not None


def test_a_cut_array_is_noticed():
    whole = array_bytes(np.ones(4, dtype=np.float32))
    with pytest.raises(RegistryCorrupt, match="does not fill its shape"):
        array_from_bytes(whole[:-1])
