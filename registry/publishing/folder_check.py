"""Whether a version's folder holds what was published, and nothing else that could run.

The registry, `RouterClient` and exported versions all check with this one file. It needs the standard library alone, so
that a copy checks where uniroute is not installed: `verify.py` in an exported version is one. Nothing but `sys`, which
is built in, may be imported before that copy's own folder is off the path: not even `__future__`, which is a file.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # What was planted beside this file must not be imported instead of the standard library.
    del sys.path[0]

import hashlib
import importlib.util
import json
import marshal
import os
import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit
from urllib.request import url2pathname

NOTE = "registered_model_meta"
"""MLflow writes it beside a version that it loads: two lines of text that MLflow never reads, and that cannot run."""

_CACHE = "__pycache__"
_NAMED = 3
_LONGEST_NOTE = 1000
_DEEPEST = 20
_NOTE = re.compile(rb"model_name: (?P<name>[^\n]+)\nmodel_version: (?P<version>[^\n]+)\n")
# Without the name of the file, which is wherever the source lay when it was compiled: 5 numbers, 8 parts, a number, 2.
_CODE_PARTS = ("number",) * 5 + ("part",) * 5 + ("left out", "part", "part", "number", "part", "part")


class FolderChanged(ValueError):
    """A version's folder is not what was published; the message says in what."""


@dataclass(frozen=True)
class FolderContent:
    """What a version's folder holds.

    Attributes
    ----------
    files
        SHA-256 of each file by its path in the folder; what MLflow and Python write when they load it is left out.
    bytecode
        Paths of the compiled code, none of which counts as a file when it equals its source.
    problems
        What no published folder holds, such as links.
    """

    files: Mapping[str, str]
    bytecode: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def digest(self) -> str:
        """One digest over the names and contents of all files."""
        return digest_of(self.files)


def digest_of(files: Mapping[str, str]) -> str:
    """Return one digest over files: SHA-256 over their paths and digests in canonical JSON."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digests(root: Path, pattern: str) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder by its path in it, except what Python compiled there.

    Parameters
    ----------
    root
        The folder.
    pattern
        Pattern of the file names, such as ``*.py``.
    """
    return {
        path.relative_to(root).as_posix(): _sha256(path)
        for path in sorted(root.rglob(pattern))
        if path.is_file() and path.parent.name != _CACHE
    }


def read_folder(folder: Path, *, published_as: tuple[str, str] | None = None) -> FolderContent:
    """Read the digests of all files of a version's folder, following no link.

    Parameters
    ----------
    folder
        The folder of a version, built here, downloaded, or where MLflow keeps it.
    published_as
        Name and number of the version, when MLflow's note about them is to be compared.
    """
    files, bytecode, problems = {}, [], []
    for path, problem in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if problem:
            problems.append(f"{name!r} is {problem}")
        elif name == NOTE:
            problems += _problems_of_note(path, published_as)
        elif path.parent.name == _CACHE:
            bytecode.append(name)
        else:
            files[name] = _sha256(path)
    return FolderContent(files, tuple(bytecode), tuple(problems))


def problems_of(
    folder: Path,
    digest: str,
    *,
    files: Mapping[str, str] | None = None,
    published_as: tuple[str, str] | None = None,
) -> tuple[str, ...]:
    """Compare a version's folder with the digest that was kept of it; empty when nothing differs.

    Parameters
    ----------
    folder
        The folder, which may be changed in any way: nothing in it is run.
    digest
        Digest of the whole folder, from elsewhere than the folder.
    files
        Digest of each file, when known, so that the differing ones can be named.
    published_as
        As for `read_folder`.
    """
    content = read_folder(folder, published_as=published_as)
    problems = list(content.problems)
    if content.digest != digest:
        named = "" if files is None or digest_of(files) != digest else f": {_differences(content.files, files)}"
        problems.append(f"its folder has the digest {content.digest}, not {digest}{named}")
    return (*problems, *foreign_bytecode(folder, content))


def foreign_bytecode(folder: Path, content: FolderContent) -> tuple[str, ...]:
    """Return a line for each compiled file that Python would run instead of the source beside it.

    Parameters
    ----------
    folder
        The folder of a version.
    content
        What was read of it.
    """
    return tuple(
        f"{name!r} is not what Python {sys.version_info.major}.{sys.version_info.minor} compiles from a checked source"
        for name in content.bytecode
        if not _is_compiled_from(folder, name, content.files)
    )


def remove_compiled(folder: Path) -> None:
    """Remove compiled code from our own copy of a version's folder: only the source that was checked is to run.

    Parameters
    ----------
    folder
        The copy.
    """
    for cache in [path for path in folder.rglob(_CACHE) if path.is_dir()]:
        shutil.rmtree(cache)


def local_folder(uri: str) -> Path | None:
    """Return where artifacts lie on this machine, or None when they are elsewhere.

    Parameters
    ----------
    uri
        Where MLflow says that a version's folder is.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(url2pathname(parts.path) if parts.scheme else uri)


def refuse_links(folder: Path | None) -> None:
    """Refuse a folder with links before it is copied: a copy follows them, so that they are no longer seen.

    Parameters
    ----------
    folder
        Where MLflow keeps a version; None when that is not on this machine.

    Raises
    ------
    FolderChanged
        Naming the first link, or what else is no file.
    """
    if folder is None or not folder.exists():
        return
    if folder.is_symlink():
        raise FolderChanged(f"{folder.name!r} is a link")
    for path, problem in _walk(folder):
        if problem:
            raise FolderChanged(f"{path.relative_to(folder).as_posix()!r} is {problem}")


def _walk(folder: Path, depth: int = 0) -> Iterator[tuple[Path, str]]:
    """Yield everything in a folder that is no folder, with what is wrong with it; sorted by path."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            yield path, "a link"
        elif entry.is_dir(follow_symlinks=False) and depth < _DEEPEST:
            yield from _walk(path, depth + 1)
        elif entry.is_dir(follow_symlinks=False):
            yield path, "a folder in too many others"
        else:
            yield path, "" if entry.is_file(follow_symlinks=False) else "neither a file nor a folder"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _problems_of_note(path: Path, published_as: tuple[str, str] | None) -> list[str]:
    """Compare MLflow's note with its form, and with the version when that is known: answers quote it."""
    found = _NOTE.fullmatch(path.read_bytes()) if path.stat().st_size <= _LONGEST_NOTE else None
    if found is None:
        return [f"{NOTE!r} is not what MLflow writes there"]
    name, version = (found[part].decode("utf-8", "replace").strip("'\"") for part in ("name", "version"))
    if published_as is not None and (name, version) not in (published_as, ("null", "null")):
        return [f"{NOTE!r} says {name!r} version {version!r}"]
    return []


def _differences(found: Mapping[str, str], stated: Mapping[str, str]) -> str:
    """Name the files that differ: changed, gone or added."""
    lines = [f"{name!r} was added" for name in sorted(found.keys() - stated.keys())]
    lines += [f"{name!r} is gone" for name in sorted(stated.keys() - found.keys())]
    lines += [f"{name!r} was changed" for name in sorted(found.keys() & stated.keys()) if found[name] != stated[name]]
    more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return ", ".join(lines[:_NAMED]) + more


def _is_compiled_from(folder: Path, name: str, files: Mapping[str, str]) -> bool:
    """Whether a compiled file equals a fresh compilation of the source that it stands for; neither is run."""
    path = folder / name
    found = re.fullmatch(
        rf"(?P<stem>.+)\.{re.escape(sys.implementation.cache_tag)}(?:\.opt-(?P<level>[12]))?\.pyc", path.name
    )
    if found is None:
        return False
    source = path.parent.parent / f"{found['stem']}.py"
    if source.relative_to(folder).as_posix() not in files:
        return False
    data = path.read_bytes()
    if len(data) < 16 or data[:4] != importlib.util.MAGIC_NUMBER:
        return False
    try:
        again = compile(source.read_bytes(), "", "exec", dont_inherit=True, optimize=int(found["level"] or 0))
        return code_digest(data[16:]) == code_digest(marshal.dumps(again))
    except (ValueError, SyntaxError, RecursionError, MemoryError, OverflowError):
        return False


def code_digest(marshalled: bytes) -> bytes:
    """Digest marshalled code by what it does, without making an object of it: marshal is not safe on foreign bytes.

    Two compilations of one source differ in the name of the file, in which strings are shared, and in nothing else.

    Parameters
    ----------
    marshalled
        What `marshal.dumps` writes since Python 3.11.

    Raises
    ------
    ValueError
        For anything else.
    """
    reader = _Marshalled(marshalled)
    digest = reader.digest()
    if not reader.is_at_end:
        raise ValueError("something follows the code")
    return digest


class _Marshalled:
    """Reads marshalled values one by one and keeps nothing but their digests."""

    _ALONE = "NTFS."
    _WIDTHS: Mapping[str, int] = MappingProxyType({"i": 4, "g": 8, "y": 16})
    _LONG_TEXTS = "sutaA"
    _SHORT_TEXTS = "zZ"
    _PARTS = "([<>"

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._known: list[bytes | None] = []

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def digest(self) -> bytes:
        head = self._take(1)[0]
        kind, is_shared = chr(head & 0x7F), bool(head & 0x80)
        if kind == "r":
            number = self._number()
            known = self._known[number] if number < len(self._known) else None
            if known is None:
                raise ValueError("a reference to nothing")
            return known
        place = len(self._known)
        if is_shared:
            self._known.append(None)
        found = self._of(kind)
        if is_shared:
            self._known[place] = found
        return found

    def _of(self, kind: str) -> bytes:
        if kind in self._ALONE:
            return _joined(kind, b"")
        if kind in self._WIDTHS:
            return _joined(kind, self._take(self._WIDTHS[kind]))
        if kind == "l":
            digits = self._number(is_signed=True)
            return _joined(kind, struct.pack("<i", digits) + self._take(2 * abs(digits)))
        if kind in self._LONG_TEXTS or kind in self._SHORT_TEXTS:
            # Whether a text is interned, or kept as ASCII, changes nothing about it; bytes are another type.
            length = self._take(1)[0] if kind in self._SHORT_TEXTS else self._number()
            return _joined("s" if kind == "s" else "u", self._take(length))
        if kind in self._PARTS or kind == ")":
            n_parts = self._take(1)[0] if kind == ")" else self._number()
            parts = [self.digest() for _ in range(n_parts)]
            # The order in a set is that of hashes, which differ from process to process.
            return _joined("(" if kind == ")" else kind, b"".join(sorted(parts) if kind in "<>" else parts))
        if kind == ":":
            return _joined(kind, b"".join(self.digest() for _ in range(3)))
        if kind == "c":
            return _joined(kind, b"".join(self._part_of_code(part) for part in _CODE_PARTS))
        raise ValueError(f"marshalled code never holds {kind!r}")

    def _part_of_code(self, part: str) -> bytes:
        if part == "number":
            return self._take(4)
        digest = self.digest()
        return b"" if part == "left out" else digest

    def _number(self, *, is_signed: bool = False) -> int:
        (number,) = struct.unpack("<i", self._take(4))
        if number < 0 and not is_signed:
            raise ValueError("a negative length")
        return number

    def _take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) != length:
            raise ValueError("the code ends too early")
        self._at += length
        return taken


def _joined(kind: str, content: bytes) -> bytes:
    return hashlib.sha256(kind.encode() + content).digest()


def _main(digest: str | None) -> str:
    """Verify the exported version beside this file; return what is wrong with it, or an empty text.

    Parameters
    ----------
    digest
        Digest of the version's folder from elsewhere; without one, the export can only be compared with itself.
    """
    here = Path(__file__).resolve().parent
    try:
        stated = json.loads((here / "export.json").read_text(encoding="utf-8"))
        files = {name.removeprefix("version/"): one for name, one in stated["files"].items()}
        router, whole, published_as = (
            stated["digest"],
            stated["folder_digest"],
            (stated["name"], str(stated["version"])),
        )
        problems = problems_of(
            here / "version", whole if digest in (None, router) else digest, files=files, published_as=published_as
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"CHANGED: it cannot be read: {error!r}"
    try:
        inside = json.loads((here / "version/artifacts/router/digests.json").read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        inside = "none that can be read"
    extra = sorted(path.name for path in here.iterdir() if path.name not in ("export.json", "verify.py", "version"))
    problems += tuple(f"{name!r} was added beside the version" for name in extra)
    if inside != router:
        problems += (f"the router is {inside}, export.json says {router}",)
    if problems:
        return f"CHANGED: {'; '.join(problems)}"
    sys.stdout.write(f"intact: {len(files)} files of router {router}\n")
    if digest != whole:
        given = "no digest was given" if digest is None else "the digest given is of the router alone"
        sys.stdout.write(f"compared with export.json only, because {given}; its folder has the digest {whole}\n")
    return ""


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1] if len(sys.argv) > 1 else None) or 0)
