"""How each kind of catalog describes an LLM, and why some LLMs must not be routed to."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from flows.catalogs import Catalog
from flows.errors import CatalogMalformed, PrerequisiteError
from tests.flows.catalogs.conftest import PRICES, openrouter_document, openrouter_row

CatalogOf = Callable[..., Catalog]


def only(catalog: Catalog):
    (listing,) = catalog.fetch().listings
    return listing


def test_an_openrouter_row_becomes_a_listing_with_its_text_as_fetched(catalog_of: CatalogOf) -> None:
    raw = (
        '{"id": "maker/llm-1", "canonical_slug": "maker/llm-1-0714",  "name": "Maker: LLM 1", "created": 1752263252,'
        ' "context_length": 128000, "expiration_date": "2026-12-31",'
        ' "architecture": {"input_modalities": ["image", "text"], "output_modalities": ["text"]},'
        ' "pricing": {"prompt": "0.00000045", "completion": "0.0000032", "request": "0"}}'
    )

    listing = only(catalog_of('{"data": [' + raw + "]}"))

    assert listing.llm_key == "router:maker/llm-1"
    assert listing.catalog == "listed"
    assert listing.canonical_id == "maker/llm-1-0714"
    assert listing.name == "Maker: LLM 1"
    assert listing.released_at == datetime(2025, 7, 11, 19, 47, 32, tzinfo=UTC)
    assert listing.deprecated_at == datetime(2026, 12, 31, tzinfo=UTC)
    assert listing.context_tokens == 128_000
    assert (listing.input_usd_per_mtok, listing.output_usd_per_mtok) == (Decimal("0.45"), Decimal("3.2"))
    assert listing.refusal is None
    assert listing.raw == raw


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"id": "~maker/llm-latest"}, "alias of another LLM"),
        ({"alias_target": {"slug": "maker/llm-2", "name": "LLM 2"}}, "alias of maker/llm-2"),
        ({"id": "maker/llm:batch"}, "batch variant, does not answer at once"),
        ({"id": "maker/llm:free", "pricing": {"prompt": "0", "completion": "0"}}, "zero price, not allow-listed"),
        ({"id": "maker/llm:thinking"}, None),
        ({"id": "maker/llm:beta"}, None),
        ({"architecture": {"output_modalities": ["image"]}}, "no text output"),
        ({"architecture": {"output_modalities": ["image", "text"]}}, None),
        ({"architecture": {"input_modalities": ["audio"]}}, "no text input"),
        ({"pricing": PRICES | {"request": "0.005"}}, "fee per request"),
        ({"pricing": PRICES | {"request": "0"}}, None),
        ({"pricing": None}, "price missing"),
        ({"pricing": {"prompt": "-1", "completion": "-1"}}, "negative input price -1"),
    ],
)
def test_an_openrouter_row_can_rule_out_routing(
    catalog_of: CatalogOf, changes: dict[str, object], refusal: str | None
) -> None:
    assert only(catalog_of(openrouter_document(openrouter_row() | changes))).refusal == refusal


@pytest.mark.parametrize(
    ("extra", "prices"),
    [
        ({"overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000009", "completion": "0.000009"}]}, ("1", "2")),
        ({"overrides": [{"min_prompt_tokens": 1000, "prompt": "0.000009", "completion": "0.000009"}]}, ("9", "9")),
        ({"overrides": [{"utc_start": 100, "utc_end": 400, "prompt": "0.000003"}]}, ("3", "2")),
        ({"overrides": [{"utc_start": 100, "utc_end": 400, "prompt": "0.0000001"}]}, ("1", "2")),
        ({"internal_reasoning": "0.000007"}, ("1", "7")),
        ({"internal_reasoning": "0"}, ("1", "2")),
    ],
)
def test_a_tiered_price_is_never_understated_for_a_short_prompt(
    catalog_of: CatalogOf, extra: dict[str, object], prices: tuple[str, str]
) -> None:
    listing = only(catalog_of(openrouter_document(openrouter_row(pricing=PRICES | extra))))

    assert (str(listing.input_usd_per_mtok), str(listing.output_usd_per_mtok)) == prices


def test_a_tier_with_a_negative_price_refuses_the_llm(catalog_of: CatalogOf) -> None:
    pricing = PRICES | {"overrides": [{"utc_start": 1, "prompt": "-1"}]}

    assert only(catalog_of(openrouter_document(openrouter_row(pricing=pricing)))).refusal == "negative input price -1"


def test_litellm_rows_are_filtered_by_mode_and_provider_and_lose_the_providers_prefix(catalog_of: CatalogOf) -> None:
    chat = {"mode": "chat", "litellm_provider": "shop", "input_cost_per_token": 8e-07, "output_cost_per_token": 1e-05}
    document = {
        "sample_spec": {"mode": "one of: chat, embedding", "deprecation_date": "a date"},
        "shop/llm": chat | {"deprecation_date": "2024-12-06", "max_input_tokens": 8192.0, "max_tokens": 4096},
        "llm-2": chat,
        "shop/vector": chat | {"mode": "embedding"},
        "other/llm": chat | {"litellm_provider": "other"},
    }

    listings = catalog_of(json.dumps(document), "litellm", provider="shop").fetch().listings

    assert [listing.llm_id for listing in listings] == ["llm", "llm-2"]
    assert listings[0].deprecated_at == datetime(2024, 12, 6, tzinfo=UTC)
    assert listings[0].context_tokens == 8192
    assert (str(listings[0].input_usd_per_mtok), str(listings[0].output_usd_per_mtok)) == ("0.8", "10")


def test_without_a_provider_all_litellm_ids_stay_as_they_are(catalog_of: CatalogOf) -> None:
    row = {"mode": "chat", "litellm_provider": "shop", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}

    assert only(catalog_of(json.dumps({"shop/llm": row}), "litellm")).llm_id == "shop/llm"
    assert only(catalog_of(json.dumps({"shop/llm": row}), "litellm", provider="shop", prefix="")).llm_id == "shop/llm"


@pytest.mark.parametrize(
    ("row", "refusal"),
    [
        ({"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}, None),
        ({"output_cost_per_token": 1e-6}, "price missing"),
        ({"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}, "zero price, not allow-listed"),
        ({"input_cost_per_token": 0.5, "output_cost_per_token": 1.5}, "implausible input price"),
        (
            {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "input_cost_per_request": 0.005},
            "fee per request",
        ),
        ({"input_cost_per_second": 0.01, "output_cost_per_second": 0.01}, "billed per second"),
        (
            {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "supported_output_modalities": ["audio"]},
            "no text output",
        ),
    ],
)
def test_a_litellm_row_can_rule_out_routing(catalog_of: CatalogOf, row: dict[str, object], refusal: str | None) -> None:
    said = only(catalog_of(json.dumps({"llm": {"mode": "chat"} | row}), "litellm")).refusal

    assert said is None if refusal is None else said.startswith(refusal)


def test_litellm_tiers_and_expensive_reasoning_set_the_price_of_a_short_prompt(catalog_of: CatalogOf) -> None:
    tiers = [
        {"range": [0, 256000.0], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07},
        {"range": [256000.0, 1e6], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06},
    ]
    row = {"mode": "chat", "tiered_pricing": tiers, "output_cost_per_reasoning_token": 3e-06}

    listing = only(catalog_of(json.dumps({"llm": row}), "litellm"))

    assert (str(listing.input_usd_per_mtok), str(listing.output_usd_per_mtok)) == ("0.05", "3")


@pytest.mark.parametrize("form", ['{"object": "list", "data": [%s]}', "[%s]"])
def test_an_openai_compatible_list_has_ids_and_no_prices(catalog_of: CatalogOf, form: str) -> None:
    row = '{"id": "llm", "object": "model", "created": 1715367049, "owned_by": "maker"}'

    listing = only(catalog_of(form % row, "openai"))

    assert (listing.llm_id, listing.input_usd_per_mtok) == ("llm", None)
    assert listing.released_at == datetime(2024, 5, 10, 18, 50, 49, tzinfo=UTC)
    assert listing.refusal.startswith("price missing")


@pytest.mark.parametrize("created", ["0", "null", '"yesterday"', "1e400", "-5", "true"])
def test_an_openai_compatible_server_may_have_odd_ideas_of_created(catalog_of: CatalogOf, created: str) -> None:
    document = '{"data": [{"id": "llm", "created": ' + created + "}]}"

    assert only(catalog_of(document, "openai")).released_at is None


def test_a_self_hosted_llm_that_is_allow_listed_costs_nothing(catalog_of: CatalogOf) -> None:
    listing = only(catalog_of('{"data": [{"id": "llm"}]}', "openai", free=["ll*"]))

    assert (listing.input_usd_per_mtok, listing.refusal) == (Decimal(0), None)


def test_a_toml_file_holds_what_its_author_knows(catalog_of: CatalogOf) -> None:
    document = """
    [[llm]]
    id = "in-house-7b"
    name = "In house, 7B"
    released = 2025-03-01
    deprecated = "2026-01-31"
    context_tokens = 32768
    input_usd_per_mtok = 0.10
    output_usd_per_mtok = "0.30"

    [[llm]]
    id = "given-away"
    free = true
    """

    priced, free = catalog_of(document, "toml").fetch().listings

    assert (priced.name, priced.context_tokens) == ("In house, 7B", 32768)
    assert priced.released_at == datetime(2025, 3, 1, tzinfo=UTC)
    assert priced.deprecated_at == datetime(2026, 1, 31, tzinfo=UTC)
    assert (str(priced.input_usd_per_mtok), str(priced.output_usd_per_mtok)) == ("0.1", "0.3")
    assert (free.input_usd_per_mtok, free.output_usd_per_mtok, free.refusal) == (Decimal(0), Decimal(0), None)
    assert json.loads(priced.raw)["id"] == "in-house-7b"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('id = "x"\npirce = 1', "unknown key 'pirce'"),
        ('id = "x"\ninput_usd_per_mtoken = 1', "did you mean input_usd_per_mtok?"),
        ('id = "x"\nfree = "yes"', "free is neither true nor false"),
        ('id = "x"\nreleased = "soon"', "released is not a date"),
        ('name = "x"', "the id is missing"),
    ],
)
def test_a_bad_toml_table_is_quarantined_and_says_why(catalog_of: CatalogOf, table: str, problem: str) -> None:
    sound = '[[llm]]\nid = "sound"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n'

    fetch = catalog_of(f"{sound}[[llm]]\n{table}\n", "toml").fetch()

    assert [listing.llm_id for listing in fetch.listings] == ["sound"]
    assert problem in fetch.quarantined[0].reason
    assert fetch.quarantined[0].position == 1


@pytest.mark.parametrize("price", ["nan", "inf", "-inf", "-1", "0", "true", "2026-01-01"])
def test_a_toml_price_is_judged_like_any_other(catalog_of: CatalogOf, price: str) -> None:
    document = f'[[llm]]\nid = "x"\ninput_usd_per_mtok = {price}\noutput_usd_per_mtok = 1\n'

    assert only(catalog_of(document, "toml")).refusal is not None


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("[[llm]", "it is not TOML"),
        ("llm = 1", "with two brackets"),
        ("[llms]", "'llms' beside"),
        ("", "empty"),
        ("# nothing\n", "lists nothing"),
        ("x = " + "[" * 5000, "it is not TOML"),
    ],
)
def test_a_bad_toml_file_is_malformed(catalog_of: CatalogOf, document: str, problem: str) -> None:
    with pytest.raises(CatalogMalformed, match=problem.replace("[", r"\[")):
        catalog_of(document, "toml").fetch()


def test_patterns_leave_out_what_is_not_wanted_and_allow_what_is_free(catalog_of: CatalogOf) -> None:
    nothing = {"prompt": "0", "completion": "0"}
    document = openrouter_document(
        openrouter_row("a/one"),
        openrouter_row("a/two"),
        openrouter_row("b/one"),
        openrouter_row("a/gift:free", pricing=nothing),
        openrouter_row("a/trap", pricing=nothing),
    )

    fetch = catalog_of(document, include=["a/*"], exclude=["*/two"], free=["*:free"]).fetch()

    assert {listing.llm_id: listing.refusal for listing in fetch.listings} == {
        "a/one": None,
        "a/gift:free": None,
        "a/trap": "zero price, not allow-listed",
    }
    assert fetch.left_out == {
        "router:a/two": "excluded by the settings",
        "router:b/one": "not among the included ids",
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kind": "rss"}, "unknown kind 'rss'"),
        ({"kind": "openrouter", "provider": "shop"}, "has no providers"),
        ({"location": ""}, "no usable location"),
        ({"location": "file:///etc/passwd"}, "http:// or https:// URL"),
        ({"location": "ftp://host/x"}, "http:// or https:// URL"),
        ({"location": "https://"}, "http:// or https:// URL"),
        ({"location": "https://[::1/x"}, "http:// or https:// URL"),
        ({"location": "https://host:99999/x"}, "http:// or https:// URL"),
        ({"location": "https://me:secret@host/x"}, "user name or a password"),
        ({"location": "http://host.example/v1/models", "api_key": "sk-CANARY"}, "in clear"),
    ],
)
def test_a_catalog_that_must_not_be_opened_is_refused_at_once(options: dict[str, str], problem: str) -> None:
    from flows.catalogs import open_catalog

    arguments = {"name": "listed", "kind": "openrouter", "location": "x.json", "endpoint": "router"} | options

    with pytest.raises(PrerequisiteError) as refused:
        open_catalog(**arguments)

    assert problem in refused.value.message
    assert "CANARY" not in refused.value.message
    assert "secret" not in refused.value.message


def test_a_key_may_travel_in_clear_where_the_user_says_so() -> None:
    from flows.catalogs import open_catalog

    location = "http://vllm.cluster.internal/v1/models"
    options = {"name": "listed", "kind": "openai", "location": location, "endpoint": "router", "api_key": "key"}

    assert open_catalog(**options, allow_insecure=True).name == "listed"


@pytest.mark.parametrize("tokens", ["1e9999999", "-1e9999999", "1e-9999999", "0.5", "-5", "1" * 400])
def test_a_context_window_of_no_size_costs_the_fact_and_nothing_else(catalog_of: CatalogOf, tokens: str) -> None:
    row = f'{{"id": "a", "pricing": {json.dumps(PRICES)}, "context_length": {tokens}}}'
    for kind, document in (
        ("openrouter", f'{{"data": [{row}]}}'),
        ("openai", f'{{"data": [{row}]}}'),
        ("toml", f'[[llm]]\nid = "a"\ncontext_tokens = {tokens}\n'),
        ("litellm", f'{{"a": {{"mode": "chat", "max_tokens": {tokens}}}}}'),
    ):
        assert not only(catalog_of(document, kind)).context_tokens, kind


def test_a_toml_key_without_end_is_refused_before_it_takes_all_memory(catalog_of: CatalogOf) -> None:
    for endless in ("a." * 100_000 + "a = 1", "[" + '"a" . ' * 100_000 + "a]", "x" * 10**6 + " = 1"):
        with pytest.raises(CatalogMalformed):
            catalog_of(endless, "toml").fetch()
