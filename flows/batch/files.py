"""Files of prompts to route: read in chunks, and written again with the decisions added to each row.

Memory does not grow with the file: a Parquet file is read page by page, and a JSON Lines file line by line.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from flows.errors import Interrupted
from routing.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PROMPT = "prompt"
ADDED = ("llm", "expected_score", "standard_error", "expected_cost_usd", "cluster", "router_digest")
"""Columns or fields that routing adds to the row of every prompt."""

_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Prompts that are routed together.

    Attributes
    ----------
    texts
        The prompts.
    carried
        Their rows as read; only the writer of the same kind of file understands them.
    """

    texts: Sequence[str]
    carried: Any


Write = Callable[[Any, Mapping[str, Sequence[Any]]], None]


class Prompts(Protocol):
    """A file of prompts: read in chunks, and written again with more columns in each row."""

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Yield chunks of this many prompts, in their order."""
        ...

    def writer(self, path: Path) -> AbstractContextManager[Write]:
        """Open a file of the same kind for writing; yield a function that writes one chunk with its added columns."""
        ...


class _ParquetPrompts:
    """Rows of a Parquet file, whose row groups are read page by page."""

    def __init__(self, source: Path, file: pq.ParquetFile) -> None:
        self._source, self._file = source, file
        names = file.schema_arrow.names
        _refuse_columns(source, names.count(PROMPT), names)
        found = file.schema_arrow.field(PROMPT).type
        if not _holds_text(found):
            raise _wrong(source, f"its column {PROMPT} holds {found}, not text")

    @classmethod
    @contextmanager
    def opened(cls, source: Path) -> Iterator[_ParquetPrompts]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(source, error) from None
        with file:
            yield cls(source, file)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        import pyarrow as pa

        before = 0
        batches = self._file.iter_batches(rows)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(self._source, error) from None
            if batch is None:
                return
            yield Chunk(self._texts(batch.column(PROMPT), before), batch)
            before += batch.num_rows

    def _texts(self, column: pa.Array, before: int) -> list[str]:
        try:
            texts = column.to_pylist()
        except UnicodeDecodeError:
            texts = [_text_or_bytes(cell) for cell in column]
        for row, text in enumerate(texts, start=before + 1):
            if not isinstance(text, str):
                raise _wrong(self._source, f"the column {PROMPT} of row {row} is {_kind_of(text)}, not text")
        return texts

    @contextmanager
    def writer(self, path: Path) -> Iterator[Write]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {"llm": pa.string(), "cluster": pa.int64(), "router_digest": pa.string()}
        schema = self._file.schema_arrow
        for name in ADDED:
            schema = schema.append(pa.field(name, kinds.get(name, pa.float64())))
        with pq.ParquetWriter(path, schema) as file:

            def write(batch: pa.RecordBatch, added: Mapping[str, Sequence[Any]]) -> None:
                columns = [pa.array(added[name], schema.field(name).type) for name in ADDED]
                file.write_table(pa.Table.from_arrays([*batch.columns, *columns], schema=schema))

            yield write


class _JsonLinesPrompts:
    """Lines of a JSON Lines file; the text of a line is kept, so that every number stays as it is."""

    def __init__(self, source: Path, file: BinaryIO) -> None:
        self._source, self._file = source, file

    @classmethod
    @contextmanager
    def opened(cls, source: Path) -> Iterator[_JsonLinesPrompts]:
        try:
            file = source.open("rb")
        except OSError as error:
            raise _unreadable(source, error) from None
        with file:
            yield cls(source, file)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        texts: list[str] = []
        lines: list[str] = []
        # Lines of bytes, not of text: prompts may contain line separators that JSON does not escape, such as U+2028.
        for number, line in enumerate(self._file, start=1):
            if not line.strip():
                continue
            texts.append(self._text(line, number))
            lines.append(line.decode().strip())
            if len(texts) == rows:
                yield Chunk(texts, lines)
                texts, lines = [], []
        if texts:
            yield Chunk(texts, lines)

    def _text(self, line: bytes, number: int) -> str:
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise _wrong(self._source, f"row {number} is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise _wrong(self._source, f"row {number} is not a JSON object")
        _refuse_columns(f"row {number} of {self._source}", int(PROMPT in row), list(row))
        if not isinstance(row[PROMPT], str):
            raise _wrong(self._source, f"the field {PROMPT} of row {number} is {_kind_of(row[PROMPT])}, not text")
        return row[PROMPT]

    @contextmanager
    def writer(self, path: Path) -> Iterator[Write]:
        with path.open("w", encoding="utf-8", newline="\n") as file:

            def write(lines: Sequence[str], added: Mapping[str, Sequence[Any]]) -> None:
                for line, *cells in zip(lines, *(added[name] for name in ADDED), strict=True):
                    more = json.dumps(dict(zip(ADDED, cells, strict=True)))
                    file.write(f"{line[:-1].rstrip()}, {more[1:]}\n")

            yield write


_OPENERS: Mapping[str, Callable[[Path], AbstractContextManager[Prompts]]] = {
    ".parquet": _ParquetPrompts.opened,
    ".jsonl": _JsonLinesPrompts.opened,
}


def opener_for(source: Path, target: Path) -> Callable[[Path], AbstractContextManager[Prompts]]:
    """Return the function that opens a file of the kind of input and output.

    Raises
    ------
    InvalidInput
        The kind is unknown, or the two kinds differ.
    """
    for file in (source, target):
        if file.suffix not in _OPENERS:
            raise InvalidInput(
                f"{file} is neither .parquet nor .jsonl: its ending is {file.suffix or 'missing'}.",
                hint="uniroute route --input prompts.parquet --output routed.parquet",
            )
    if source.suffix != target.suffix:
        raise InvalidInput(
            f"The input {source} and the output {target} must have the same format, {source.suffix}.",
            hint=f"--output {target.with_suffix(source.suffix)}",
        )
    return _OPENERS[source.suffix]


def refuse_taken(source: Path, target: Path, may_overwrite: bool) -> None:
    """Refuse an output that exists, or that is the input.

    Raises
    ------
    InvalidInput
        The output exists, is the input, or is a folder; nothing was changed.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise InvalidInput(
            f"{target} is the input itself.", unchanged="It was not changed.", hint="Name another output."
        )
    if target.is_dir():
        raise InvalidInput(f"{target} is a folder.", hint="Name a file for the output.")
    if target.exists() and not may_overwrite:
        raise InvalidInput(
            f"The output {target} exists.", unchanged="It was not changed.", hint="Replace it with: --overwrite"
        )


@contextmanager
def appearing(target: Path, may_overwrite: bool) -> Iterator[Path]:
    """Yield a file beside the target that becomes the target on success and is removed on failure."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with _stoppable():
            yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if not may_overwrite and target.exists():
            raise FileExistsError(None, "another process created it meanwhile")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that partial output is removed."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Interrupted("Routing was stopped by SIGTERM.", signal_number=number, unchanged="Nothing was written.")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _refuse_columns(subject: object, prompts: int, names: Sequence[str]) -> None:
    if prompts != 1:
        cause = f"{prompts} columns" if prompts else "no column"
        raise _wrong(subject, f"there is {cause} named {PROMPT}, only {', '.join(names[:10]) or 'nothing'}")
    taken = [name for name in ADDED if name in names]
    if taken:
        raise _wrong(subject, f"it already has {', '.join(taken)}, which routing would add")


def _holds_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner)


def _text_or_bytes(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return b""


def _kind_of(cell: object) -> str:
    names = {type(None): "null", bytes: "not UTF-8", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(cell), "a list" if isinstance(cell, list) else "an object")


def _wrong(subject: object, cause: str) -> InvalidInput:
    return InvalidInput(
        f"{subject} cannot be routed: {cause}.",
        unchanged="Nothing was written.",
        hint=f"Every row needs a text named {PROMPT}; everything else in it is carried through.",
    )


def _unreadable(source: Path, error: Exception) -> InvalidInput:
    # Arrow wraps the system's message in a sentence with the path.
    cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return InvalidInput(f"{source} cannot be read: {cause}.", unchanged="Nothing was written.", hint="Check --input.")
