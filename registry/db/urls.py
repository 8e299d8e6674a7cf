"""URLs: that of a registry as it is used, and any URL as it may be shown to people and written to logs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from registry.errors import NotFound, RegistryError

_FORMS = "write sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_SECRET_OPTION = re.compile(r"(?i)passw|secret|token|signature|(?<!ssl)key$|(?:^|[_-])sig$")
_CREDENTIALS = re.compile(r"(?<=://)[^:/]*(?::[^@]*)?@")
_CREDENTIALS_OF_UNREADABLE = re.compile(r"(?s)(?<=://).*@")
_MASK = "***"
_SHORTEST_SECRET = 4
"""Shorter secrets are not searched for in texts: masking every `a` would garble them and reveal the secret."""


def parse_registry_url(url: str) -> URL:
    """Parse the URL of a registry; every PostgreSQL driver becomes the one that is installed with this package.

    Raises
    ------
    RegistryError
        When it names no database that can hold a registry. The message omits the URL, which may contain a password.
    """
    if url.startswith("postgres://"):
        url = url.replace("postgres://", "postgresql://", 1)
    scheme, separator, rest = url.partition("://")
    if separator and scheme.startswith("postgresql+"):
        url = f"postgresql://{rest}"
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise RegistryError("the registry URL cannot be read", hint=_FORMS) from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise RegistryError(f"a registry on {parsed.get_backend_name()} is not supported", hint=_FORMS)
    if parsed.drivername == "postgresql":
        if "@" in (parsed.host or ""):
            raise RegistryError(
                "the registry URL cannot be read: there is more than one @ before its host",
                hint="percent-encode user and password: @ is %40, / is %2F, : is %3A",
            )
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def mask_url(url: URL | str) -> str:
    """Return a URL as anyone may see it: passwords, tokens and access keys are replaced by ``***``.

    Parameters
    ----------
    url
        Of a database or of a server. A text that is not a URL is returned unchanged.
    """
    parsed = _parsed(url)
    if parsed is None:
        credentials_masked = _CREDENTIALS_OF_UNREADABLE.sub(f"{_MASK}@", str(url))
        return re.sub(r"\?.*", f"?{_MASK}", credentials_masked) if "://" in credentials_masked else credentials_masked
    if not any(_secrets(parsed)):
        return url if isinstance(url, str) else url.render_as_string()
    query = {name: _MASK if _SECRET_OPTION.search(name) else value for name, value in parsed.query.items()}
    masked = parsed.set(query=query, username=_MASK if _is_token(parsed) else parsed.username)
    return masked.render_as_string(hide_password=True).replace("%2A%2A%2A", _MASK)


def mask_secrets(text: str, url: URL | str) -> str:
    """Mask every secret of a URL in a text that a driver or a client wrote."""
    parsed = _parsed(url)
    if isinstance(url, str):
        text = text.replace(url, mask_url(url))
        found = (_CREDENTIALS_OF_UNREADABLE if parsed is None else _CREDENTIALS).search(url)
        if found is not None and (parsed is None or parsed.password is not None or _is_token(parsed)):
            text = text.replace(found[0], f"{_MASK}@")
    for spelling in secrets_of(url):
        if len(spelling) >= _SHORTEST_SECRET:
            text = text.replace(spelling, _MASK)
    return text


def secrets_of(url: URL | str) -> frozenset[str]:
    """Return the secrets of a URL, each as it is and as it may be spelled in a URL; empty when it cannot be read."""
    parsed = _parsed(url)
    secrets = _secrets(parsed) if parsed is not None else ()
    return frozenset(
        spelling for secret in secrets for spelling in (secret, quote(secret, safe=""), quote(secret, safe=" +"))
    )


def _parsed(url: URL | str) -> URL | None:
    """Parse any URL; None when it cannot be read with certainty, as one whose password holds an @."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    return None if "@" in (parsed.host or "") else parsed


def _is_token(url: URL) -> bool:
    """Whether the user name is itself the secret: servers accept tokens in its place, databases do not."""
    return bool(url.username) and not url.password and url.drivername in ("http", "https")


def _secrets(url: URL) -> Iterator[str]:
    if url.password:
        yield str(url.password)
    if _is_token(url):
        yield str(url.username)
    for name, value in url.query.items():
        if _SECRET_OPTION.search(name):
            yield from (value,) if isinstance(value, str) else value


def prepare_file(url: URL, create: bool) -> None:
    """Create the folder of an SQLite file, or check that the file exists.

    Parameters
    ----------
    url
        An SQLite URL.
    create
        Whether the file may be created.

    Raises
    ------
    NotFound
        When it is missing and may not be created.
    RegistryError
        When it cannot hold a registry.
    """
    if not url.database or url.database == ":memory:":
        raise RegistryError(
            "the registry must outlive the process, so it cannot be kept in memory", hint="sqlite:///FILE"
        )
    file = Path(url.database.removeprefix("file:") if "uri" in url.query else url.database)
    if file.is_dir():
        raise RegistryError(f"{file} is a folder, not a registry", hint="name a file in it")
    if create:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(f"the folder {file.parent} cannot be created ({error.strerror})") from error
    elif not file.exists():
        raise NotFound(f"there is no registry at {file}", hint="uniroute db migrate")
