"""Rows and documents that people reported of other projects, each with what it must become here."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from flows.catalogs import Catalog, open_catalog
from flows.errors import CatalogError
from registry.llms import CatalogFetch
from tests.flows.catalogs.conftest import PRICES, DocumentServer, openrouter_row, response

CatalogOf = Callable[..., Catalog]
SOUND = openrouter_row("maker/sound")
LITE = {"mode": "chat", "litellm_provider": "shop", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}


def priced(**pricing: Any) -> dict[str, Any]:
    return openrouter_row("a/b", pricing=PRICES | pricing)


# By case: the kind of catalog, its rows, and by id the refusal (a prefix of it), or the price per million of input.
ROWS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "k01 the router's own LLMs": (
        "openrouter",
        [priced(prompt="-1", completion="-1")],
        {"a/b": "negative input price"},
    ),
    "k05 no prices": ("openrouter", [openrouter_row("a/b", pricing={})], {"a/b": "price missing"}),
    "k06 free in words": ("openrouter", [priced(prompt="free")], {"a/b": "input price is not a number"}),
    "k08 spaces": ("openrouter", [priced(prompt=" 0.000001 ")], {"a/b": "input price is not a number"}),
    "k09 fee per request": ("openrouter", [priced(request="0.005")], {"a/b": "fee per request"}),
    "k10 always searches": (
        "openrouter",
        [openrouter_row("perplexity/sonar", pricing=PRICES | {"web_search": "0.005"})],
        {"perplexity/sonar": "fee per search"},
    ),
    "searches on demand": ("openrouter", [priced(web_search="0.01")], {"a/b": "1"}),
    "a search model of OpenAI's": (
        "openrouter",
        [openrouter_row("openai/gpt-4o-search-preview", pricing=PRICES | {"web_search": "0.025"})],
        {"openai/gpt-4o-search-preview": "fee per search"},
    ),
    "k17 a picture in the id": ("openrouter", [openrouter_row("a/🔥-7b")], {"a/🔥-7b": "1"}),
    "k20 free, not allowed": (
        "openrouter",
        [openrouter_row("a/b:free", pricing={"prompt": "0", "completion": "0"})],
        {"a/b:free": "zero price, not allow-listed"},
    ),
    "k23 an early tier": (
        "openrouter",
        [priced(overrides=[{"min_prompt_tokens": 8000, "prompt": "4e-6"}])],
        {"a/b": "4"},
    ),
    "k40 the example row": ("litellm", {"sample_spec": LITE, "real": LITE}, {"real": "1"}),
    "k41 half a price": ("litellm", {"x": LITE | {"output_cost_per_token": None}}, {"x": "price missing"}),
    "k42 a price as text": ("litellm", {"x": LITE | {"input_cost_per_token": "1e-06"}}, {"x": "1"}),
    "k44 embeddings": ("litellm", {"real": LITE, "x": LITE | {"mode": "embedding"}}, {"real": "1"}),
    "k46 half free": ("litellm", {"x": LITE | {"output_cost_per_token": 0}}, {"x": "zero price, not allow-listed"}),
    "k49 search fee": (
        "litellm",
        {"perplexity/sonar": LITE | {"search_context_cost_per_query": {"search_context_size_low": 0.005}}},
        {"perplexity/sonar": "fee per search"},
    ),
    "search on demand": (
        "litellm",
        {"gpt-5": LITE | {"search_context_cost_per_query": {"search_context_size_low": 0.01}}},
        {"gpt-5": "1"},
    ),
    "k50 citations": (
        "litellm",
        {"perplexity/sonar-deep-research": LITE | {"citation_cost_per_token": 2e-6}},
        {"perplexity/sonar-deep-research": "fee per citation"},
    ),
    "fee per query": ("litellm", {"x": LITE | {"input_cost_per_query": 0.001}}, {"x": "fee per request"}),
    "fee per request": (
        "litellm",
        {"x": LITE | {"output_cost_per_request": 0.001}},
        {"x": "fee per request"},
    ),
    "a thousandfold price": (
        "litellm",
        {"x": LITE | {"input_cost_per_token": 0.0032}},
        {"x": "implausible input price"},
    ),
    "a thousandth of it": ("litellm", {"x": LITE | {"output_cost_per_token": 2e-9}}, {"x": "implausible output price"}),
    "k53 no mode": ("litellm", {"real": LITE, "up-to-4b": {"input_cost_per_token": 1e-7}}, {"real": "1"}),
    "k26 prices of another kind": (
        "openai",
        [{"id": "x", "type": "chat", "pricing": {"input": 0.18, "output": 0.18}}],
        {"x": "price missing"},
    ),
    "k28 a path as id": ("openai", [{"id": "/models/Q3.gguf"}], {"/models/Q3.gguf": "price missing"}),
    "k34 an alias beside its LLM": (
        "openai",
        [
            {"id": "mistral-medium-latest", "name": "mistral-medium-2508", "aliases": ["mistral-medium-2508"]},
            {"id": "mistral-medium-2508", "name": "mistral-medium-2508", "aliases": ["mistral-medium-latest"]},
        ],
        {"mistral-medium-latest": "alias of mistral-medium-2508", "mistral-medium-2508": "price missing"},
    ),
    "an alias that only its LLM names": (
        "openai",
        [{"id": "m-2508", "aliases": ["m-latest", "m"]}, {"id": "m"}, {"id": "m-latest"}],
        {"m-2508": "price missing", "m": "alias of m-2508", "m-latest": "alias of m-2508"},
    ),
    "two names of one vLLM": (
        "openai",
        [{"id": "a", "root": "maker/llm", "parent": None}, {"id": "b", "root": "maker/llm", "parent": None}],
        {"a": "price missing", "b": "alias of a"},
    ),
    "an adapter and its base": (
        "openai",
        [{"id": "base", "root": "base", "parent": None}, {"id": "tuned", "root": "/lora", "parent": "base"}],
        {"base": "price missing", "tuned": "price missing"},
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_reported_row_becomes_what_it_should(catalog_of: CatalogOf, case: str) -> None:
    kind, rows, expected = ROWS[case]
    document = rows if kind == "litellm" else {"data": rows}

    listings = catalog_of(json.dumps(document), kind).fetch().listings

    found = {one.llm_id: one.refusal or str(one.input_usd_per_mtok) for one in listings}
    assert found.keys() == expected.keys()
    for llm_id, said in expected.items():
        assert found[llm_id] == said or (not said[0].isdigit() and found[llm_id].startswith(said))


NO_CHAT: list[dict[str, Any]] = [
    {"type": "embedding"},
    {"type": "image"},
    {"type": "rerank"},
    {"type": "moderation"},
    {"type": "completion"},
    {"model_type": "embeddings"},
    {"task": "text-to-image"},
    {"task": {"name": "Automatic Speech Recognition asr"}},
    {"mode": "audio_transcription"},
    {"kind": "EMBEDDING_MODEL"},
    {"supports_chat": False},
    {"capabilities": {"completion_chat": False, "completion_fim": True}},
    {"capabilities": {"inference": True, "chat_completion": False, "embeddings": True}},
    {"capabilities": {"type": "embeddings"}},
    {"capabilities": ["embedding"]},
    {"endpoints": ["embed"]},
    {"supported_endpoint_types": ["image-generation"]},
]
GONE: list[dict[str, Any]] = [
    {"active": False},
    {"archived": True},
    {"deprecated": True},
    {"status": "deprecated"},
    {"lifecycle_status": "retired"},
    {"state": "disabled"},
    {"available": False},
    {"status": {"value": "failed"}},
]
FINE: list[dict[str, Any]] = [
    {"type": "model", "object": "model"},
    {"type": "base", "capabilities": {"completion_chat": True, "classification": False}, "archived": False},
    {"type": "chat", "running": False},
    {"type": "language"},
    {"type": "vlm", "state": "not-loaded"},
    {"kind": "HF_BASE_MODEL", "supports_chat": True, "supports_image_input": False},
    {"task": "image-text-to-text"},
    {"active": True, "context_window": 131072},
    {"capabilities": {"type": "chat", "family": "gpt-4o"}, "policy": {"state": "enabled"}},
    {"capabilities": ["streaming", "tool-calling"]},
    {"supported_endpoint_types": ["openai", "anthropic"]},
    {"endpoints": ["generate", "chat"]},
    {"status": {"value": "unloaded"}},
    {"status": 1, "model_type": "chat"},
    {"deprecation": None, "aliases": []},
]


@pytest.mark.parametrize("kind", ["openai", "openrouter"])
def test_a_row_that_says_it_is_no_chat_llm_or_gone_is_refused_and_any_other_is_not(
    catalog_of: CatalogOf, kind: str
) -> None:
    said = [*((one, "no chat LLM") for one in NO_CHAT), *((one, "not in service") for one in GONE)]
    said += [(one, None) for one in FINE]
    rows = [openrouter_row(f"llm-{place}") | facts for place, (facts, _) in enumerate(said)]
    document = json.dumps({"data": rows})

    listings = catalog_of(document, kind, free=["*"]).fetch().listings

    assert {json.dumps(facts): one.refusal for (facts, _), one in zip(said, listings, strict=True)} == {
        json.dumps(facts): reason for facts, reason in said
    }


# By the value of `created`: the year that is known of the LLM, None without one.
CREATED = {
    "1700000000": 2023,
    '"2024-05-01T00:00:00Z"': 2024,
    "0": None,
    "null": None,
    "1700000000000": None,
    '"today"': None,
    "-5": None,
    "1e300": None,
    "4102444800": None,
    "[1]": None,
    "true": None,
}


@pytest.mark.parametrize("kind", ["openai", "openrouter"])
def test_k12_k14_k32_a_bad_created_loses_the_date_and_not_the_llm(catalog_of: CatalogOf, kind: str) -> None:
    prices = json.dumps(PRICES)
    rows = [f'{{"id": "llm-{at}", "created": {raw}, "pricing": {prices}}}' for at, raw in enumerate(CREATED)]

    fetch = catalog_of(f'{{"data": [{", ".join(rows)}]}}', kind).fetch()

    years = [one.released_at.year if one.released_at else None for one in fetch.listings]
    assert dict(zip(CREATED, years, strict=True)) == CREATED
    assert fetch.quarantined == ()


def test_k39_a_date_in_words_is_the_date_of_release(catalog_of: CatalogOf) -> None:
    row = '{"type": "model", "id": "claude-opus-4", "display_name": "Opus", "created_at": "2025-05-22T00:00:00Z"}'
    (listing,) = catalog_of(f'{{"data": [{row}], "has_more": false}}', "openai").fetch().listings
    assert listing.released_at is not None
    assert (listing.released_at.date().isoformat(), listing.name) == ("2025-05-22", "Opus")


@pytest.mark.parametrize(
    ("created", "known"),
    [
        ([1_750_000_000] * 5, [False] * 5),
        ([1_750_000_000] * 3 + [1_715_367_049, 1_715_367_050], [False] * 3 + [True] * 2),
        ([1_677_610_602], [False]),
        ([1_750_000_000], [True]),
        ([1_750_000_000] * 2 + [1_715_367_049, 1_715_367_050], [True] * 4),
    ],
)
def test_the_constant_created_of_a_proxy_is_no_date_of_release(
    catalog_of: CatalogOf, created: list[int], known: list[bool]
) -> None:
    rows = [{"id": f"llm-{place}", "created": moment} for place, moment in enumerate(created)]
    listings = catalog_of(json.dumps({"data": rows}), "openai").fetch().listings
    assert [one.released_at is not None for one in listings] == known


@pytest.mark.parametrize("document", [b'{"object": "list", "data": null}', b"<html>Sign in</html>"], ids=["k30", "k60"])
def test_a_reported_document_that_is_no_list_is_refused(catalog_of: CatalogOf, document: bytes) -> None:
    with pytest.raises(CatalogError, match=r"not a list of rows|HTML"):
        catalog_of(document, "openai").fetch()


def test_k07_k16_k52_one_odd_row_costs_the_others_nothing(catalog_of: CatalogOf) -> None:
    rows = [json.dumps(openrouter_row(f"a/{place}")) for place in range(9)]
    odd = ['{"id": "x", "pricing": {"prompt": NaN}}', json.dumps(openrouter_row("a/0"))]
    fetch = catalog_of(f'{{"data": [{", ".join(rows + odd)}]}}').fetch()
    assert (len(fetch.listings), len(fetch.quarantined), fetch.is_complete) == (9, 2, True)
    unknown = {f"x{place}": LITE for place in range(9)} | {"y": LITE | {"deprecation_date": "unknown"}}
    fetch = catalog_of(json.dumps(unknown), "litellm").fetch()
    assert [row.reason for row in fetch.quarantined] == ["deprecation_date is not a date"]


def test_k56_a_compressed_answer_is_refused_clearly(server: DocumentServer) -> None:
    url = server.serves(b"\x1f\x8b", content_encoding="gzip")
    with pytest.raises(CatalogError, match="compressed"):
        open_catalog(name="listed", kind="openai", location=url, endpoint="r").fetch()


def pages(server: DocumentServer, answers: Callable[[str], Any]) -> CatalogFetch:
    """Fetch a list from a server that answers each query with a document, or with an error when there is none."""
    server.answer = lambda query: json.dumps(body).encode() if (body := answers(query)) is not None else None
    return open_catalog(name="listed", kind="openai", location=server.url, endpoint="r", timeout_s=5).fetch()


def ids(fetch: CatalogFetch) -> list[str]:
    return [one.llm_id for one in fetch.listings]


FIRST, SECOND = [{"id": "a"}, {"id": "b"}], [{"id": "c"}]


@pytest.mark.parametrize(
    ("says", "query"),
    [
        ({"has_more": True, "last_id": "b"}, "after_id=b"),
        ({"has_more": True, "last_id": "b"}, "after=b"),
        ({"has_more": True}, "after_id=b"),
        ({"nextPageToken": "t/1"}, "pageToken=t%2F1"),
        ({"next_page_token": "t"}, "page_token=t"),
        ({"meta": {"next_cursor": "t"}}, "cursor=t"),
        ({"next": "/api/v1/models?page=2"}, "page=2"),
        ({"has_more": True, "next_page": 2}, "page=2"),
        ({"_links": {"next": {"href": "/api/v1/models?page=2"}}}, "page=2"),
        ({"page": 1, "total_pages": 2}, "page=2"),
    ],
)
def test_k24_k25_all_pages_of_a_list_are_read(server: DocumentServer, says: dict[str, Any], query: str) -> None:
    fetch = pages(server, lambda asked: {"data": SECOND} if asked == query else {"data": FIRST, **says})
    assert (ids(fetch), fetch.is_complete, fetch.quarantined) == (["a", "b", "c"], True, ())


@pytest.mark.parametrize(
    "says",
    [
        {"has_more": True},
        {"nextPageToken": "t"},
        {"next": "https://elsewhere.example/models?page=2"},
        {"total": 3},
        {"nextPageToken": "t" * 3000},
        {"next": "?page=2&" + "t" * 9000},
        {"meta": {"next": "?page=2", "more": "x" * 9000}},
        {"isLastPage": False},
    ],
)
def test_a_list_whose_further_pages_cannot_be_read_is_not_complete(server: DocumentServer, says: dict) -> None:
    for further in ({"data": FIRST, **says}, None):
        fetch = pages(server, lambda asked, further=further: {"data": FIRST, **says} if not asked else further)
        assert (ids(fetch), fetch.is_complete) == (["a", "b"], False)


@pytest.mark.parametrize("says", [{"has_more": True}, {"nextPageToken": "t"}])
def test_an_empty_page_ends_a_list(server: DocumentServer, says: dict) -> None:
    fetch = pages(server, lambda asked: {"data": []} if asked else {"data": FIRST, **says})
    assert (ids(fetch), fetch.is_complete) == (["a", "b"], True)
    endless = pages(server, lambda asked: {"data": [], "nextPageToken": "t"} if asked else {"data": FIRST, **says})
    assert (ids(endless), endless.is_complete) == (["a", "b"], False)


def test_a_page_that_a_link_header_names_is_read(server: DocumentServer) -> None:
    first, rest = json.dumps(FIRST).encode(), json.dumps(SECOND).encode()
    server.parts = [response(first, link='</api/v1/models?page=2>; rel="next"')]
    server.answer = lambda query: rest if query else None
    fetch = open_catalog(name="listed", kind="openai", location=server.url, endpoint="r").fetch()
    assert (ids(fetch), fetch.is_complete) == (["a", "b", "c"], True)


def test_pages_without_end_are_read_up_to_a_limit(server: DocumentServer) -> None:
    fetch = pages(server, lambda asked: {"data": [{"id": f"llm{asked}"}], "nextPageToken": f"{len(asked)}x"})
    assert not fetch.is_complete
    assert len(fetch.listings) < 110


def test_a_file_that_says_more_follows_is_not_complete(catalog_of: CatalogOf) -> None:
    document = json.dumps({"data": FIRST, "has_more": True, "last_id": "b"})
    assert not catalog_of(document, "openai").fetch().is_complete


def test_the_deadline_covers_the_reading_of_rows(catalog_of: CatalogOf) -> None:
    document = json.dumps({"data": [{"id": f"llm-{place}"} for place in range(20_000)]})
    with pytest.raises(CatalogError, match=r"reading it takes longer than 0\.01 s"):
        catalog_of(document, "openai", timeout_s=0.01).fetch()


def test_one_included_id_of_a_price_map_is_listed_and_the_others_are_counted(catalog_of: CatalogOf) -> None:
    document = json.dumps({f"llm-{place}": LITE for place in range(3000)})
    fetch = catalog_of(document, "litellm", include=["llm-7"]).fetch()
    assert (ids(fetch), len(fetch.left_out), fetch.is_complete) == (["llm-7"], 2999, True)
    fetch = catalog_of(document, "litellm", include=["nothing-*"]).fetch()
    assert (ids(fetch), len(fetch.left_out)) == ([], 3000)


def test_a_row_of_thousands_of_keys_takes_no_time(catalog_of: CatalogOf) -> None:
    row = {"id": "x"} | {f"key-{place}": 1 for place in range(15_000)}
    assert ids(catalog_of(json.dumps({"data": [row]}), "openai", timeout_s=2).fetch()) == ["x"]
