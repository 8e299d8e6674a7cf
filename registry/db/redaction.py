r"""The one redaction of every writer: keys that this process knows are found in a text, however they are written there.

A server may repeat a key, and does not have to repeat it as it was sent: JSON writes ``-`` as ``\u002d``, a URL writes
it as ``%2D``, a header dump shows ``Basic`` and base64, a log breaks lines, an LLM sets it in bold. Texts are therefore
compared in one plain form: escapes decoded, invisible characters, white space, backslashes and marks of Markdown left
out, without upper and lower case. Anyone who knows the key can always write it so that no program recognises it: this
is against servers and libraries that repeat what they were sent, not against one that smuggles it out.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from registry.db.characters import is_active
from registry.db.url_masking import MASK

KEY = "[key]"
"""What stands in kept data in place of a key."""
_SHORTEST = 4
"""Shorter secrets are not searched for at all: masking every `a` would garble texts and reveal the secret."""
_SHORTEST_OWN = 7
"""From this length on a secret with digits or dashes in it is no word that somebody else may have written."""
_SHORTEST_DISGUISED = 12
"""From this length on a secret is also found in another case, without its spaces, and encoded."""
_DEEPEST = 4
"""Encodings inside each other that are undone, such as JSON in a string of JSON in a URL."""
_PLACEHOLDERS = frozenset(
    {
        "lm-studio",
        "not-needed",
        "not-required",
        "no-key",
        "no-key-required",
        "sk-no-key-required",
        "dummy-key",
        "sk-1234",
    }
)
"""What local servers have people write where a key is expected: it opens nothing, and names of LLMs may hold it."""
_REMEMBERED, _LONGEST_REMEMBERED = 256, 40_000
"""How many texts are remembered with what was made of them, and how long they may be."""
_BLANKS = re.compile(r"[\s\\*`\x00-\x1f\x7f-\x9f]+")
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs that look like spaces."""
_ESCAPES = re.compile(
    r"\\{1,16}[uU]\{?(?:0000)?(?P<long>[0-9a-fA-F]{4})\}?|\\{1,16}(?:x|u\{)(?P<short>[0-9a-fA-F]{2})\}?"
    r"|%(?:25)*(?P<percent>[0-9a-fA-F]{2}|[uU][0-9a-fA-F]{4})"
    r"|&(?:amp;)*(?P<entity>#[0-9]{1,16};?|#[xX][0-9a-fA-F]{1,16};?|[a-zA-Z]{2,8};)"
    r"|\\{1,16}(?P<octal>[0-3][0-7]{2}|[0-7]{1,2})"
)
_QUOTED = re.compile(r"=(?:(?P<quoted>[0-9a-fA-F]{2})|\r?\n)")
_MARKUP = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]|</?[A-Za-z][^<>\n]{0,80}>")
_HEX = re.compile(
    r"[0-9a-fA-F]{2}(?:[0-9a-fA-F]{2}|(?:[ :,-](?:0[xX])?|, 0[xX])(?:[0-9a-fA-F]{2}){1,64}(?![0-9A-Za-z])){5,1000}"
)
_RUN = re.compile(r"([A-Za-z0-9+/_-]{16,4000})={0,2}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]")
_URL_SAFE = str.maketrans("-_", "+/")
_Place = tuple[int, int]


class Redaction:
    """Mask the secrets that it has learned, in texts and in everything that holds texts."""

    def __init__(self) -> None:
        self._exact: tuple[str, ...] = ()
        self._own: tuple[str, ...] = ()
        self._folded: tuple[str, ...] = ()
        self._encoded: tuple[str, ...] = ()
        self._masked = lru_cache(_REMEMBERED)(self._mask_own)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, except very short ones, which would garble every text."""
        new = {secret for secret in secrets if len(secret) >= _SHORTEST}
        if new <= {*self._exact}:
            return
        self._exact = _longest_first({*self._exact, *new})
        self._own = tuple(secret for secret in self._exact if _is_own(secret))
        disguised = [secret for secret in self._own if len(_plain(secret)) >= _SHORTEST_DISGUISED]
        bare = {_plain(form).casefold() for secret in disguised for form in _layers(secret)}
        bare = {form for form in bare if len(form) >= _SHORTEST_DISGUISED}
        self._folded = _longest_first(bare | {secret.encode().hex() for secret in disguised})
        self._encoded = _longest_first({part for secret in disguised for part in _in_base64(secret)})
        self._masked.cache_clear()

    def mask(self, text: str, mark: str = MASK) -> str:
        """Mask secrets in what people and logs read: every one that is known, even a word.

        Parameters
        ----------
        text
            Any text.
        mark
            What takes the place of a secret.
        """
        for secret in self._exact:
            text = text.replace(secret, mark)
        return self.mask_own(text, mark)

    def mask_own(self, text: str, mark: str = MASK) -> str:
        """Mask secrets in data: only those that nobody writes by accident, so that a password `postgres` changes none.

        Parameters
        ----------
        text, mark
            As in `mask`.
        """
        if not self._own:
            return text
        # An answer passes several writers.
        return self._masked(text, mark) if len(text) <= _LONGEST_REMEMBERED else self._mask_own(text, mark)

    def clean(self, value: Any, mark: str = MASK) -> Any:
        """Return data without secrets; texts, bytes and keys inside lists and mappings are cleaned too.

        Parameters
        ----------
        value
            Parsed JSON, or what statements and records hold.
        mark
            As in `mask`.
        """
        if isinstance(value, str):
            return self.mask_own(value, mark)
        if isinstance(value, bytes):
            return self._clean_bytes(value, mark)
        if isinstance(value, Mapping):
            return {self.clean(key, mark): self.clean(entry, mark) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            cleaned = [self.clean(entry, mark) for entry in value]
            return cleaned if isinstance(value, list) else tuple(cleaned)
        return value

    def holds_any(self, text: str) -> bool:
        """Whether data holds a secret, in whatever disguise."""
        return self.mask_own(text) != text

    def _mask_own(self, text: str, mark: str) -> str:
        for secret in self._own:
            text = text.replace(secret, mark)
        if not self._is_disguised_in(text):
            return text
        return _replaced(text, self._places(text), mark)

    def _clean_bytes(self, value: bytes, mark: str) -> bytes:
        if not self._own:
            return value
        try:
            text = value.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return value  # an array or an archive
        cleaned = self.mask_own(text, mark)
        return value if cleaned == text else cleaned.encode("utf-8", "surrogatepass")

    def _is_disguised_in(self, text: str) -> bool:
        """Whether a plain form of the text holds a secret, without noting where: most texts end here."""
        if not self._folded:
            return False
        for form in _layers(text):
            bare = _plain(form)
            folded, standard = bare.casefold(), bare.translate(_URL_SAFE)
            if any(secret in folded for secret in self._folded) or any(part in standard for part in self._encoded):
                return True
        return False

    def _places(self, text: str) -> list[_Place]:
        """Return where secrets stand in a text, each from its first to after its last character."""
        found = []
        for way in _WAYS:
            signs, places = list(text), [(at, at + 1) for at in range(len(text))]
            for _ in range(_DEEPEST):
                plain = {sign: _plain(sign) for sign in set(signs)}
                spread = [(one, place) for sign, place in zip(signs, places, strict=True) for one in plain[sign]]
                folded = [(one, place) for sign, place in spread for one in sign.casefold()]
                found += _matches(folded, self._folded)
                encoded = [(sign.translate(_URL_SAFE), place) for sign, place in spread]
                found += [_widened(text, *place) for place in _matches(encoded, self._encoded)]
                signs, places = _undone(signs, places, (way, (_ESCAPES, _unescaped)))
        return found


REDACTION = Redaction()
"""The one redaction of this process; secrets that it has learned stay masked."""


def _is_own(secret: str) -> bool:
    """Whether nobody writes this by accident: long, or of letters with something between them."""
    if secret.casefold() in _PLACEHOLDERS:
        return False
    is_mixed = any(sign.isalpha() for sign in secret) and not secret.isalpha()
    return len(secret) >= _SHORTEST_DISGUISED or (len(secret) >= _SHORTEST_OWN and is_mixed)


def _layers(text: str) -> Iterator[str]:
    """Yield a text as it is, and then, in each way, with one more layer of encodings undone, while there is one."""
    yield text
    for pattern, decode in _WAYS:
        form = text
        if pattern is not _ESCAPES and pattern.search(form) is None:
            continue
        for _ in range(_DEEPEST - 1):
            undone = _ESCAPES.sub(_unescaped, pattern.sub(decode, form))
            if undone == form:
                break
            form = undone
            yield form


def _plain(text: str) -> str:
    """Leave out what is not seen, and write wide and styled letters as plain ones."""
    if not text.isascii():
        changed = {ord(sign): _plain_sign(sign) for sign in set(text) if not sign.isascii()}
        text = text.translate(changed)
    return _BLANKS.sub("", text)


def _plain_sign(sign: str) -> str:
    kind = unicodedata.category(sign)
    if is_active(sign) or kind in ("Mn", "Me") or sign in _UNSEEN:
        return ""
    return "-" if kind == "Pd" or sign == "\N{MINUS SIGN}" else unicodedata.normalize("NFKC", sign)


def _unescaped(found: re.Match[str]) -> str:
    if (entity := found["entity"]) is not None:
        return html.unescape(f"&{entity}")
    if (octal := found["octal"]) is not None:
        return chr(int(octal, 8))
    return chr(int((found["long"] or found["short"] or found["percent"]).lstrip("uU"), 16))


def _unquoted(found: re.Match[str]) -> str:
    return "" if found["quoted"] is None else chr(int(found["quoted"], 16))


def _nothing(_found: re.Match[str]) -> str:
    return ""


def _from_hex(found: re.Match[str]) -> str:
    return bytes.fromhex(re.sub(r"0[xX](?=[0-9a-fA-F]{2})|[^0-9a-fA-F]", "", found[0])).decode("latin-1")


def _from_base64(found: re.Match[str]) -> str:
    written = found[1].translate(_URL_SAFE)
    try:
        return base64.b64decode(written + "=" * (-len(written) % 4)).decode("latin-1")
    except ValueError:
        return found[0]


_WAYS = ((_ESCAPES, _unescaped), (_QUOTED, _unquoted), (_MARKUP, _nothing), (_HEX, _from_hex), (_RUN, _from_base64))
"""Each is tried by itself with the escapes: what one of them undoes may be the beginning of what another reads."""


def _undone(
    signs: list[str], places: list[_Place], way: Iterable[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]
) -> tuple[list[str], list[_Place]]:
    """Undo one layer of encodings, keeping where each character came from."""
    for pattern, decode in way:
        text, made, origins, at = "".join(signs), [], [], 0
        # Each entry of `signs` is one character here: texts are taken apart before they are decoded.
        for found in pattern.finditer(text):
            made += signs[at : found.start()]
            origins += places[at : found.start()]
            for sign in decode(found):
                made.append(sign)
                origins.append((places[found.start()][0], places[found.end() - 1][1]))
            at = found.end()
        signs, places = made + signs[at:], origins + places[at:]
    return signs, places


def _matches(signs: list[tuple[str, _Place]], wanted: Iterable[str]) -> list[_Place]:
    text = "".join(sign for sign, _ in signs)
    found = []
    for secret in wanted:
        at = text.find(secret)
        while at >= 0:
            found.append((signs[at][1][0], signs[at + len(secret) - 1][1][1]))
            at = text.find(secret, at + 1)
    return found


def _widened(text: str, start: int, end: int) -> _Place:
    """Take in the characters of base64 around a match: they encode the ends of the secret and its user's name."""
    while start > 0 and _BASE64.match(text, start - 1):
        start -= 1
    while end < len(text) and _BASE64.match(text, end):
        end += 1
    return start, end


def _replaced(text: str, places: Iterable[_Place], mark: str) -> str:
    parts, at = [], 0
    for start, end in sorted(places):
        if start >= at:
            parts += [text[at:start], mark]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def _in_base64(secret: str) -> Iterable[str]:
    """Return how base64 writes a secret after zero, one or two other bytes, without what its neighbours decide."""
    data = secret.encode()
    for before in range(3):
        written = base64.b64encode(bytes(before) + data).decode()
        yield written[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))
