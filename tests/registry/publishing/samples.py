"""A small router over recorded-looking numbers, and what tests need to publish and load it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy

from registry.publishing import PublishRequest
from routing.artifact import save_router
from routing.cluster_maps import KMeansMap
from routing.embedders import load_embedder
from routing.features import FeatureVector
from routing.router import RoutedLLM, Router
from routing.tokens import estimated_input_tokens

PROMPTS = (
    "Which organ produces insulin?",
    "Integrate x squared from 0 to 1.",
    "Summarise the causes of the First World War.",
    "What does the heart pump?",
    "Differentiate sin(x) * cos(x).",
    "Who signed the treaty of Westphalia?",
)
KEYS = ("sandbox:frugal", "sandbox:middle", "sandbox:strong")


def make_router(seed: int = 0, embedder_name: str = "hashing-256", *, knows_lengths: bool = True) -> Router:
    """Fit a map on the prompts and add three LLMs, the better the more expensive, each of which errs somewhere.

    Routers from before format 2 do not know how long their representative prompts are.
    """
    embedder = load_embedder(embedder_name)
    embeddings = embedder.embed(PROMPTS)
    cluster_map = KMeansMap(n_clusters=2, random_state=seed).fit(embeddings).fitted_
    rng = np.random.default_rng(seed)
    llms = []
    for strength, key in enumerate(KEYS):
        errors = np.clip(0.6 - 0.2 * strength + rng.normal(0, 0.05, cluster_map.n_clusters), 0, 1)
        vector = FeatureVector(
            errors=errors,
            standard_errors=np.full(cluster_map.n_clusters, 0.05),
            counts=np.full(cluster_map.n_clusters, 20),
            input_tokens=np.full(cluster_map.n_clusters, 100.0),
            output_tokens=np.full(cluster_map.n_clusters, 50.0),
            n_prompts=40,
            n_scored=40,
        )
        llms.append(RoutedLLM(key, 10.0**strength, 4 * 10.0**strength, vector))
    return Router(
        cluster_map,
        tuple(llms),
        embedder=embedder.id,
        cost_weight=1.0,
        calibration_weights=cluster_map.weights(embeddings),
        calibration_tokens=estimated_input_tokens(PROMPTS) if knows_lengths else [],
    )


def request_for(
    router: Router, folder: Path, publish_key: str = "night:2024-09-01", **changes: object
) -> PublishRequest:
    """Save the router and ask for its publication with one figure."""
    router_folder = folder / f"router-{router.digest[:12]}"
    if not router_folder.exists():
        save_router(router, router_folder)
    figure = folder / "deferral.svg"
    figure.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    asked = {
        "description": "Router over 3 LLMs.\n- score 0.71",
        "tags": {"prompt_set": "a" * 64, "parent": "none"},
        "params": {"n_clusters": 2, "as_of": "2024-09-01"},
        "metrics": {"score": 0.71, "area": 0.5},
        "figures": {"deferral.svg": figure},
        "run_name": "night 2024-09-01",
    } | changes
    return PublishRequest(router_folder=router_folder, publish_key=publish_key, **asked)


def recipe(part: str) -> str:
    """Return the one example of Python in registry/publishing/README.md that holds a name."""
    document = Path(__file__).resolve().parents[3] / "registry" / "publishing" / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if part in block)
    return found


_BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"routing", "registry", "flows", "sql"}:
            raise ModuleNotFoundError(f"{name} is blocked: a consumer does not have it")
        return None

sys.meta_path.insert(0, Blocker())
"""


@dataclass(frozen=True)
class Consumer:
    """A folder to run other people's Python from: this repository cannot be imported there."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def at(cls, folder: Path, tracking_url: str) -> "Consumer":
        path = folder / "path"
        path.mkdir(parents=True)
        (path / "sitecustomize.py").write_text(_BLOCKER)
        (folder / "work").mkdir()
        environment = os.environ | {
            "PYTHONPATH": str(path),
            # `mlflow models serve` looks up its server there.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": tracking_url,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }
        return cls(folder / "work", environment)

    def run(self, code: str, *arguments: str, timeout_s: float = 120) -> dict[str, object]:
        """Run code that prints one JSON document as its last line."""
        finished = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        return json.loads(finished.stdout.splitlines()[-1]) | {"stderr": finished.stderr}


def half_made(file: Path) -> Path:
    """Return what a kill left when MLflow made its database in its place: the first tables, and no migration."""
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    engine.dispose()
    return file
