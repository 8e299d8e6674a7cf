"""A home folder as two nights leave it, made in a second: two routers, kept, published to MLflow and promoted."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from flows.config.settings import Settings
from flows.versions.mlflow_sync import sync_mlflow
from flows.versions.store import publication_folder, router_folder
from flows.workspace import Workspace
from registry.promotions import gate_result
from registry.routers import ClusterMapRecord, RouterRecord
from routing.artifact import save_router
from tests.registry.publishing.samples import KEYS, make_router
from tests.registry.samples import NOW, fetch, freeze, listing, record_fetch, start_night


def clock() -> datetime:
    return NOW


@contextmanager
def served_home(home: Path, registry_file: Path, mlflow_file: Path) -> Iterator[Workspace]:
    """Open a workspace with a previous router (version 1) and a champion that is the challenger too (version 2).

    Parameters
    ----------
    home
        Where the home folder shall be.
    registry_file, mlflow_file
        Empty databases to start from; making their schemas takes seconds, copying them does not.
    """
    home.mkdir()
    shutil.copy(registry_file, home / "registry.db")
    shutil.copy(mlflow_file, home / "mlflow.db")
    with Workspace(Settings(home=home, embedder={"name": "hashing-256"})) as workspace:
        registry = workspace.registry
        run = start_night(registry)
        listings = [listing(key.partition(":")[2], endpoint="sandbox") for key in KEYS]
        record_fetch(registry, run, fetch(listings, "known"), run.as_of)
        prompt_set = freeze(registry)
        for seed in (0, 1):
            router = make_router(seed)
            fitted = router.cluster_map
            registry.routers.save_cluster_map(
                ClusterMapRecord(
                    digest=fitted.digest,
                    kind=fitted.kind,
                    prompt_set_digest=prompt_set.digest,
                    embedder_key=router.embedder.key,
                    n_clusters=fitted.n_clusters,
                    seed=seed,
                    arrays=fitted.arrays(),
                )
            )
            manifest = save_router(router, router_folder(workspace, router.digest))
            _write_publication(workspace, router.digest)
            champion = registry.routers.aliases().champion
            registry.routers.save(
                RouterRecord(
                    digest=router.digest,
                    publish_key=router.digest,
                    parent_digest=champion,
                    cluster_map_digest=fitted.digest,
                    prompt_set_digest=prompt_set.digest,
                    embedder_key=router.embedder.key,
                    run_id=run.id,
                    llm_keys=router.keys,
                    metrics={"score": 0.7},
                    files_json=json.dumps(dict(manifest.files), sort_keys=True),
                    created_at=NOW,
                )
            )
            registry.promotions.set_challenger(router.digest, actor="night", now=NOW)
            asked = registry.promotions.request(
                router.digest, champion, gate_result(True, {}), actor="night", now=NOW, run_id=run.id
            )
            registry.promotions.apply(asked, actor="night", reason="gate passed", now=NOW)
        sync_mlflow(workspace, clock)
        registry.runs.finish(run, "completed", "fine", "{}", NOW)
        yield workspace


def _write_publication(workspace: Workspace, digest: str) -> None:
    folder = publication_folder(workspace, digest)
    folder.mkdir(parents=True)
    (folder / "deferral_curve.png").write_bytes(b"a figure")
    content = {"run_name": "night", "tags": {}, "description": "A router.", "params": {}, "metrics": {"score": 0.7}}
    (folder / "publication.json").write_text(json.dumps(content))
