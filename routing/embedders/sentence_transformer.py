"""Any embedder of sentence-transformers that is on this machine: the reference, and the way to other weights.

Only this module imports sentence-transformers and torch, and only when it embeds or must learn the length of a row.
Nothing is downloaded, no code that comes with an embedder is run, and nothing pickled is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embedding import F32, EmbedderId, encodable
from ..errors import EmbedderUnavailable, InvalidInput
from . import minilm

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FOLDER = "folder:"
"""Begins the name of an embedder that was given as a folder; the folder's own name follows."""

# What decides over a row. Other forms of the same weights, and what only describes them, do not change the identity.
_DECISIVE = frozenset({".safetensors", ".json", ".txt", ".model"})
_OTHER_FORMS = frozenset({("onnx",), ("openvino",)})
_PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
_SAFE_WEIGHTS = frozenset({"model.safetensors", "model.safetensors.index.json"})
_OWN_MODULES = "sentence_transformers."


class SentenceTransformerEmbedder:
    """Embed with sentence-transformers on the CPU, without network.

    Parameters
    ----------
    name
        ``all-MiniLM-L6-v2``, whose weights come from an installed package and are refused unless they are the pinned
        ones; the name of an embedder in the cache of Hugging Face; or a folder, which has a slash in its name.
    known
        The identity that is expected, if there is one; without it, other embedders are loaded at once, which takes
        seconds, to learn the length of their rows.
    threads
        Threads that torch uses, process-wide; None means every core this process may use, or OMP_NUM_THREADS if set.
    batch_size
        Texts per forward pass; they are sorted by length first. On two cores, larger batches make short texts no
        faster and long ones slower.

    Raises
    ------
    InvalidInput
        When there is no embedder of this name on this machine.
    EmbedderUnavailable
        When its weights are missing or pickled, differ from the pinned ones, or need code of their own.
    """

    def __init__(
        self,
        name: str = minilm.NAME,
        *,
        known: EmbedderId | None = None,
        threads: int | None = None,
        batch_size: int = 8,
    ) -> None:
        self._threads = minilm.usable_threads() if threads is None else threads
        self._batch_size = batch_size
        if name == minilm.NAME:
            minilm.read_pinned(minilm.WEIGHTS)
            self._folder, self.id = minilm.weights_folder(), minilm.ID
            return
        self._folder = folder_of(name)
        _refuse_code_and_pickles(self._folder)
        full_name = f"{FOLDER}{self._folder.resolve().name}" if is_folder(name) else _repository(name)
        revision = _digest(self._folder)[:12]
        if known == EmbedderId(full_name, revision, known.dim if known is not None else 0):
            self.id = known
        else:
            self.id = EmbedderId(full_name, revision, int(self._found(["text"]).shape[1]))

    def embed(self, texts: Sequence[str]) -> F32:
        """Embed texts.

        Parameters
        ----------
        texts
            Any texts, of which the embedder may read the beginning only (all-MiniLM-L6-v2: 256 tokens). Pass the whole
            list: it is sorted by length, which saves three quarters of the time.

        Returns
        -------
        (n, dim) float32
            Unit rows in the order of the texts; the first unit vector where the embedder finds nothing in a text.

        Raises
        ------
        EmbedderUnavailable
            When the embedder returns rows of another length, or with numbers that are not finite.
        """
        cleaned = encodable(texts)
        if not cleaned:
            return np.zeros((0, self.id.dim), dtype=np.float32)
        rows = self._found(cleaned)
        if rows.shape != (len(cleaned), self.id.dim) or not np.isfinite(rows).all():
            raise EmbedderUnavailable(f"the embedder {self.id.key} returned rows that cannot be used")
        rows[~rows.any(axis=1), 0] = 1.0
        return rows

    def _found(self, texts: list[str]) -> F32:
        found = self._encoder.encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.ascontiguousarray(found, dtype=np.float32)

    @cached_property
    def _encoder(self) -> SentenceTransformer:
        # Nothing may be looked up or downloaded, and a progress bar would end up in a consumer's log.
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            import torch
            import transformers
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise EmbedderUnavailable(
                f"the embedder {self._folder.name} needs sentence-transformers, which cannot be imported here: {error}",
                hint="pip install sentence-transformers",
            ) from error
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(self._threads)
        try:
            return SentenceTransformer(
                str(self._folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
            cause = str(error).strip().partition("\n")[0]
            raise EmbedderUnavailable(f"the embedder in {self._folder} cannot be loaded: {cause}") from error


def is_folder(name: str) -> bool:
    """Whether the name of an embedder means a folder: it has a slash and is one here, or can be nothing else."""
    return name.startswith((".", "/", "~")) or ("/" in name and Path(name).is_dir())


def folder_of(name: str) -> Path:
    """Return the folder of an embedder.

    Parameters
    ----------
    name
        A folder, or a name that is looked up in the cache of Hugging Face; one without an owner is of
        ``sentence-transformers``, as there.

    Raises
    ------
    InvalidInput
        When it is not on this machine.
    """
    if is_folder(name):
        folder = Path(os.path.expanduser(name))  # noqa: PTH111 - Path raises for an unknown user
        # Looked at before anything else: a mistyped "/" would have the whole disk read.
        if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
            raise InvalidInput(f"there is no embedder {name!r}: no folder of one", hint=_hint(name))
        return folder
    os.environ["HF_HUB_OFFLINE"] = "1"
    unknown = InvalidInput(f"there is no embedder {name!r} on this machine", hint=_hint(name))
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise unknown from None
    try:
        return Path(snapshot_download(_repository(name), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        raise unknown from None


def _repository(name: str) -> str:
    return name if "/" in name else f"sentence-transformers/{name}"


def _hint(name: str) -> str:
    known = f"use {minilm.NAME}, static-minilm or hashing-256"
    if is_folder(name) or not name.strip():
        return known
    return f"{known}; or put it there: hf download {_repository(name)}; or name a folder, with a slash"


def _files(folder: Path) -> Iterator[Path]:
    """Return the files of an embedder, without other forms of its weights and what begins with a dot."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _is_passed_over(path.relative_to(folder)):
            yield path


def _is_passed_over(path: Path) -> bool:
    return path.parts[:1] in _OTHER_FORMS or any(part.startswith(".") for part in path.parts)


def _digest(folder: Path) -> str:
    """Return a digest of what decides over a row: the weights, the tokenizer and how they are put together."""
    summary = hashlib.sha256()
    for path in _files(folder):
        if path.suffix in _DECISIVE:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            summary.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return summary.hexdigest()


def _refuse_code_and_pickles(folder: Path) -> None:
    files = tuple(_files(folder))
    # Only under these names are they read instead of pickled ones that lie beside them.
    safe = {path.parent for path in files if path.name in _SAFE_WEIGHTS}
    if not any(path.suffix == ".safetensors" for path in files):
        raise EmbedderUnavailable(
            f"the embedder in {folder} has no weights in safetensors", hint="convert them: save it with safetensors"
        )
    for path in files:
        if path.suffix in _PICKLED and path.parent not in safe:
            raise EmbedderUnavailable(
                f"the embedder in {folder} has weights that are pickled, which may run code: {path.name}",
                hint="convert them: save it with safetensors",
            )
        if path.name == "adapter_config.json":
            raise EmbedderUnavailable(
                f"the embedder in {folder} is an adapter to weights elsewhere", hint="merge it with them and save both"
            )
        content = _read_json(path) if path.suffix == ".json" else None
        if any(_is_passed_over(part) for part in _parts(content)):
            raise EmbedderUnavailable(
                f"the embedder in {folder} has parts in a folder that is not part of its identity ({path.name})",
                hint="move them to a folder whose name begins with no dot, and is neither onnx nor openvino",
            )
        if _wants_own_code(content):
            raise EmbedderUnavailable(
                f"the embedder in {folder} wants code of its own to be run ({path.name}), which is never done",
                hint="use one that sentence-transformers and transformers can run themselves",
            )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EmbedderUnavailable(f"{path} of the embedder is not JSON") from error


def _parts(content: Any) -> Iterator[Path]:
    """Return the folders of the parts that a file lists: an embedder is a list of them, a router of it a table."""
    if isinstance(content, list):
        yield from (Path(str(entry["path"])) for entry in content if isinstance(entry, dict) and "path" in entry)
    elif isinstance(content, dict) and isinstance(content.get("types"), dict):
        yield from map(Path, content["types"])


def _wants_own_code(content: Any) -> bool:
    """Whether a file names classes outside sentence-transformers and transformers."""
    if isinstance(content, dict):
        types = content.get("types")
        return "auto_map" in content or (isinstance(types, dict) and any(map(_is_foreign, types.values())))
    entries = content if isinstance(content, list) else []
    return any(isinstance(entry, dict) and "type" in entry and _is_foreign(entry["type"]) for entry in entries)


def _is_foreign(kind: object) -> bool:
    return not (isinstance(kind, str) and kind.startswith(_OWN_MODULES))
