"""A router as a folder: `router.json`, `arrays.npz` and `digests.json`. Loading executes nothing.

`digests.json` holds the SHA-256 of both files and the router's own digest. It is written in one canonical form and
compared byte for byte with what the files result in, so one flipped byte in any of the three is found. A reader that
knows the router's digest from elsewhere, such as a registry, needs nothing more to trust the folder. Other files are
ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .content import RATIOS, TOKENS, VECTOR_ARRAYS, arrays_of, describe, format_of
from .decisions import RoutedLLM
from .embedding import EmbedderId
from .errors import ArtifactCorrupt, ArtifactError, ArtifactTooNew
from .features import FeatureVector
from .prompt_weights import ClusterMap
from .router import Router
from .strict_json import canonical_json, parse_json

if TYPE_CHECKING:
    from .router import Router

# Formats this code reads; a router is written in the first one that can hold it.
FORMATS = (1, 2)
ROUTER_FILE, ARRAYS_FILE, DIGESTS_FILE = "router.json", "arrays.npz", "digests.json"
FILES = (ROUTER_FILE, ARRAYS_FILE, DIGESTS_FILE)

_REPAIR = "uniroute doctor --repair"

# Larger than any router: a thousand LLMs on a thousand clusters take 30 MB.
_MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class Manifest:
    """Digests of a router folder.

    Attributes
    ----------
    digest
        Digest of the router.
    files
        SHA-256 of every file, by name.
    """

    digest: str
    files: Mapping[str, str]


def save_router(router: Router, folder: Path) -> Manifest:
    """Write a router as a folder, all or nothing; the same router gives the same bytes.

    Parameters
    ----------
    router
        The router.
    folder
        Target; its parent is created when missing. A folder that already holds this very router is left as it is.

    Returns
    -------
    Manifest

    Raises
    ------
    ArtifactCorrupt
        When the folder already holds something else.
    ArtifactError
        When it cannot be written, for example because the disk is full; nothing of it is left behind.
    """
    folder = Path(folder)
    content = {"format": format_of(router), **describe(router)}
    files = {ROUTER_FILE: canonical_json(content).encode() + b"\n", ARRAYS_FILE: _npz(arrays_of(router))}
    manifest = _manifest(router.digest, files)
    files[DIGESTS_FILE] = _digests_json(manifest)
    if _holds(folder, files):
        return manifest
    if folder.exists():
        raise ArtifactCorrupt(
            f"{folder} already holds something other than router {router.digest[:12]}",
            unchanged="The folder was left as it is.",
            hint=_REPAIR,
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write(files, folder)
    except OSError as error:
        if _holds(folder, files):  # another process wrote the same router in the same moment
            return manifest
        raise ArtifactError(
            f"router {router.digest[:12]} cannot be written to {folder.parent}: {error.strerror}",
            unchanged="What was there before is unchanged.",
            hint="Free some space, or check the permissions of the folder.",
        ) from error
    return manifest


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the folder beside its target and rename it when every byte is on the disk."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, data in files.items():
            with (scratch / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        scratch.chmod(0o755)
        scratch.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def load_router(folder: Path) -> Router:
    """Read a router from its folder and check every byte of it.

    Parameters
    ----------
    folder
        A folder that `save_router` wrote.

    Returns
    -------
    Router

    Raises
    ------
    ArtifactCorrupt
        When a file is missing, was changed, or has unexpected content.
    ArtifactTooNew
        When a later version of uniroute wrote it.
    """
    folder = Path(folder)
    files = {name: _read(folder, name) for name in (DIGESTS_FILE, ROUTER_FILE, ARRAYS_FILE)}
    digests = files.pop(DIGESTS_FILE)
    with _corrupt_unless_readable(folder, DIGESTS_FILE):
        stated = parse_json(digests)
        digest, sums = str(stated["digest"]), dict(stated["files"])
    for name, data in files.items():
        if sums.get(name) != hashlib.sha256(data).hexdigest():
            raise ArtifactCorrupt(f"{name} in {folder} is not the file that {DIGESTS_FILE} describes", hint=_REPAIR)
    with _corrupt_unless_readable(folder, ROUTER_FILE):
        content = parse_json(files[ROUTER_FILE])
        version = int(content["format"])
    if version not in FORMATS:
        raise ArtifactTooNew(
            f"{folder} has format {version}, this version reads {', '.join(map(str, FORMATS))}",
            hint="install a later version of uniroute",
        )
    with _corrupt_unless_readable(folder, ARRAYS_FILE):
        arrays = _read_npz(files[ARRAYS_FILE])
    with _corrupt_unless_readable(folder, ROUTER_FILE):
        router = rebuild(content, arrays)
    if router.digest != digest or digests != _digests_json(_manifest(digest, files)):
        raise ArtifactCorrupt(
            f"the content of {folder} is not router {digest[:12]}, as {DIGESTS_FILE} says", hint=_REPAIR
        )
    return router


def _manifest(digest: str, files: Mapping[str, bytes]) -> Manifest:
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    return Manifest(digest, MappingProxyType(sums))


def _digests_json(manifest: Manifest) -> bytes:
    return canonical_json({"digest": manifest.digest, "files": dict(manifest.files)}).encode() + b"\n"


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode arrays as an npz with the same bytes every time: no clock, no compression, sorted names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            # Otherwise the bytes depend on the operating system.
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            data = io.BytesIO()
            np.lib.format.write_array(data, array, version=(1, 0), allow_pickle=False)
            archive.writestr(entry, data.getvalue())
    return buffer.getvalue()


def _read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Read an npz without unpickling or decompressing anything."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or not entry.filename.endswith(".npy"):
                raise ValueError(f"unexpected entry {entry.filename!r}")
            with archive.open(entry) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            arrays[entry.filename.removesuffix(".npy")] = array
    return arrays


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ArtifactCorrupt(f"{name} in {folder} is too large for a router")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactCorrupt(f"{name} in {folder} cannot be read: {error.strerror}", hint=_REPAIR) from error


@contextlib.contextmanager
def _corrupt_unless_readable(folder: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, EOFError) as error:
        raise ArtifactCorrupt(f"{name} in {folder} is not the content of a router: {error}", hint=_REPAIR) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, MemoryError, OverflowError) as error:
        raise ArtifactCorrupt(f"{name} in {folder} cannot be read: {error}", hint=_REPAIR) from error


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        return all((folder / name).read_bytes() == data for name, data in files.items())
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def rebuild(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Router:
    """Make a router from the results of `describe` and `arrays_of`.

    Raises
    ------
    KeyError, TypeError, ValueError
        When something is missing or has the wrong type; `InvalidInput` is a `ValueError`.
    """
    from .router import Router

    map_arrays = {name.removeprefix("map/"): array for name, array in arrays.items() if name.startswith("map/")}
    ratios = arrays.get(RATIOS, np.ones(len(content["llms"])))
    llms = [
        RoutedLLM(
            row["key"],
            row["input_usd_per_mtok"],
            row["output_usd_per_mtok"],
            FeatureVector(
                **{name: arrays[f"vectors/{name}"][position] for name in VECTOR_ARRAYS},
                n_prompts=row["n_prompts"],
                n_scored=row["n_scored"],
                input_token_ratio=ratios[position],
            ),
        )
        for position, row in enumerate(content["llms"])
    ]
    return Router(
        ClusterMap.from_arrays(content["cluster_map"]["kind"], map_arrays),
        llms,
        embedder=EmbedderId(**content["embedder"]),
        cost_weight=content["cost_weight"],
        calibration_weights=arrays["calibration_weights"],
        calibration_tokens=arrays.get(TOKENS, np.zeros(0, dtype=np.float32)),
        provenance=content["provenance"],
    )
