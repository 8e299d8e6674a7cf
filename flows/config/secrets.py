"""Which secrets a process knows: keys of endpoints, secrets in URLs, and what variables named like secrets hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.errors import CredentialsMissing

if TYPE_CHECKING:
    from flows.config.settings import Settings

_SECRET_VARIABLE = re.compile(r"(?i)(?:key|token|secret|passw(?:or)?d|pwd|credentials?|auth_string)\Z")
# Keys and certificates are often named by their place, and a place is no secret.
_PLACE = re.compile(r"[/~.]|[A-Za-z]:\\")


def secrets_of(settings: Settings) -> Iterator[str]:
    """Return the secrets that settings refer to, and those of the environment."""
    # Settings and SQLAlchemy are slow to import, and many commands need neither.
    from flows.config.loading import read_key
    from registry.db.url_masking import secrets_of as secrets_of_url

    for endpoint in settings.endpoint:
        try:
            key = read_key(endpoint)
        except CredentialsMissing:
            continue
        if key is not None:
            yield key.get_secret_value()
    urls = [settings.registry.url, settings.mlflow.tracking_url]
    urls += [entry.base_url for entry in settings.endpoint]
    urls += [entry.location for entry in settings.catalog if "://" in entry.location]
    for url in urls:
        yield from secrets_of_url(url)
    yield from secrets_of_environment()


def secrets_of_environment() -> Iterator[str]:
    """Return the values of variables that are named like secrets: ``OPENROUTER_API_KEY``, ``PGPASSWORD``."""
    for name, value in os.environ.items():
        if value.strip() and _SECRET_VARIABLE.search(name) and not _PLACE.match(value):
            yield value.strip()
