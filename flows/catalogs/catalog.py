"""A catalog: one document, read into listings row by row."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final, Literal, Protocol

from flows.catalogs.documents import DocumentError, Fetched, Row, decode, facts_beside_list, malformed
from flows.catalogs.facts import Facts, RowRefused
from flows.catalogs.litellm import LiteLLMFormat
from flows.catalogs.locations import Location
from flows.catalogs.openai_list import OpenAIFormat
from flows.catalogs.openrouter import OpenRouterFormat
from flows.catalogs.paging import MOST_PAGES, NextPage, next_page
from flows.catalogs.selection import Selection
from flows.catalogs.toml_file import TomlFormat
from flows.errors import CatalogError, CatalogMalformed, PrerequisiteError
from registry.db.redaction import KEY, REDACTION
from registry.listings import ENDPOINT_PRECEDENCE, llm_key
from registry.llms import CatalogFetch, Listing, QuarantinedRow

CatalogKind = Literal["openrouter", "litellm", "openai", "toml"]
DEFAULT_MAX_BYTES: Final = 64 * 2**20
PRECEDENCE: Final[dict[str, int]] = {
    "toml": 0,
    "openrouter": ENDPOINT_PRECEDENCE,
    "openai": ENDPOINT_PRECEDENCE,
    "litellm": ENDPOINT_PRECEDENCE + 1,
}
"""By kind: what a person wrote decides before what the endpoint says of itself, and that before a map of others."""

LARGEST_QUARANTINED_SHARE: Final = 0.2
"""When a larger share of the rows cannot be read, absence from the others means nothing."""

_MAX_QUARANTINED_CHARACTERS = 2000


class Catalog(Protocol):
    """A source of listings."""

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...

    @property
    def endpoint(self) -> str:
        """Where its LLMs are called."""
        ...

    @property
    def precedence(self) -> int:
        """Place among the catalogs of the endpoint, whatever their order in the settings: the lowest decides."""
        ...

    @property
    def is_file(self) -> bool:
        """Whether it is a file on this machine, which can be read without a connection."""
        ...

    def leaves_out(self, llm_id: str) -> str | None:
        """Return why the settings leave an id out; None when they do not."""
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


class DocumentCatalog:
    """A catalog that is one document, or a list in pages.

    Parameters
    ----------
    name
        What the settings call it.
    endpoint
        Where its LLMs are called.
    precedence
        Place among the catalogs of the endpoint; see `registry.listings.CatalogFetch`.
    document_format
        How its document is read.
    location
        Where its document is.
        Its limits hold for the whole fetch: from connecting to the last row, and for all pages together.
    selection
        Which ids are wanted.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        precedence: int,
        document_format: DocumentFormat,
        location: Location,
        selection: Selection,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.precedence = precedence
        self._format = document_format
        self._location = location
        self._selection = selection

    def __repr__(self) -> str:
        return f"DocumentCatalog({self.name!r})"

    @property
    def is_file(self) -> bool:
        """Whether it is a file on this machine, which can be read without a connection."""
        return not self._location.is_url

    def leaves_out(self, llm_id: str) -> str | None:
        """Return why the settings leave an id out; None when they do not."""
        return self._selection.leaves_out(llm_id)

    def fetch(self) -> CatalogFetch:
        """Read the catalog as it is now.

        Returns
        -------
        CatalogFetch
            Its listings, the rows that could not be read, the ids that are left out, and the SHA-256 of the document.
            It is complete unless more than a fifth of the rows could not be read, or pages are missing.

        Raises
        ------
        CatalogUnavailable
            It did not answer.
        CatalogMalformed
            It answered something that is not such a catalog, or one without a single readable row, or reading it takes
            longer than the deadline.
        """
        deadline_s = time.monotonic() + self._location.timeout_s
        page = self._location.read()
        rows = _Rows(self._format, self._selection, self._location.subject, self._location.timeout_s, deadline_s)
        rows.add_page(page.body)
        digest = hashlib.sha256(page.body)
        n_bytes = len(page.body)
        following = rows.next_page(page)
        for _ in range(MOST_PAGES - 1):
            if following is None or (page := self._page(rows, following, deadline_s, n_bytes)) is None:
                break
            rows.add_page(page.body)
            digest.update(page.body)
            n_bytes += len(page.body)
            following = rows.next_page(page)
        if not rows.read:
            raise self._nothing(rows)
        listings, left_out = self._listings(rows)
        n_readable = len(listings) + len(left_out)
        return CatalogFetch(
            catalog=self.name,
            listings=listings,
            quarantined=tuple(rows.quarantined),
            is_complete=following is None and rows.n_unread <= LARGEST_QUARANTINED_SHARE * (n_readable + rows.n_unread),
            digest=digest.hexdigest(),
            precedence=self.precedence,
            left_out=left_out,
        )

    def _page(self, rows: _Rows, following: NextPage, deadline_s: float, n_bytes: int) -> Fetched | None:
        """Return the page that follows, asked for in every known way; None when none of them brings new rows."""
        if not self._location.is_url:
            return None
        for query in following.queries or ([{}] if following.url else []):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or n_bytes >= self._location.max_bytes:
                return None
            try:
                page = self._location.read_page(
                    query, following.url, timeout_s=left_s, max_bytes=self._location.max_bytes - n_bytes
                )
            except CatalogError:
                continue  # a parameter that this server does not know, or a page that is gone: the rest is used
            if page is not None and rows.has_news(page.body):
                return page
        return None

    def _listings(self, rows: _Rows) -> tuple[tuple[Listing, ...], dict[str, str]]:
        """Return the listings of the ids that are wanted, and by key why the others are not."""
        compare = getattr(self._format, "compare", None)
        read = list(rows.read.values())
        found = compare(read) if compare is not None else [facts for _, facts in read]
        listings, left_out = [], {}
        for (row, _), facts in zip(read, found, strict=True):
            reason = self._selection.leaves_out(facts.llm_id)
            if reason is None:
                listings.append(self._listing(row, facts))
            else:
                left_out[llm_key(self.endpoint, facts.llm_id)] = reason
        return tuple(listings), left_out

    def _listing(self, row: Row, facts: Facts) -> Listing:
        return Listing(
            catalog=self.name,
            endpoint=self.endpoint,
            llm_id=facts.llm_id,
            canonical_id=facts.canonical_id,
            name=facts.name,
            released_at=facts.released_at,
            context_tokens=facts.context_tokens,
            input_usd_per_mtok=facts.price.input_usd_per_mtok,
            output_usd_per_mtok=facts.price.output_usd_per_mtok,
            refusal=facts.refusal or facts.price.refusal,
            deprecated_at=facts.deprecated_at,
            raw=row.raw,
            is_price_refused=facts.refusal is None and facts.price.refusal is not None,
        )

    def _nothing(self, rows: _Rows) -> CatalogMalformed:
        subject = self._location.subject
        if rows.quarantined:
            first = rows.quarantined[0]
            return malformed(subject, f"none of its rows can be read; row {first.position}: {first.reason}")
        if rows.n_skipped:
            return malformed(subject, "no row is a chat LLM of the provider", "check the provider in the settings")
        return malformed(subject, "it lists nothing")


class _Rows:
    """Read the rows of a document, page by page, or put them into quarantine."""

    def __init__(
        self,
        document_format: DocumentFormat,
        selection: Selection,
        subject: str,
        timeout_s: float,
        deadline_s: float,
    ) -> None:
        self.read: dict[str, tuple[Row, Facts]] = {}
        self.quarantined: list[QuarantinedRow] = []
        self.n_unread = 0
        self.n_skipped = 0
        self._n_rows = 0
        self._last_id: str | None = None
        self._format = document_format
        self._selection = selection
        self._subject = subject
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s

    def add_page(self, body: bytes) -> None:
        for row in self._rows_of(body):
            self._add(replace(row, position=self._n_rows))
            self._n_rows += 1

    def next_page(self, page: Fetched) -> NextPage | None:
        """Return how more rows are asked for; only lists have pages."""
        if not isinstance(self._format, (OpenAIFormat, OpenRouterFormat)):
            return None
        if page.next_url:
            return NextPage(url=page.next_url)
        return next_page(facts_beside_list(decode(page.body, self._subject)), self._n_rows, self._last_id)

    def has_news(self, body: bytes) -> bool:
        """Whether a page is a list with an id that was not read yet: some servers send the first page again.

        Others end their list with a page without rows.
        """
        try:
            rows = self._rows_of(body)
            first = next(rows, None)
            if first is None:
                return True
            return any(_id_of(row) not in self.read for row in chain([first], rows) if _id_of(row))
        except CatalogMalformed:
            return False

    def _rows_of(self, body: bytes) -> Iterator[Row]:
        try:
            for row in self._format.rows(decode(body, self._subject)):
                if time.monotonic() > self._deadline_s:
                    raise malformed(self._subject, f"reading it takes longer than {self._timeout_s:g} s")
                yield _without_keys(row)
        except DocumentError as error:
            raise malformed(self._subject, str(error)) from None

    def _add(self, row: Row) -> None:
        self._last_id = _id_of(row) or self._last_id
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
        elif facts.llm_id in self.read:
            # Its LLM is listed by the first row, so the fetch is no less complete.
            self._quarantine(row, f"the id {facts.llm_id!r} is listed twice; the first row counts")
        else:
            self.read[facts.llm_id] = (row, facts)

    def _quarantine(self, row: Row, reason: str) -> None:
        self.quarantined.append(QuarantinedRow(row.position, reason, row.raw[:_MAX_QUARANTINED_CHARACTERS]))


def _without_keys(row: Row) -> Row:
    """Mask keys of endpoints that a server repeats, however they are written: rows are kept as fetched."""
    value, raw = REDACTION.clean(row.value, KEY), REDACTION.mask_own(row.raw, KEY)
    return replace(row, value=value, raw=raw, key=REDACTION.clean(row.key, KEY))


def _id_of(row: Row) -> str | None:
    llm_id = row.value.get("id") if isinstance(row.value, dict) else None
    return llm_id if isinstance(llm_id, str) else None


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
        Shell patterns of ids that are wanted (all when empty) and not wanted; what is not wanted is only counted.
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
    from pydantic import SecretStr

    document_format = _format_of(name, kind, provider, prefix)
    secret = SecretStr(api_key) if api_key is not None else None
    REDACTION.learn([api_key] if api_key is not None else [])
    limits = {"timeout_s": timeout_s, "max_bytes": max_bytes, "allow_insecure": allow_insecure}
    place = Location(subject or f"catalog {name}", location, secret, **limits)
    selection = Selection(tuple(include), tuple(exclude), tuple(free))
    return DocumentCatalog(name, endpoint, PRECEDENCE[kind], document_format, place, selection)


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


def _refused(name: str, reason: str, hint: str) -> PrerequisiteError:
    return PrerequisiteError(f"catalog {name} {reason}", unchanged="nothing was fetched", hint=hint)
