"""A known key is found in whatever disguise a server, a library or a log writes it; other texts stay as they are."""

import base64
import json
import time
from urllib.parse import quote

import pytest

from registry.db.redaction import Redaction

KEY = "sk-CANARY-7f3a91c2+d4/e5b6a7"
_UNICODE = "".join(f"\\u{ord(sign):04x}" for sign in KEY)
_PERCENT = "".join(f"%{ord(sign):02X}" for sign in KEY)
DISGUISES = {
    "as it is": KEY,
    "JSON escapes": _UNICODE,
    "JSON in a string of JSON in a string of JSON": json.dumps(json.dumps(_UNICODE))[3:-3],
    "percent-encoded": quote(KEY, safe=""),
    "percent-encoded twice, every character": quote(_PERCENT, safe=""),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of user:key": base64.b64encode(f"me:{KEY}".encode()).decode(),
    "base64 of Bearer key, for URLs, wrapped": "\n".join(
        base64.urlsafe_b64encode(f"Bearer {KEY}".encode()).decode()[at : at + 12] for at in range(0, 48, 12)
    ),
    "broken by lines": "\r\n  ".join(KEY),
    "broken by invisible characters": "\u200b".join(KEY[:9]) + "\u00ad\u2060" + KEY[9:],
    "upper case": KEY.upper(),
    "hexadecimal": KEY.encode().hex(),
    "Markdown escapes": "".join(sign if sign.isalnum() else f"\\{sign}" for sign in KEY),
    "HTML entities": "".join(f"&#{ord(sign)};" for sign in KEY),
    "quoted-printable": "".join(f"={ord(sign):02X}" for sign in KEY[:8]) + "=\r\n" + KEY[8:],
    "wide letters": "".join(chr(ord(sign) + 0xFEE0) for sign in KEY),
    "bytes of Python": "".join(f"\\x{ord(sign):02x}" for sign in KEY),
    "UTF-16": "\0".join(KEY),
}


@pytest.fixture
def redaction() -> Redaction:
    made = Redaction()
    made.learn([KEY, "postgres", "abc", "k3y-123"])
    return made


@pytest.mark.parametrize("written", DISGUISES.values(), ids=DISGUISES)
def test_a_key_is_found_in_every_disguise_and_nothing_around_it_is_lost(redaction: Redaction, written: str) -> None:
    assert redaction.mask_own(f"Before. {written} After.", "[key]") == "Before. [key] After."
    nested = {"a": [{f"x {written}": (f"{written}, {written}", 1, None)}], "b": f"x {written}".encode()}
    assert redaction.clean(nested, "[key]") == {
        "a": [{"x [key]": ("[key], [key]", 1, None)}],
        "b": b"x [key]",
    }


def test_a_row_of_json_stays_json(redaction: Redaction) -> None:
    raw = f'{{"id": "a", "note": "{_UNICODE}", "{_UNICODE}": 1}}'
    assert json.loads(redaction.mask_own(raw, "[key]")) == {"id": "a", "note": "[key]", "[key]": 1}


def test_words_and_placeholders_are_masked_for_people_and_never_in_data(redaction: Redaction) -> None:
    text = "abc postgres k3y-123"
    assert redaction.mask(text) == "abc *** ***"
    assert redaction.mask_own(text) == "abc postgres ***"
    assert redaction.clean({"postgres": b"\xff\xfe"}) == {"postgres": b"\xff\xfe"}


def test_hostile_and_long_texts_take_linear_time(redaction: Redaction) -> None:
    started_s = time.process_time()
    for unit in ("\\", "%25", "&amp;", "a\u0301", "= \r\n", "x \\u00"):
        text = unit * (300_000 // len(unit))
        assert redaction.mask_own(text) == text
    assert time.process_time() - started_s < 10
