"""Secrets in URLs and texts are masked wherever they may stand, and nothing else is."""

import pytest

from flows.masking import mask, mask_urls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:CANARY@host/path?token=CANARY&x=1", "https://me:***@host/path?token=***&x=1"),
        ("see postgresql://ann:CANARY@db/uniroute, then", "see postgresql://ann:***@db/uniroute, then"),
        ("postgresql+psycopg://ann:CAN%40ARY@db:5432/u", "postgresql+psycopg://ann:***@db:5432/u"),
        ("postgresql://ann:CAN/ARY@db/uniroute", "postgresql://ann:***@db/uniroute"),
        ("postgresql://db/u?user=ann&password=CANARY", "postgresql://db/u?password=***&user=ann"),
        # What cannot be read may be a secret up to the last @.
        ("postgresql://ann:CAN@ARY@db/uniroute", "postgresql://***@db/uniroute"),
        ("http://me:[CANARY@host:port/", "http://***@host:port/"),
        ("http://CANARY@host/path", "http://***@host/path"),
        ("one http://a:CANARY@h/x two http://b:CANARY@h/y", "one http://a:***@h/x two http://b:***@h/y"),
        ("http://a/login?next=http://u:CANARY@b/", "http://a/login?next=http://u:***@b/"),
        ("http://h/a,http://u:CANARY@i/", "http://h/a,http://u:***@i/"),
        ('["http://h/x","http://CANARY@i/"]', '["http://h/x","http://***@i/"]'),
        ("_postgresql://u:CANARY@h, my_db://u:CANARY@h", "_postgresql://u:***@h, my_db://u:***@h"),
    ],
)
def test_passwords_and_access_keys_of_urls_are_masked(text: str, shown: str) -> None:
    assert mask_urls(text) == shown
    assert "CAN" not in mask(text) and "ARY" not in mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no URL, me:word@host",
        "postgresql://ann@db/uniroute",
        "sqlite:////home/a@b/registry.db",
        "http://HOST:5000/api/me?page=2#top",
        "https://[::1]:8080/v1",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert mask_urls(text) == text


def test_known_secrets_and_what_looks_like_one_are_masked() -> None:
    text = "Authorization: Bearer abcdefgh-CANARY, key sk-CANARY, api_key=CANARY, {'x-api-key': 'CANARY'}"
    assert "CANARY" not in mask(text.replace("sk-CANARY", "***"))


def test_what_is_masked_already_stays_as_it_is() -> None:
    shown = mask("('https://me:CANARY@host.example/v1?b=1&api_key=CANARY', 'Authorization: Basic CANARYCANARY')")
    assert "CANARY" not in shown and mask(shown) == shown
