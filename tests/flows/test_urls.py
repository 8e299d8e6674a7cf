"""URLs are read by the client that calls them; the loopback test and the origin decide where a key may go."""

import pytest

from flows.urls import host_in_words, http_url, is_in_clear, is_same_origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "host/v1", "file:///etc/passwd", "ftp://host/", "//host/x", "HOST:80", "https://"),
        *("http://host:port/", "http://host:99999/", "http://host:0/", "https://[::1/x", "http://ho\nst/"),
    ],
)
def test_what_is_no_usable_http_url_is_none(text: str) -> None:
    assert http_url(text) is None


@pytest.mark.parametrize(
    ("text", "is_readable"),
    [
        ("http://127.0.0.1:8400/v1", False),
        ("http://127.9.9.9/", False),
        ("http://[::1]:80/v1", False),
        ("http://localhost/v1", False),
        ("https://api.example/v1", False),
        ("http://api.example/v1", True),
        ("http://10.0.0.7/v1", True),
        ("http://localhost.example/v1", True),
        ("http://127.0.0.1.example/v1", True),
    ],
)
def test_plain_http_to_another_machine_is_in_clear(text: str, is_readable: bool) -> None:
    url = http_url(text)
    assert url is not None
    assert is_in_clear(url) == is_readable


def test_origins_are_scheme_host_and_port() -> None:
    assert is_same_origin("https://host/v1/models", "https://HOST:443/v1")
    for other in (
        "http://host/v1",
        "https://host:8443/v1",
        "https://host.example/v1",
        "prices.toml",
        "https://host@evil/",
    ):
        assert not is_same_origin("https://host/v1", other)


def test_a_host_from_a_server_is_named_only_when_it_is_harmless() -> None:
    assert host_in_words("https://other.example/x") == "host other.example"
    for location in ("", "/path", "https://a\x1b[31m/", "https://" + "a" * 300, "http://[::1"):
        assert host_in_words(location) == "an unreadable place"
    assert host_in_words("https://SK-canary.example/", secret="sk-CANARY") == "an unreadable place"
