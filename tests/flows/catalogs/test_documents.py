"""One bad row is lost and nothing else; of an unusable document, only tonight's changes are lost."""

import hashlib
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from flows.catalogs import Catalog
from flows.errors import CatalogMalformed
from tests.flows.catalogs.conftest import openrouter_document, openrouter_row
from tests.properties import examples

CatalogOf = Callable[..., Catalog]
SOUND = [openrouter_row(f"sound-{place}") for place in range(9)]


def with_bad_row(raw: str) -> str:
    return '{"data": [' + ", ".join([json.dumps(SOUND[0]), raw, *map(json.dumps, SOUND[1:])]) + "]}"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("null", "the id is missing"),
        ("17", "the row is not an object"),
        ('"text"', "the row is not an object"),
        ("[]", "the row is not an object"),
        ("{}", "the id is missing"),
        ('{"id": 5}', "the id is missing or not text"),
        ('{"id": ""}', "the id is missing or not text"),
        (json.dumps({"id": "x" * 201}), "the id has 201 characters"),
        (json.dumps({"id": "a\x1b[31mb"}), "control or invisible"),
        (json.dumps({"id": "a\nb"}), "control or invisible"),
        (json.dumps({"id": "a b"}), "spaces"),
        (json.dumps({"id": "a\u202eb"}), "invisible"),
        (json.dumps({"id": "a\ud800"}), "invisible"),
        (json.dumps({"id": "a\0"}), "control"),
        ('{"id": "x", "id": "y"}', "'id' occurs twice"),
        ('{"id": "x", "pricing": {"prompt": "1", "prompt": "0"}}', "'prompt' occurs twice"),
        ('{"id": "x", "pricing": {"prompt": NaN}}', "NaN is not a number"),
        ('{"id": "x", "pricing": {"prompt": -Infinity}}', "-Infinity is not a number"),
        ('{"id": "x", "created": 1' + "0" * 5000 + "}", "too many digits"),
        ('{"id": "x", "pricing": {"prompt": 1e99999999999999999999}}', "too many digits"),
        ('{"id": "x", "deep": ' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        (json.dumps({"id": "x", "description": "d" * 300_000}), "characters, at most"),
        ('{"id": "x", "pricing": "cheap"}', "pricing is not an object"),
        ('{"id": "x", "architecture": []}', "architecture is not an object"),
        ('{"id": "x", "expiration_date": "soon"}', "expiration_date is not a date"),
        ('{"id": "x", "expiration_date": "0001-01-01T00:00:00+14:00"}', "expiration_date is not a date"),
        ('{"id": "x", "canonical_slug": 5}', "canonical_slug is missing or not text"),
        ('{"id": "x", "pricing": {"overrides": "?"}}', "overrides is not a list"),
        ('{"id": "sound-0"}', "listed twice"),
    ],
)
def test_one_bad_row_is_quarantined_and_the_others_are_used(catalog_of: CatalogOf, raw: str, reason: str) -> None:
    fetch = catalog_of(with_bad_row(raw)).fetch()

    assert [listing.llm_id for listing in fetch.listings] == [row["id"] for row in SOUND]
    (bad,) = fetch.quarantined
    assert reason in bad.reason
    assert bad.position == 1
    assert bad.raw == raw[:2000]
    assert fetch.is_complete


def test_when_a_fifth_cannot_be_read_the_fetch_still_counts_as_complete_and_beyond_it_does_not(
    catalog_of: CatalogOf,
) -> None:
    assert catalog_of(openrouter_document(*SOUND[:8], 1, 2)).fetch().is_complete
    assert not catalog_of(openrouter_document(*SOUND[:8], 1, 2, 3)).fetch().is_complete


def test_an_id_listed_twice_does_not_make_a_fetch_incomplete(catalog_of: CatalogOf) -> None:
    fetch = catalog_of(openrouter_document(SOUND[0], SOUND[0], SOUND[0])).fetch()

    assert (len(fetch.listings), len(fetch.quarantined), fetch.is_complete) == (1, 2, True)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xfe{", "not UTF-8"),
        (b"<!doctype html><html>Sign in</html>", "HTML or XML"),
        (b"not json", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b'{"data"', "it is not JSON"),
        (b'{"data": [{"id": "x"}', "it is not JSON"),
        (b'{"data": [{"id": "x"},]}', "it is not JSON"),
        (b'{"data": [{"id": "x"}]} trailing', "it is not JSON"),
        (b'{"data": []} {"data": []}', "it is not JSON"),
        (b"{5: []}", "it is not JSON"),
        (b"[", "it is not JSON"),
        (b"[] []", "it is not JSON"),
        (b'"text"', "it is not JSON|not a list"),
        (b"null", "it is not JSON|not a list"),
        (b'{"error": {"code": 500}}', "no list 'data'"),
        (b'{"data": {}}', "not a list of rows"),
        (b'{"data": null}', "not a list of rows"),
        (b'{"data": [], "data": []}', "'data' twice"),
        (b'{"data": []}', "lists nothing"),
        (b"{}", "no list 'data'"),
        (b'{"data": [1, 2, 3]}', "none of its rows can be read; row 0: the row is not an object"),
        (b'{"data": [' + b"[" * 200_000 + b"]}", "nested too deeply"),
        (b'{"other": ' + b'{"a":' * 200_000, "nested too deeply"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_a_document_that_is_not_a_catalog_is_malformed_and_changes_nothing(
    catalog_of: CatalogOf, document: bytes, problem: str
) -> None:
    with pytest.raises(CatalogMalformed, match=problem) as error:
        catalog_of(document).fetch()

    assert error.value.unchanged == "the listings of the last night stay"
    assert error.value.hint
    assert "catalog listed" in error.value.message


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"[]", "one row per key"),
        (b"{}", "lists nothing"),
        (b'{"sample_spec": {"mode": "chat"}}', "lists nothing"),
        (b'{"x": {"mode": "embedding"}}', "no row is a chat LLM"),
        (b'{"x": {"mode": "chat"}', "not JSON"),
        (b'{"x" {"mode": "chat"}}', "not JSON"),
    ],
)
def test_a_document_that_is_not_a_price_map_is_malformed(catalog_of: CatalogOf, document: bytes, problem: str) -> None:
    with pytest.raises(CatalogMalformed, match=problem):
        catalog_of(document, "litellm").fetch()


def test_a_fetch_remembers_the_digest_of_the_bytes(catalog_of: CatalogOf) -> None:
    document = b"\xef\xbb\xbf" + openrouter_document(*SOUND)

    assert catalog_of(document).fetch().digest == hashlib.sha256(document).hexdigest()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Plain \N{LATIN SMALL LETTER U WITH DIAERESIS}ber-LLM", "Plain über-LLM"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\u202eb\ud800c\0", "abc"),
        ("n" * 200_000, "n" * 200),
        ("", "maker/llm"),
        (None, "maker/llm"),
        (5, "maker/llm"),
    ],
)
def test_a_name_is_made_harmless(catalog_of: CatalogOf, name: object, shown: str) -> None:
    assert catalog_of(openrouter_document(openrouter_row(name=name))).fetch().listings[0].name == shown


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ROW_KEYS = ["id", "name", "created", "pricing", "architecture", "canonical_slug", "expiration_date", "alias_target"]
CLAIM_KEYS = ["type", "capabilities", "status", "aliases", "root", "parent", "endpoints", "active", "created_at"]
PRICE_KEYS = ["mode", "tiered_pricing", "input_cost_per_token", "search_context_cost_per_query"]
ROWS = st.dictionaries(st.sampled_from([*ROW_KEYS, *CLAIM_KEYS, *PRICE_KEYS]), JSON_VALUES)


@examples(80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS | JSON_VALUES, max_size=5), kind=st.sampled_from(["openrouter", "openai", "litellm"]))
def test_any_rows_end_as_listings_or_in_quarantine(catalog_of: CatalogOf, rows: list[object], kind: str) -> None:
    rows = [{"id": f"llm-{place}"} | row if isinstance(row, dict) else row for place, row in enumerate(rows)]
    document = {f"llm-{place}": row for place, row in enumerate(rows)} if kind == "litellm" else {"data": rows}
    try:
        fetch = catalog_of(json.dumps(document), kind).fetch()
    except CatalogMalformed:
        return

    assert len(fetch.listings) + len(fetch.quarantined) <= len(rows)
    assert all(listing.released_at is None or listing.released_at.tzinfo is not None for listing in fetch.listings)


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.binary(max_size=60) | st.text(alphabet='{}[]":,data1e-. \n', max_size=60).map(str.encode))
def test_any_bytes_are_a_catalog_or_malformed(catalog_of: CatalogOf, document: bytes) -> None:
    for kind in ("openrouter", "litellm", "openai", "toml"):
        try:
            fetch = catalog_of(document, kind).fetch()
        except CatalogMalformed:
            continue
        assert fetch.listings
