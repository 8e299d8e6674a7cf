"""Where a registry lives: its URL as it is used, and as it may be shown to people and written to logs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from registry.errors import NotFound, RegistryError

_FORMS = "write sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_SECRET_OPTIONS = ("password", "passwd", "sslpassword", "oauth_client_secret")
_MASK = "***"
_SHORTEST_SECRET = 4
"""Shorter secrets are not searched for in texts: masking every `a` would garble them and tell the secret."""


def parse_address(url: str) -> URL:
    """Read the URL of a registry; every PostgreSQL driver becomes the one that is installed with this package.

    Raises
    ------
    RegistryError
        When it names no database that can hold a registry. The text of the URL is not repeated: it may hold a password.
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


def shown(url: URL) -> str:
    """Write a URL as it may be seen by anyone: every secret in it is masked."""
    query = {name: _MASK if name in _SECRET_OPTIONS else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True).replace("%2A%2A%2A", _MASK)


def without_secrets(text: str, url: URL) -> str:
    """Mask every secret of a URL in a text that a driver wrote."""
    secrets = [url.password, *(url.query.get(name) for name in _SECRET_OPTIONS)]
    for secret in secrets:
        if isinstance(secret, str) and len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _MASK)
    return text


def prepare_file(url: URL, create: bool) -> None:
    """Make the folder of an SQLite file, or make sure that the file is there.

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
        When it is no place for a registry.
    """
    if not url.database or url.database == ":memory:":
        raise RegistryError("the registry must survive the night: memory is no place for it", hint="sqlite:///FILE")
    file = Path(url.database.removeprefix("file:") if "uri" in url.query else url.database)
    if file.is_dir():
        raise RegistryError(f"{file} is a folder, not a registry", hint="name a file in it")
    if create:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(f"the folder {file.parent} cannot be made ({error.strerror})") from error
    elif not file.exists():
        raise NotFound(f"there is no registry at {file}", hint="uniroute db migrate")
