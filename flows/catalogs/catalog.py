"""A catalog: one document, read into listings row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, Protocol

from flows.catalogs.documents import DocumentError, Row, decode, malformed
from flows.catalogs.facts import Facts, RowRefused
from flows.catalogs.litellm import LiteLLMFormat
from flows.catalogs.locations import Location
from flows.catalogs.openai_list import OpenAIFormat
from flows.catalogs.openrouter import OpenRouterFormat
from flows.catalogs.toml_file import TomlFormat
from flows.errors import CatalogMalformed, PrerequisiteError
from registry.llms import CatalogFetch, Listing, QuarantinedRow

CatalogKind = Literal["openrouter", "litellm", "openai", "toml"]
DEFAULT_MAX_BYTES: Final = 64 * 2**20
LARGEST_QUARANTINED_SHARE: Final = 0.2
"""When a larger share of the rows cannot be read, absence from the others means nothing."""

_MAX_QUARANTINED_CHARACTERS = 2000


class Catalog(Protocol):
    """A source of listings."""

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...

    def fetch(self) -> CatalogFetch:
        """Read it as it is now, or raise `CatalogUnavailable` or `CatalogMalformed`."""
        ...


class DocumentFormat(Protocol):
    """How the document of one kind of catalog is split into rows and read."""

    def rows(self, text: str) -> Iterator[Row]:
        """Split the document into rows, or raise `DocumentError`."""
        ...

    def read(self, row: Row, is_free: Callable[[str], bool]) -> Facts | None:
        """Read one row; return None for one that does not belong to the catalog, or raise `RowRefused`."""
        ...


@dataclass(frozen=True)
class Selection:
    """Which ids the user wants, as case-sensitive shell patterns.

    An id that is not wanted is listed but refused: an LLM that the user no longer wants must not stay routable because
    there is no news of it.

    Attributes
    ----------
    include
        Wanted ids; all when empty.
    exclude
        Unwanted ones among them.
    free
        Ids that may cost nothing.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    def refusal(self, llm_id: str) -> str | None:
        """Return why an id is not wanted; None when it is."""
        if self.include and not _matches(llm_id, self.include):
            return "not among the included ids"
        return "excluded by the settings" if _matches(llm_id, self.exclude) else None

    def is_free(self, llm_id: str) -> bool:
        """Whether an id may cost nothing."""
        return _matches(llm_id, self.free)


class DocumentCatalog:
    """A catalog that is one document.

    Parameters
    ----------
    name
        What the settings call it.
    endpoint
        Where its LLMs are called.
    document_format
        How its document is read.
    location
        Where its document is.
    selection
        Which ids are wanted.
    """

    def __init__(
        self, name: str, endpoint: str, document_format: DocumentFormat, location: Location, selection: Selection
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self._format = document_format
        self._location = location
        self._selection = selection

    def __repr__(self) -> str:
        return f"DocumentCatalog({self.name!r})"

    def fetch(self) -> CatalogFetch:
        """Read the catalog as it is now.

        Returns
        -------
        CatalogFetch
            Its listings, the rows that could not be read, and the SHA-256 of the document. It is complete unless more
            than a fifth of the rows could not be read.

        Raises
        ------
        CatalogUnavailable
            It did not answer.
        CatalogMalformed
            It answered something that is not such a catalog, or one without a single readable row.
        """
        body = self._location.read()
        subject = self._location.subject
        rows = _Rows(self.name, self.endpoint, self._format, self._selection)
        try:
            for row in self._format.rows(decode(body, subject)):
                rows.add(row)
        except DocumentError as error:
            raise malformed(subject, str(error)) from None
        if not rows.listings:
            raise self._nothing(subject, rows)
        return CatalogFetch(
            catalog=self.name,
            listings=tuple(rows.listings.values()),
            quarantined=tuple(rows.quarantined),
            is_complete=rows.n_unread <= LARGEST_QUARANTINED_SHARE * (len(rows.listings) + rows.n_unread),
            digest=hashlib.sha256(body).hexdigest(),
        )

    @staticmethod
    def _nothing(subject: str, rows: _Rows) -> CatalogMalformed:
        if rows.quarantined:
            first = rows.quarantined[0]
            return malformed(subject, f"none of its rows can be read; row {first.position}: {first.reason}")
        if rows.n_skipped:
            return malformed(subject, "no row is a chat LLM of the provider", "check the provider in the settings")
        return malformed(subject, "it lists nothing")


class _Rows:
    """Sort the rows of one document into listings and quarantine."""

    def __init__(self, catalog: str, endpoint: str, document_format: DocumentFormat, selection: Selection) -> None:
        self.listings: dict[str, Listing] = {}
        self.quarantined: list[QuarantinedRow] = []
        self.n_unread = 0
        self.n_skipped = 0
        self._catalog = catalog
        self._endpoint = endpoint
        self._format = document_format
        self._selection = selection

    def add(self, row: Row) -> None:
        try:
            if row.flaw is not None:
                raise RowRefused(row.flaw)
            facts = self._format.read(row, self._selection.is_free)
        except RowRefused as error:
            self.n_unread += 1
            self._quarantine(row, str(error))
            return
        if facts is None:
            self.n_skipped += 1
        elif facts.llm_id in self.listings:
            # Its LLM is listed by the first row, so the fetch is no less complete.
            self._quarantine(row, f"the id {facts.llm_id!r} is listed twice; the first row counts")
        else:
            self.listings[facts.llm_id] = self._listing(row, facts)

    def _quarantine(self, row: Row, reason: str) -> None:
        self.quarantined.append(QuarantinedRow(row.position, reason, row.raw[:_MAX_QUARANTINED_CHARACTERS]))

    def _listing(self, row: Row, facts: Facts) -> Listing:
        return Listing(
            catalog=self._catalog,
            endpoint=self._endpoint,
            llm_id=facts.llm_id,
            canonical_id=facts.canonical_id,
            name=facts.name,
            released_at=facts.released_at,
            context_tokens=facts.context_tokens,
            input_usd_per_mtok=facts.price.input_usd_per_mtok,
            output_usd_per_mtok=facts.price.output_usd_per_mtok,
            refusal=self._selection.refusal(facts.llm_id) or facts.refusal or facts.price.refusal,
            deprecated_at=facts.deprecated_at,
            raw=row.raw,
        )


def open_catalog(
    *,
    name: str,
    kind: CatalogKind,
    location: str,
    endpoint: str,
    include: Collection[str] = (),
    exclude: Collection[str] = (),
    free: Collection[str] = (),
    provider: str = "",
    prefix: str | None = None,
    api_key: str | None = None,
    timeout_s: float = 30.0,
    max_bytes: int = DEFAULT_MAX_BYTES,
    allow_insecure: bool = False,
    subject: str | None = None,
) -> Catalog:
    """Open a catalog; nothing is read yet.

    Parameters
    ----------
    name
        What the settings call it.
    kind
        ``openrouter``, ``litellm``, ``openai`` (any ``/v1/models``) or ``toml``.
    location
        URL or path of its document.
    endpoint
        Where its LLMs are called.
    include, exclude
        Shell patterns of ids that are wanted (all when empty) and not wanted; what is not wanted is listed but refused.
    free
        Shell patterns of ids that may cost nothing; any other id with a price of zero is refused.
    provider
        LiteLLM only: which provider's rows; all when empty.
    prefix
        LiteLLM only: how ids start in the catalog but not at the endpoint; by default the provider and a slash.
    api_key
        For catalogs that require one; sent to the host of `location` only.
    timeout_s
        Deadline of a fetch, in seconds.
    max_bytes
        Longest document that is read.
    allow_insecure
        Whether the key may be sent over plain ``http`` to another machine, as for the endpoint of the same server.
    subject
        What messages about the location call it; ``catalog`` and the name when omitted.

    Raises
    ------
    PrerequisiteError
        Unknown kind, an option of another kind, or a location that must not be used.
    """
    document_format = _format_of(name, kind, provider, prefix)
    secret = None
    if api_key is not None:
        from pydantic import SecretStr

        secret = SecretStr(api_key)
    place = Location(
        subject or f"catalog {name}",
        location,
        secret,
        timeout_s=timeout_s,
        max_bytes=max_bytes,
        allow_insecure=allow_insecure,
    )
    return DocumentCatalog(
        name, endpoint, document_format, place, Selection(tuple(include), tuple(exclude), tuple(free))
    )


def _format_of(name: str, kind: str, provider: str, prefix: str | None) -> DocumentFormat:
    """Return the reader of a kind of document; refuse an unknown kind, and options of another kind."""
    formats: dict[str, DocumentFormat] = {
        "openrouter": OpenRouterFormat(),
        "litellm": LiteLLMFormat(provider, f"{provider}/" if prefix is None and provider else prefix or ""),
        "openai": OpenAIFormat(),
        "toml": TomlFormat(),
    }
    if kind not in formats:
        raise _refused(name, f"has the unknown kind {kind!r}", f"known kinds: {', '.join(formats)}")
    if (provider or prefix) and kind != "litellm":
        raise _refused(name, f"is of kind {kind}, which has no providers", "remove provider and prefix from it")
    return formats[kind]


def _matches(llm_id: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(llm_id, pattern) for pattern in patterns)


def _refused(name: str, reason: str, hint: str) -> PrerequisiteError:
    return PrerequisiteError(f"catalog {name} {reason}", unchanged="nothing was fetched", hint=hint)
