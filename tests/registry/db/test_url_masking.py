"""No secret of a URL is shown, whether the URL can be read or not."""

import pytest

from registry.db.url_masking import mask_secrets, mask_url, secrets_of
from registry.db.urls import parse_registry_url


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://night:s3cret@host/db", "postgresql://night:***@host/db"),
        ("postgresql://host/db?user=night&password=s3cret", "postgresql://host/db?password=***&user=night"),
        ("postgresql://host/db?sslpassword=s3cret", "postgresql://host/db?sslpassword=***"),
        ("postgresql://host/db?oauth_client_secret=s3cret", "postgresql://host/db?oauth_client_secret=***"),
        ("http://me:s3cret@host:5000/api", "http://me:***@host:5000/api"),
        ("https://s3cret@host:5000/", "https://***@host:5000/"),
        ("https://host/catalog?api_key=s3cret", "https://host/catalog?api_key=***"),
        ("https://host/catalog?sig=s3cret&page=2", "https://host/catalog?page=2&sig=***"),
        ("https://host/?subscription-keys=s3cret&mysig=s3cret", "https://host/?mysig=***&subscription-keys=***"),
        ("https://host/?api_key_id=s3cret&pwd=s3cret", "https://host/?api_key_id=***&pwd=***"),
        # Which part of these is the password is uncertain.
        ("http://me:s3c@ret@host:5000/api", "http://***@host:5000/api"),
        ("http://me:s3cret@host:port/", "http://***@host:port/"),
        ("http://host:port/?key=s3cret", "http://host:port/?***"),
    ],
)
def test_secrets_are_masked_in_a_url_and_in_texts_about_it(url, masked):
    assert mask_url(url) == masked
    assert mask_url(masked) == masked
    message = mask_secrets(f"cannot reach {url}: it was refused", url)
    assert message == f"cannot reach {masked}: it was refused"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////srv/uniroute/registry.db",
        "postgresql://night@host/db?sslkey=/srv/client.key&options=-csearch_path%3Dnight",
        "http://127.0.0.1:5000",
        "https://openrouter.ai/api/v1/models?page=2&category=code",
        "databricks",
        "./mlruns",
        "",
    ],
)
def test_a_url_without_secrets_stays_as_it_was_written(url):
    assert mask_url(url) == url
    assert mask_secrets(f"cannot open {url}", url) == f"cannot open {url}"


def test_a_parsed_url_is_masked_in_every_spelling_of_its_password():
    url = parse_registry_url("postgresql://night:p%40ss%2Fword@host/db")
    assert mask_url(url) == "postgresql+psycopg://night:***@host/db"
    assert mask_secrets("night with p@ss/word or p%40ss%2Fword failed", url) == "night with *** or *** failed"


def test_a_client_that_asks_another_path_reveals_no_credentials():
    message = mask_secrets("API request to http://me:x@host/api/2.0/runs failed", "http://me:x@host/mlflow")
    assert message == "API request to http://***@host/api/2.0/runs failed"


def test_secrets_are_returned_as_they_are_and_as_they_are_spelled_in_a_url() -> None:
    assert secrets_of("postgresql://ann:p%2Fq@db/u") == {"p/q", "p%2Fq"}
    assert {"p@q", "p%40q", "tok"} <= secrets_of("https://me:p%40q@host/?token=tok")
    assert {"SEC%41RET", "SECARET"} <= secrets_of("http://u:SEC%41RET@host/")
    assert "p@ssword" in secrets_of("http://u:p@ssword@host:5000")
    assert "secret" in secrets_of("http://u:secret@host:port")
    assert secrets_of("sqlite:///registry.db") == secrets_of("not a URL") == set()
