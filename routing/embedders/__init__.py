"""Embedders: all-MiniLM-L6-v2, its distilled table, hashed words, and any other of sentence-transformers."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from ..embedding import Embedder, EmbedderId
from ..errors import ArtifactIncompatible, InvalidInput
from . import minilm
from .hashing import HASHING, HashingEmbedder
from .sentence_transformer import FOLDER, SentenceTransformerEmbedder, is_folder

__all__ = ["HashingEmbedder", "SentenceTransformerEmbedder", "keep_embedder", "load_embedder", "load_embedder_for"]

SETTING = "UNIROUTE_EMBEDDER__NAME"
"""Environment variable of the setting ``[embedder] name``. Where a router names an embedder that was given as a folder,
this says where that folder is here."""

_STATIC = "static-minilm"


def load_embedder(name: str, *, folder: Path | None = None) -> Embedder:
    """Open an embedder by name.

    Parameters
    ----------
    name
        "all-MiniLM-L6-v2", "static-minilm", "hashing-256" with any dimension in place of 256, or another embedder of
        sentence-transformers: a name in the cache of Hugging Face, or a folder, which has a slash in its name.
    folder
        Folder of the table of "static-minilm"; the first call distils it, which takes a minute or more.

    Raises
    ------
    InvalidInput
        When there is no such embedder on this machine, or "static-minilm" has no folder.
    EmbedderUnavailable
        When its weights are missing, pickled or not the pinned ones, or its table is damaged.
    """
    if name in (minilm.NAME, f"sentence-transformers/{minilm.NAME}"):
        return open_minilm()
    if name == _STATIC:
        return _static(folder)
    prefix, _, dim = name.rpartition("-")
    if prefix == HASHING and dim.isascii() and dim.isdigit():
        return HashingEmbedder(int(dim))
    return SentenceTransformerEmbedder(name)


def load_embedder_for(embedder: EmbedderId, *, folder: Path | None = None, given: str = "") -> Embedder:
    """Open the embedder that a router was fitted with, and refuse any other.

    Parameters
    ----------
    embedder
        Identity stored in the router.
    folder
        Folder of the router, which contains the table of "static-minilm".
    given
        The embedder that the settings name: where the folder is that the router names. `SETTING` when empty.

    Raises
    ------
    ArtifactIncompatible
        When this installation has no embedder of exactly this identity.
    EmbedderUnavailable
        When its weights cannot be used.
    """
    try:
        found = _named(embedder, folder, given or os.environ.get(SETTING, ""))
    except InvalidInput as error:
        raise ArtifactIncompatible(
            f"the router needs the embedder {embedder.key}: {error.message}", hint=error.hint
        ) from error
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
        from .static import StaticEmbedder

        assert isinstance(embedder, StaticEmbedder), "the name is its own"
        embedder.save(folder)


@lru_cache(maxsize=1)
def open_minilm(*, batch_size: int = 4) -> Embedder:
    """Open all-MiniLM-L6-v2, once per process: on ONNX Runtime, or by sentence-transformers where there is none.

    Parameters
    ----------
    batch_size
        Texts per forward pass.

    Raises
    ------
    EmbedderUnavailable
        When the weights are missing or differ from the pinned ones.
    """
    from .onnx_minilm import OnnxMiniLm

    try:
        return OnnxMiniLm(batch_size=batch_size)
    except ImportError:
        return SentenceTransformerEmbedder(batch_size=batch_size)


def _named(embedder: EmbedderId, folder: Path | None, given: str) -> Embedder:
    """Open the embedder of a name; its identity may still be another one."""
    if embedder.name == _STATIC:
        return _kept_static(folder)
    if embedder.name.startswith(FOLDER):
        if not is_folder(given):
            raise InvalidInput(
                "nothing says where its folder is", hint=f"export {SETTING}=/path/to/{embedder.name[len(FOLDER) :]}"
            )
        return SentenceTransformerEmbedder(given, known=embedder)
    if embedder.name in (HASHING, minilm.NAME):
        return load_embedder(f"{HASHING}-{embedder.dim}" if embedder.name == HASHING else embedder.name)
    return SentenceTransformerEmbedder(embedder.name, known=embedder)


def _static(folder: Path | None) -> Embedder:
    from .static import StaticEmbedder, table_file

    if folder is not None and not table_file(folder).exists():
        StaticEmbedder.distilled(open_minilm(batch_size=256), minilm.read_pinned(minilm.TOKENIZER)).save(folder)
    return _kept_static(folder)


def _kept_static(folder: Path | None) -> Embedder:
    from .static import read_static

    if folder is None:
        raise InvalidInput(f"{_STATIC} needs the folder of its table")
    return read_static(folder)
