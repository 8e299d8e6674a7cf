"""The URL of a registry: where it lives, and whether that can be one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from registry.errors import NotFound, RegistryError

_FORMS = "write sqlite:///FILE or postgresql://USER@HOST/DATABASE"


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
