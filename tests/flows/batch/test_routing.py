"""What routing a file of prompts writes, and what it refuses, with the name and the row in the message."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.batch.files import ADDED
from flows.batch.routing import PreparedRouting, route_file
from flows.errors import FlowError, Interrupted
from routing.embedders import load_embedder
from routing.errors import InvalidInput
from tests.registry.publishing.samples import KEYS, PROMPTS, make_router

TEXTS = [*PROMPTS, "", "word " * 20_000, "a\u2028b", "\x00", "😀" * 1000, *(f"prompt number {n}" for n in range(90))]


def prepared(**changes: object) -> PreparedRouting:
    settled = {"cost_weight": 10.0, "candidates": KEYS, "unavailable": (), "counts_tokens": True} | changes
    return PreparedRouting(router=make_router(), embedder=load_embedder("hashing-256"), **settled)


ROUTING = prepared()


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A file of prompts with other columns, in row groups of 40."""
    table = pa.table(
        {
            "id": pa.array(range(len(TEXTS)), pa.int16()),
            "prompt": TEXTS,
            "tags": pa.array([["a", None]] * len(TEXTS)),
            "team": pa.array(["x", None] * 50 + ["y"]).dictionary_encode(),
        }
    ).replace_schema_metadata({"owner": "me"})
    pq.write_table(table, tmp_path / "prompts.parquet", row_group_size=40)
    return tmp_path / "prompts.parquet"


def lines_file(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def refusal(call: Callable[[], object], kind: type[Exception] = InvalidInput) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def assert_as_one_by_one(rows: list[dict[str, object]], routing: PreparedRouting) -> None:
    for row in rows:
        alone = routing.decide(row["prompt"])
        assert (row["llm"], row["cluster"], row["router_digest"]) == (alone.llm, alone.cluster, alone.router_digest)
        for name in ("expected_score", "standard_error", "expected_cost_usd"):
            assert row[name] == pytest.approx(getattr(alone, name), rel=1e-6)


@pytest.mark.parametrize("chunk_rows", [1, 7, 40, 1000])
def test_a_parquet_file_is_routed_as_prompt_by_prompt_with_everything_carried_through(parquet, chunk_rows):
    target = parquet.with_name("routed.parquet")
    progress: list[int] = []
    routed = route_file(
        ROUTING, parquet, target, chunk_rows=chunk_rows, on_progress=lambda rows, _: progress.append(rows)
    )
    before, after = pq.read_table(parquet), pq.read_table(target)
    assert after.drop_columns(list(ADDED)).equals(before, check_metadata=True)
    assert after.column_names == [*before.column_names, *ADDED]
    assert_as_one_by_one(after.to_pylist(), ROUTING)
    assert (routed.rows, routed.digest) == (len(TEXTS), ROUTING.router.digest)
    llms = after["llm"].to_pylist()
    assert len(set(llms)) > 1
    assert routed.share_per_llm == {llm: llms.count(llm) / len(llms) for llm in set(llms)}
    assert progress[-1] == len(TEXTS)
    assert all(more - less <= chunk_rows for less, more in pairwise(progress))
    file = pq.ParquetFile(target)
    assert max(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)) <= chunk_rows


@pytest.mark.parametrize("counts_tokens", [True, False])
def test_candidates_and_cost_weight_hold_for_every_chunk(parquet, counts_tokens):
    routing = prepared(cost_weight=0.5, candidates=KEYS[:2], counts_tokens=counts_tokens)
    target = parquet.with_name("routed.parquet")
    routed = route_file(routing, parquet, target, chunk_rows=9)
    assert set(routed.share_per_llm) <= set(KEYS[:2])
    assert_as_one_by_one(pq.read_table(target).to_pylist(), routing)


def test_json_lines_are_routed_with_every_character_of_a_line_kept(tmp_path):
    awkward = '{"id": 12345678901234567890.10, "prompt": "a\u2028b \\ud800", "id": 2, "x": {"y": [1e400]} }'
    source = lines_file(tmp_path / "prompts.jsonl", *(json.dumps({"prompt": text}) for text in TEXTS), "", awkward)
    target = tmp_path / "routed.jsonl"
    routed = route_file(ROUTING, source, target, chunk_rows=10)
    lines = target.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert routed.rows == len(lines) == len(TEXTS) + 1
    assert_as_one_by_one([json.loads(line) for line in lines], ROUTING)
    assert [json.loads(line)["prompt"] for line in lines[:-1]] == TEXTS
    assert lines[-1].startswith(awkward.removesuffix(" }") + ", ")


@pytest.mark.parametrize("name", ["prompts.parquet", "prompts.jsonl"])
def test_a_file_without_rows_becomes_one_without_rows(tmp_path, name):
    source, target = tmp_path / name, tmp_path / f"routed{Path(name).suffix}"
    if source.suffix == ".parquet":
        pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), source)
    else:
        source.write_text("\n")
    routed = route_file(ROUTING, source, target)
    assert (routed.rows, routed.share_per_llm, routed.prompts_per_second) == (0, {}, 0.0)
    assert target.exists()


@pytest.mark.parametrize(
    ("columns", "cause"),
    [
        ({"text": ["a"]}, "there is no column named prompt, only text"),
        ({"prompt": [1, 2]}, "its column prompt holds int64, not text"),
        ({"prompt": pa.array([b"a"])}, "its column prompt holds binary, not text"),
        ({"prompt": ["a"] * 49 + [None]}, "the column prompt of row 50 is null, not text"),
        ({"prompt": ["a"], "llm": ["b"], "cluster": [1]}, "it already has llm, cluster"),
        (
            {"prompt": pa.array([b"a"] * 12 + [b"\xff"]).view(pa.string())},
            "the column prompt of row 13 is not UTF-8, not text",
        ),
    ],
)
def test_a_parquet_file_that_cannot_be_routed_is_refused_by_column_and_row(tmp_path, columns, cause):
    source, target = tmp_path / "prompts.parquet", tmp_path / "routed.parquet"
    pq.write_table(pa.table(columns), source)
    assert cause in refusal(lambda: route_file(ROUTING, source, target, chunk_rows=10))
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"text": "a"}', "prompts.jsonl cannot be routed: there is no column named prompt, only text"),
        ('{"prompt": null}', "the field prompt of row 3 is null, not text"),
        ('{"prompt": 1}', "the field prompt of row 3 is a number, not text"),
        ('{"prompt": true}', "the field prompt of row 3 is true or false, not text"),
        ('{"prompt": ["a"]}', "the field prompt of row 3 is a list, not text"),
        ('{"prompt": {}}', "the field prompt of row 3 is an object, not text"),
        ('{"prompt": "a", "llm": "b"}', "prompts.jsonl cannot be routed: it already has llm"),
        ('["prompt"]', "row 3 is not a JSON object"),
        ('{"prompt": "a"', "row 3 is not JSON"),
        ("[" * 100_000, "row 3 is not JSON"),
        ('{"prompt": "\udcff"}', "row 3 is not JSON"),
    ],
)
def test_a_line_that_cannot_be_routed_is_refused_by_row(tmp_path, line, cause):
    source, target = tmp_path / "prompts.jsonl", tmp_path / "routed.jsonl"
    source.write_bytes(b'{"prompt": "a"}\n\n' + line.encode("utf-8", "surrogateescape"))
    message = refusal(lambda: route_file(ROUTING, source, target, chunk_rows=1))
    assert cause in message and "row 3 " in message
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\x00" * 100 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused(tmp_path, content):
    source = tmp_path / "prompts.parquet"
    source.write_bytes(content)
    assert f"{source} cannot be read" in refusal(lambda: route_file(ROUTING, source, tmp_path / "routed.parquet"))
    assert list(tmp_path.iterdir()) == [source]


def test_a_parquet_file_that_is_damaged_in_the_middle_is_refused(parquet):
    content = bytearray(parquet.read_bytes())
    start = pq.ParquetFile(parquet).metadata.row_group(2).column(1).data_page_offset
    content[start : start + 40] = b"\xff" * 40
    parquet.write_bytes(content)
    assert "cannot be read" in refusal(lambda: route_file(ROUTING, parquet, parquet.with_name("routed.parquet")))
    assert list(parquet.parent.iterdir()) == [parquet]


@pytest.mark.parametrize(
    ("source", "target", "cause"),
    [
        ("prompts.csv", "routed.csv", "prompts.csv is neither .parquet nor .jsonl: its ending is .csv"),
        ("prompts.parquet", "routed", "routed is neither .parquet nor .jsonl: its ending is missing"),
        ("prompts.parquet", "routed.jsonl", "must have the same format, .parquet"),
        ("none.parquet", "routed.parquet", "none.parquet cannot be read: No such file"),
        ("none.jsonl", "routed.jsonl", "none.jsonl cannot be read: No such file"),
        ("prompts.parquet", "prompts.parquet", "is the input itself"),
        ("prompts.parquet", "folder.parquet", "is a folder"),
        ("prompts.parquet", "kept.parquet", "exists"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(parquet, source, target, cause):
    folder = parquet.parent
    (folder / "folder.parquet").mkdir()
    (folder / "kept.parquet").write_text("kept")
    before = set(folder.iterdir())
    assert cause in refusal(lambda: route_file(ROUTING, folder / source, folder / target))
    assert set(folder.iterdir()) == before
    assert (folder / "kept.parquet").read_text() == "kept"


def test_an_output_is_replaced_only_on_request_and_only_when_complete(parquet):
    target = parquet.with_name("routed.parquet")
    target.write_text("kept")

    def fail(rows: int, seconds: float) -> None:
        assert target.read_text() == "kept"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route_file(ROUTING, parquet, target, chunk_rows=10, may_overwrite=True, on_progress=fail)
    assert target.read_text() == "kept"
    assert set(parquet.parent.iterdir()) == {parquet, target}
    route_file(ROUTING, parquet, target, may_overwrite=True)
    assert pq.read_metadata(target).num_rows == len(TEXTS)


def test_an_output_that_another_process_created_meanwhile_is_kept(parquet):
    target = parquet.with_name("routed.parquet")
    message = refusal(
        lambda: route_file(ROUTING, parquet, target, on_progress=lambda *_: target.write_text("theirs")), FlowError
    )
    assert "another process created it meanwhile" in message
    assert target.read_text() == "theirs"


def test_a_folder_that_is_not_there_is_refused_by_name(parquet):
    target = parquet.parent / "nowhere" / "routed.parquet"
    assert f"{target} cannot be written: " in refusal(lambda: route_file(ROUTING, parquet, target), FlowError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    source = lines_file(tmp_path / "prompts.jsonl", *(json.dumps({"prompt": text}) for text in TEXTS))
    monkeypatch.setattr("flows.batch.files.secrets.token_hex", lambda _: "full")
    (tmp_path / ".routed.jsonl.full.partial").symlink_to("/dev/full")
    message = refusal(lambda: route_file(ROUTING, source, tmp_path / "routed.jsonl"), FlowError)
    assert "No space left on device" in message
    assert list(tmp_path.iterdir()) == [source]


def test_sigterm_leaves_no_half_file_and_the_handler_as_it_was(parquet):
    target, previous = parquet.with_name("routed.parquet"), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        route_file(ROUTING, parquet, target, chunk_rows=10, on_progress=lambda *_: signal.raise_signal(signal.SIGTERM))
    assert stopped.value.signal_number == signal.SIGTERM
    assert list(parquet.parent.iterdir()) == [parquet]
    assert signal.getsignal(signal.SIGTERM) is previous


PEAK = """
import resource, sys
from pathlib import Path
from flows.batch.routing import route_file
from tests.flows.batch.test_routing import ROUTING
ROUTING.route(["a"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
route_file(ROUTING, Path(sys.argv[1]), Path(sys.argv[2]), chunk_rows=20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    grown_kb = []
    for rows in (200, 1200):
        source = lines_file(
            tmp_path / f"{rows}.jsonl", *(json.dumps({"prompt": f"{n} {'word ' * 4000}"}) for n in range(rows))
        )
        target = tmp_path / f"routed-{rows}.jsonl"
        finished = subprocess.run(
            [sys.executable, "-c", PEAK, str(source), str(target)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            capture_output=True,
            text=True,
            check=True,
        )
        grown_kb.append(int(finished.stdout))
    # The larger file has 20 MB more.
    assert grown_kb[1] - grown_kb[0] < 10_000
