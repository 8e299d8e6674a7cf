"""The code that MLflow runs when a router version is loaded (models-from-code).

A copy of this file lies in every version, beside the router folder and a copy of the `routing` package. It must run
where uniroute is not installed: it imports MLflow, pandas and the standard library, and nothing of this repository.

The copied package is imported under a name made from its own digest and from bytes that were checked just before, never
from files: two versions with different code can live in one process, nothing is written beside the artifacts, and a
byte changed after publishing is refused instead of run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow.models
import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException

CODE_FORMAT = 1
MANIFEST = "manifest.json"
_NOT_PYTHON_NAMES = (".", "..")


def code_digest(files: Mapping[str, str]) -> str:
    """Return the digest of a package: SHA-256 over its file names and their digests in canonical JSON.

    Parameters
    ----------
    files
        SHA-256 of each file by its path inside the package.
    """
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class CarriedPackage(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """A package whose modules are all compiled from bytes held in memory.

    Parameters
    ----------
    name
        The private name of the package.
    sources
        Source text of each module by its path inside the package, such as ``router.py``.
    origin
        The folder the sources came from, for tracebacks.
    """

    def __init__(self, name: str, sources: Mapping[str, bytes], origin: Path) -> None:
        self._origin = origin
        self._sources: dict[str, bytes] = {}
        self._paths: dict[str, str] = {}
        for path, source in sources.items():
            parts = path.removesuffix(".py").split("/")
            module = ".".join([name, *(parts[:-1] if parts[-1] == "__init__" else parts)])
            self._sources[module] = source
            self._paths[module] = path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of this package, and of no other."""
        if fullname not in self._sources:
            return None
        origin = str(self._origin / self._paths[fullname])
        return importlib.util.spec_from_loader(fullname, self, origin=origin, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Whether the module is a package."""
        return self._paths[fullname].endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        """Return the source text, which tracebacks also use."""
        return importlib.util.decode_source(self._sources[fullname])

    def get_code(self, fullname: str) -> Any:
        """Compile the module from the bytes that were checked."""
        return self.source_to_code(self._sources[fullname], str(self._origin / self._paths[fullname]))


def import_carried_routing(folder: Path) -> ModuleType:
    """Import the copy of the `routing` package that a version carries.

    Parameters
    ----------
    folder
        The version's code folder: `manifest.json` and ``routing/``.

    Returns
    -------
    ModuleType
        The package under its private name; the same object for the same digest.

    Raises
    ------
    MlflowException
        If a file is missing or differs from its digest, or the folder is of a later format.
    """
    manifest = _read_manifest(folder)
    files: dict[str, str] = manifest["files"]
    sources = {}
    for path, digest in files.items():
        if any(part in ("", *_NOT_PYTHON_NAMES) for part in path.split("/")):
            raise _refusal(f"the carried code names a file outside its folder: {path!r}")
        try:
            sources[path] = (folder / "routing" / path).read_bytes()
        except OSError:
            raise _refusal(f"{path} of the carried code is missing") from None
        if hashlib.sha256(sources[path]).hexdigest() != digest:
            raise _refusal(f"{path} of the carried code was changed after it was published")
    digest = code_digest(files)
    if digest != manifest["code_digest"]:
        raise _refusal("the list of the carried code was changed after it was published")
    name = f"_uniroute_routing_{digest[:24]}"
    if name not in sys.modules:
        sys.meta_path.append(CarriedPackage(name, sources, folder / "routing"))
    # The import system's own lock makes a second thread wait until the package is complete.
    return importlib.import_module(name)


class RouterConsumer(mlflow.pyfunc.PythonModel):
    """Route prompts with the router of one version."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Check every digest, then load the router and its embedder.

        Parameters
        ----------
        context
            Names the folders `router` and `code` of the version.

        Raises
        ------
        MlflowException
            If the version was changed after it was published, or its embedder is not installed here.
        """
        code = Path(context.artifacts["code"])
        routing = import_carried_routing(code)
        self._errors = importlib.import_module(f"{routing.__name__}.errors")
        with self._one_line_errors():
            artifact = importlib.import_module(f"{routing.__name__}.artifact")
            embedders = importlib.import_module(f"{routing.__name__}.embedders")
            self._tokens = importlib.import_module(f"{routing.__name__}.tokens")
            self._router = artifact.load_router(Path(context.artifacts["router"]))
            if self._router.digest != _read_manifest(code)["router_digest"]:
                raise _refusal("the router is not the one that was published")
            self._embedder = embedders.load_embedder_for(
                self._router.embedder, folder=Path(context.artifacts["router"])
            )
        self._version = _registered_version(code.parent.parent) or f"uniroute@{self._router.digest[:12]}"

    def predict(
        self,
        context: mlflow.pyfunc.PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Choose one LLM for each prompt.

        The cost is estimated from the prompt's own length. Only a router that does not know the lengths of the
        representative prompts routes under `max_cost_usd_per_1k` and `min_score` with the tokens of the LLMs' profiles.

        Parameters
        ----------
        context
            Not used; its folders were read when the version was loaded.
        model_input
            One row per prompt, in the column `prompt`; other columns are ignored.
        params
            One of `cost_weight` (error that one USD is worth, at least 0), `max_cost_usd_per_1k` (most expected USD per
            1,000 prompts) and `min_score` (share of the best LLM's expected score to keep, in [0, 1]); without any, the
            router's own cost weight. `candidates`: a list of the keys of the LLMs to choose from; empty for all.
            `exclude`: a list of the keys of LLMs not to choose; those that the router does not have are ignored.

        Returns
        -------
        pandas.DataFrame
            One row per prompt with the index of the input: llm, expected_score, standard_error, expected_cost_usd,
            runner_up, cluster, router_version, router_digest.

        Raises
        ------
        MlflowException
            If a prompt is missing or a parameter cannot be used.
        """
        prompts = _prompts(model_input)
        wanted = params or {}
        with self._one_line_errors():
            candidates = self._candidates(wanted)
            cost_weight = self._cost_weight(wanted, candidates)
            decisions: list[Any] = []
            if prompts:
                # A target is kept only by routing with the input tokens that it was solved with.
                by_tokens = self._router.solves_by_tokens or not _targets(wanted)
                tokens = self._tokens.estimated_input_tokens(prompts) if by_tokens else None
                embeddings = self._embedder.embed(prompts)
                decisions = list(
                    self._router.route(embeddings, input_tokens=tokens, cost_weight=cost_weight, candidates=candidates)
                )
        return self._table(decisions, model_input.index)

    def _candidates(self, wanted: Mapping[str, Any]) -> list[str] | None:
        """Return the keys to choose from; None for all. Without any left the router refuses."""
        candidates, exclude = _keys(wanted.get("candidates")), set(_keys(wanted.get("exclude")))
        if not exclude:
            return candidates or None
        return [key for key in candidates or self._router.keys if key not in exclude]

    def _cost_weight(self, wanted: Mapping[str, Any], candidates: list[str] | None) -> float | None:
        targets = _targets(wanted)
        cost_weight = wanted.get("cost_weight")
        if len(targets) + (cost_weight is not None) > 1:
            raise _refusal("give only one of cost_weight, max_cost_usd_per_1k and min_score")
        if targets:
            return float(self._router.cost_weight_for(**targets, candidates=candidates))
        return None if cost_weight is None else float(cost_weight)

    def _table(self, decisions: Sequence[Any], index: pd.Index) -> pd.DataFrame:
        columns = {
            "llm": [decision.llm for decision in decisions],
            "expected_score": [float(decision.expected_score) for decision in decisions],
            "standard_error": [float(decision.standard_error) for decision in decisions],
            "expected_cost_usd": [float(decision.expected_cost_usd) for decision in decisions],
            "runner_up": [decision.runner_up for decision in decisions],
            "cluster": [int(decision.cluster) for decision in decisions],
            "router_version": [self._version] * len(decisions),
            "router_digest": [self._router.digest] * len(decisions),
        }
        kinds = {"expected_score": "f8", "standard_error": "f8", "expected_cost_usd": "f8", "cluster": "i8"}
        return pd.DataFrame(
            {name: pd.Series(cells, index=index, dtype=kinds.get(name, "object")) for name, cells in columns.items()}
        )

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except self._errors.UnirouteError as error:
            raise _refusal(f"{error.message}; {error.hint}" if error.hint else error.message) from None


def _prompts(model_input: Any) -> list[str]:
    if not isinstance(model_input, pd.DataFrame):
        raise _refusal("the input must be a pandas DataFrame with a column named prompt")
    if "prompt" not in model_input.columns:
        raise _refusal("the input has no column named prompt")
    prompts = model_input["prompt"].tolist()
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise _refusal(f"row {row} of the column prompt is not text but {_kind(prompt)}")
    return prompts


def _kind(cell: Any) -> str:
    return "null" if cell is None or cell is pd.NA or cell != cell else type(cell).__name__


def _targets(wanted: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(wanted[name]) for name in ("max_cost_usd_per_1k", "min_score") if wanted.get(name) is not None}


def _keys(wanted: Any) -> list[str]:
    return [] if wanted is None else [str(key) for key in wanted]


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        written = int(manifest["format"])
        known = isinstance(manifest["files"], dict) and {"code_digest", "router_digest"} <= manifest.keys()
    except (OSError, ValueError, KeyError, TypeError):
        raise _refusal(f"{MANIFEST} of the carried code is missing or unreadable") from None
    if written > CODE_FORMAT:
        raise _refusal(f"the version's code folder has format {written}, this loader reads {CODE_FORMAT}")
    if not known:
        raise _refusal(f"{MANIFEST} of the carried code is incomplete")
    return manifest


def _registered_version(version_folder: Path) -> str | None:
    """Return ``NAME/VERSION`` when the folder was resolved through MLflow's registry, which leaves a note in it."""
    note = version_folder / "registered_model_meta"
    if not note.is_file():
        return None
    entries = dict(line.partition(": ")[::2] for line in note.read_text(encoding="utf-8").splitlines())
    name, version = (entries.get(key, "").strip("'\"") for key in ("model_name", "model_version"))
    return f"{name}/{version}" if name and version else None


def _refusal(reason: str) -> MlflowException:
    # Names of LLMs are foreign text: without this they could end the line or colour the terminal.
    line = "".join(character if character.isprintable() else " " for character in reason)
    return MlflowException.invalid_parameter_value(f"uniroute: {line}")


mlflow.models.set_model(RouterConsumer())
