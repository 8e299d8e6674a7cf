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
    "a dump of bytes": KEY.encode().hex(" "),
    "a dump of words of two bytes": KEY.encode().hex(" ", 2).upper(),
    "a fingerprint": KEY.encode().hex(":"),
    "base64 of base64": base64.b64encode(base64.b64encode(KEY.encode())).decode(),
    "base64 of hexadecimal": base64.b64encode(KEY.encode().hex().encode()).decode(),
    "base64 of UTF-16": base64.b64encode(KEY.encode("utf-16-le")).decode(),
    "base64 of JSON escapes": base64.b64encode(_UNICODE.encode()).decode(),
    "hexadecimal of UTF-16": KEY.encode("utf-16-be").hex(),
    "HTML entities with zeros and no semicolons": "".join(f"&#{ord(sign):08d}" for sign in KEY),
    "percent-encoded by escape() of JavaScript": "".join(f"%u{ord(sign):04x}" for sign in KEY),
    "braces of JavaScript": "".join(f"\\u{{{ord(sign):x}}}" for sign in KEY),
    "short octal": "".join(f"\\{ord(sign):o}" for sign in KEY),
    "quoted-printable in lower case": "".join(f"={ord(sign):02x}" for sign in KEY),
    "colours of a terminal": KEY[:9] + "\x1b[1;31m" + KEY[9:],
    "places to break": KEY[:9] + "<wbr>" + KEY[9:],
    "bold in the middle": KEY[:9] + "**" + KEY[9:14] + "**" + KEY[14:],
    "dashes of a typesetter": KEY.replace("-", "\N{NON-BREAKING HYPHEN}"),
    "variation selectors": "\ufe0f".join(KEY),
    "letters that look like spaces": "\u3164".join(KEY),
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


@pytest.mark.parametrize("before", ["key=", "?key=12", "<a href=", "=", "&#4", "0x"])
def test_what_one_encoding_reads_is_not_lost_to_another(before: str) -> None:
    redaction = Redaction()
    redaction.learn(["ab12-34cd-56ef-7890"])
    for written in ("ab12-34cd-56ef-7890", "ab12%2D34cd%2D56ef%2D7890", "ab12&#45;34cd&#45;56ef&#45;7890"):
        assert "34cd" not in redaction.mask_own(f"{before}{written}>")


def test_what_local_servers_ask_for_instead_of_a_key_changes_no_data() -> None:
    redaction = Redaction()
    redaction.learn(["lm-studio", "sk-no-key-required", "not-needed", "EMPTY", "ollama"])
    text = "lm-studio:qwen at ollama, not-needed"
    assert redaction.mask_own(text) == text


def test_answers_with_formulas_code_and_digests_stay_as_they_are(redaction: Redaction) -> None:
    for text in (
        "\\frac{1}{2} \\cdot \\pi = 1.57, so `f(x)` is **even**; 50% of &lt;b&gt; = 3D",
        "sha256: " + "ab12" * 16 + " and iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI",
        "00:1a:2b:3c:4d:5e 2024-09-01 02:00:00, sk-CANARY-7f3a91c2+d4/e5b6a",
    ):
        assert redaction.clean({"a": [text]}) == {"a": [text]}


def test_a_key_that_is_learned_later_is_found_in_a_text_that_passed_before() -> None:
    redaction = Redaction()
    redaction.learn(["first-key-0001"])
    assert redaction.mask_own("second-key-0002") == "second-key-0002"
    redaction.learn(["second-key-0002"])
    assert redaction.mask_own("second-key-0002") == "***"


def test_hostile_and_long_texts_take_linear_time(redaction: Redaction) -> None:
    started_s = time.process_time()
    for unit in ("\\", "%25", "&amp;", "a\u0301", "= \r\n", "x \\u00", "ab ", "0xab,", "a/", "<a ", "=\n"):
        text = unit * (300_000 // len(unit))
        assert redaction.mask_own(text) == text
    assert time.process_time() - started_s < 10
