"""Prompt files: everything that people save as one is read as it was meant, or refused in words that say what to do."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.checks.prompts import review
from flows.config.settings import Settings
from flows.errors import GradingError, PrerequisiteError
from flows.prompt_file import read_prompts
from registry.prompts import Prompt

ROW = {"prompt_id": "a", "text": "Which?", "reference": "B", "grader": "choice"}
FIRST = Prompt("a", "Which?", "B", "choice")


def jsonl(*changes: dict[str, object]) -> bytes:
    return "".join(json.dumps(ROW | change) + "\n" for change in changes or [{}]).encode()


def csv(*rows: str) -> bytes:
    return "\n".join(["prompt_id,text,reference,grader", *rows]).encode()


def read(folder: Path, data: bytes, name: str = "prompts.jsonl") -> tuple[Prompt, ...]:
    (folder / name).write_bytes(data)
    return read_prompts(folder / name)


@pytest.mark.parametrize(
    ("name", "data", "changes"),
    [
        pytest.param("p.jsonl", b"\xef\xbb\xbf" + jsonl(), {}, id="p01 a byte order mark"),
        pytest.param("p.jsonl", jsonl() + b"\xef\xbb\xbf\n", {}, id="a byte order mark where files were joined"),
        pytest.param("p.csv", b"\xef\xbb\xbf" + csv("a,Which?,B,choice"), {}, id="a byte order mark before a header"),
        pytest.param("p.jsonl", jsonl({"reference": 4}), {"reference": "4"}, id="p05 a number as reference"),
        pytest.param("p.jsonl", jsonl({"prompt_id": 17}), {"prompt_id": "17"}, id="a number as id"),
        pytest.param("p.jsonl", jsonl({"category": 3}), {"category": "3"}, id="a number as category"),
        pytest.param(
            "p.jsonl",
            jsonl().replace(b'"B"', b"0.10"),
            {"reference": "0.10"},
            id="a number keeps the digits it is written with",
        ),
        pytest.param("p.jsonl", jsonl().replace(b'"B"', b"1e-7"), {"reference": "1e-7"}, id="an exponent"),
        pytest.param("p.jsonl", jsonl({"category": None}), {}, id="no category"),
        pytest.param(
            "p.jsonl",
            json.dumps(ROW | {"text": "one\u2028two"}, ensure_ascii=False).encode(),
            {"text": "one\u2028two"},
            id="p11 a line separator inside a text",
        ),
        pytest.param("p.jsonl", jsonl({"text": "a\0b"}), {"text": "a\0b"}, id="p12 NUL"),
        pytest.param("p.jsonl", jsonl({"text": "\ud83d"}), {"text": "\ud83d"}, id="p13 half a surrogate pair"),
        pytest.param("p.csv", csv(f"a,{'x' * 200_000},B,choice"), {"text": "x" * 200_000}, id="p17 a long cell"),
        pytest.param("p.csv", csv('a,"one\r\ntwo",B,choice', ""), {"text": "one\r\ntwo"}, id="line ends in a cell"),
        pytest.param("p.JSONL", jsonl(), {}, id="p21 an ending in capitals"),
        pytest.param("p.CSV", csv("a,Which?,B,choice"), {}, id="another one"),
    ],
)
def test_what_is_clear_is_read(tmp_path: Path, name: str, data: bytes, changes: dict[str, str]) -> None:
    (found,) = read(tmp_path, data, name)
    assert found == Prompt(**(vars(FIRST) | changes))


UTF_16 = json.dumps(ROW).encode("utf-16")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        pytest.param("p.jsonl", UTF_16, "encoded in UTF-16; save it as UTF-8", id="p04 UTF-16"),
        pytest.param("p.jsonl", UTF_16[2:], "encoded in UTF-16 or UTF-32", id="UTF-16 without a mark"),
        pytest.param("p.csv", csv("a,b,B,choice").decode().encode("utf-16-be"), "UTF-16", id="UTF-16, big endian"),
        pytest.param("p.csv", csv("a,b,B,choice").decode().encode("utf-32"), "UTF-32", id="UTF-32"),
        pytest.param(
            "p.csv", csv("a,caf\xe9,B,choice").decode().encode("latin-1"), "line 2 is not UTF-8", id="Latin-1"
        ),
        pytest.param(
            "p.csv", csv("a,b,B,choice").replace(b",", b"\t"), "separated by a tab, not by a comma", id="p15 tabs"
        ),
        pytest.param("p.csv", csv("a,b,B,choice").replace(b",", b";"), "separated by ';'", id="p16 semicolons"),
        pytest.param("p.csv", csv("a,b,B,choice,more"), "row 1 has 5 cells", id="a cell too many"),
        pytest.param("p.csv", csv("a,b,B"), "prompt 'a' (row 1) has no grader", id="a cell too few"),
        pytest.param("p.csv", csv().replace(b"text", b"grader"), "the column grader occurs twice", id="a column twice"),
        pytest.param("p.csv", b"," + csv(), "column 1 has no name", id="the index of a data frame"),
        pytest.param("p.json", b"[]", "its ending .json is none of .jsonl", id="p22 a JSON document"),
        pytest.param("p.jsonl", b"[1]", "line 1 is not a JSON object", id="a list"),
        pytest.param("p.jsonl", b"\xef\xbb\xbf", "holds no prompts", id="only a byte order mark"),
        pytest.param(
            "p.jsonl",
            jsonl().replace(b"prompt_id", b"text"),
            "line 1: the key 'text' occurs twice",
            id="p24 a key twice",
        ),
        pytest.param("p.jsonl", jsonl({"system": "Be kind."}), "the unknown field 'system'", id="a system prompt"),
        pytest.param("p.jsonl", jsonl({"messages": None}), "the unknown field 'messages'", id="an empty unknown field"),
        pytest.param("p.jsonl", jsonl({"Text": "x"}), "the unknown field 'Text'", id="a field in capitals"),
        pytest.param(
            "p.csv", csv().replace(b",text", b", text") + b"\na,b,B,choice", "' text'", id="a space in a name"
        ),
        pytest.param("p.jsonl", jsonl({"text": 42}), "a text that is the number 42, not text", id="a number as text"),
        pytest.param("p.jsonl", jsonl({"text": ["a"]}), "a text that is a list", id="content in parts"),
        pytest.param("p.jsonl", jsonl({"reference": True}), "a reference that is true", id="a truth value"),
        pytest.param("p.jsonl", jsonl({"reference": None}), "has no reference", id="null"),
        pytest.param("p.jsonl", jsonl({"grader": "Numeric"}), "'Numeric'", id="p08 a grader in capitals"),
    ],
)
def test_what_is_not_clear_is_refused_in_one_line(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(PrerequisiteError) as refused:
        read(tmp_path, data, name)
    assert said in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("said", ["Did you mean 'text'?", "Remove 'system'"])
def test_the_hint_on_an_unknown_field_says_what_to_do(tmp_path: Path, said: str) -> None:
    with pytest.raises(PrerequisiteError) as refused:
        read(tmp_path, jsonl({"Text" if "text" in said else "system": "x"}))
    assert said in refused.value.hint


@pytest.mark.parametrize(
    ("column", "written"),
    [
        (pa.array([7, 12], pa.int32()), ["7", "12"]),
        (pa.array([0.1, 4.0], pa.float32()), ["0.1", "4"]),
        (pa.array([0.1, 4.0], pa.float64()), ["0.1", "4"]),
    ],
)
def test_numbers_in_parquet_are_read_as_they_are_written(tmp_path: Path, column: pa.Array, written: list[str]) -> None:
    pq.write_table(
        pa.table({"prompt_id": ["a", "b"], "text": ["x", "y"], "reference": column, "grader": ["numeric"] * 2}),
        tmp_path / "p.parquet",
    )
    assert [one.reference for one in read_prompts(tmp_path / "p.parquet")] == written


def test_parquet_with_a_missing_number_or_an_unknown_column_or_no_parquet_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    columns = {"prompt_id": ["a"], "text": ["x"], "grader": ["numeric"]}
    for changes, said in (
        ({"reference": pa.array([float("nan")])}, "has no reference"),
        ({"reference": ["1"], "system": ["x"]}, "unknown field 'system'"),
    ):
        pq.write_table(pa.table(columns | changes), file)
        with pytest.raises(PrerequisiteError, match=said):
            read_prompts(file)
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(PrerequisiteError, match="malformed"):
        read_prompts(file)


@pytest.mark.parametrize(
    "change", [{"reference": "K"}, {"reference": "12 km", "grader": "numeric"}], ids=["p26 a letter", "p27 a unit"]
)
def test_a_reference_that_its_grader_cannot_read_is_refused_at_the_check(
    tmp_path: Path, change: dict[str, str]
) -> None:
    with pytest.raises(GradingError):
        review(Settings(), read(tmp_path, jsonl(change)))


def test_white_space_makes_another_prompt(tmp_path: Path) -> None:
    """p19"""
    assert (
        len(review(Settings(), read(tmp_path, jsonl({}, {"prompt_id": "b", "text": "Which? "}))).prompt_set.members)
        == 2
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.csv", b"," * 200_000 + b"\n"),
        ("p.csv", b"x," * 100_000 + b"x\n"),
        ("p.parquet", b"PAR1" + bytes(100) + b"PAR1"),
        ("p.jsonl", jsonl({"prompt_id": "x" * 100_000, "unknown": 1})),
    ],
)
def test_whatever_is_in_a_file_the_refusal_is_quick_and_short(tmp_path: Path, name: str, data: bytes) -> None:
    started_s = time.process_time()
    with pytest.raises(PrerequisiteError) as refused:
        read(tmp_path, data, name)
    assert time.process_time() - started_s < 2
    assert len(refused.value.message) < 500 and "None" not in refused.value.message
