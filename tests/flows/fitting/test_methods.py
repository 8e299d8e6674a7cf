"""Every method goes the whole way: night, gate, MLflow, consumer, verification and rebuilding."""

from datetime import timedelta
from pathlib import Path

import pytest

from flows.audit.explanation import explain
from flows.audit.replay import disagreements
from flows.audit.version_check import verify_version
from flows.errors import PrerequisiteError
from flows.findings import worst
from flows.versions.store import load_version
from flows.workspace import Workspace
from routing.stored_estimator import LearnedEstimator, read_estimator
from tests.fakes.nights import FIRST, SECOND, Clock, answered_home, run_night, settings_of
from tests.homes import Once, copied_home

THIRD = SECOND + timedelta(days=30)
METHODS = ("posterior", "learned_map", "kmeans")


def opened(home: Path, **routing: object) -> Workspace:
    """Open a home folder under other routing settings."""
    settings = settings_of(home)
    rules = settings.routing.model_copy(update={"n_clusters": 0, **routing})
    return Workspace(settings.model_copy(update={"routing": rules}))


def are_identical(workspace: Workspace) -> None:
    for record in workspace.registry.routers.list():
        found = verify_version(workspace, record)
        assert (found.outcome, worst(found.findings)) == ("identical", "ok"), found.findings


@pytest.fixture(scope="module")
def methods_home(once: Once, migrated: Path, template: Path) -> Path:
    """A home in which each night had another method: posterior, learned map, k-means, and one more LLM each night."""

    def make(folder: Path) -> None:
        clock = Clock()
        with answered_home(folder / "home", migrated, template) as workspace:
            run_night(workspace, FIRST, ("weak", "fair"), clock)
        for on, method, names in (
            (SECOND, "learned_map", ("weak", "fair", "good")),
            (THIRD, "kmeans", ("weak", "fair", "good", "late")),
        ):
            with opened(folder / "home", method=method, n_clusters=2) as workspace:
                found = run_night(workspace, on, names, clock)
                assert (found.promotion, found.map_was_fitted, found.review_error) == ("promoted", True, "")
                judged = found.gate.judged if found.gate is not None else None
                assert judged is not None and judged.representative is not None, judged

    return once("methods", make) / "home"


@pytest.fixture
def home(tmp_path: Path, methods_home: Path) -> Path:
    home = copied_home(methods_home, tmp_path / "home")
    home.with_name("uniroute.toml").write_text((methods_home.with_name("uniroute.toml")).read_text())
    return home


def test_each_method_is_published_and_comes_out_again_to_the_byte(home: Path) -> None:
    with opened(home) as workspace:
        records = workspace.registry.routers.list()
        kinds = [workspace.registry.routers.cluster_map(one.cluster_map_digest).kind for one in records]
        assert sorted(kinds) == sorted(METHODS)
        are_identical(workspace)
        disputed = disagreements(workspace.registry, workspace.registry.ledger.events())
        assert disputed == ()
        for one in records:
            found = explain(workspace, one, "Question 5 about rivers and lakes: A, B, C or D?")
            assert {contender.llm for contender in found.contenders} == set(one.llm_keys)
            assert all(contender.standard_error > 0 for contender in found.contenders)
        assert {one.mlflow_version for one in records} == {1, 2, 3}


def test_a_consumer_routes_with_a_learned_map_and_sees_standard_errors(home: Path) -> None:
    import mlflow

    with opened(home) as workspace:
        stored = {
            workspace.registry.routers.cluster_map(one.cluster_map_digest).kind: one
            for one in workspace.registry.routers.list()
        }
        record = stored["learned_map"]
        router = load_version(workspace, record.digest)
        assert not router.cluster_map.is_hard
        assert all((llm.vector.standard_errors > 0).all() for llm in router.llms)
        mlflow.set_tracking_uri(workspace.settings.mlflow_url)
        served = mlflow.pyfunc.load_model(f"models:/uniroute/{record.mlflow_version}")
        texts = ["Question 3 about rivers and lakes?", "numbers and sums"]
        decided = served.predict([{"prompt": text} for text in texts])
        expected = router.route(workspace.embedder.embed(texts)).llms
        assert list(decided["llm"]) == list(expected)


def test_a_learned_map_that_is_read_back_gives_the_same_vectors(home: Path) -> None:
    with opened(home) as workspace:
        (record,) = [
            found
            for one in workspace.registry.routers.list()
            if (found := workspace.registry.routers.cluster_map(one.cluster_map_digest)).kind == "learned_map"
        ]
        estimator = read_estimator(record.kind, record.arrays)
        assert isinstance(estimator, LearnedEstimator)
        assert (estimator.n_training_llms_, estimator.n_clusters_asked) == (3, 2)
        assert estimator.start.n_clusters == estimator.cluster_map_.n_clusters


def test_back_to_an_earlier_method_the_map_of_then_is_used_again(home: Path) -> None:
    with opened(home, method="learned_map", n_clusters=2) as workspace:
        later = Clock(workspace.registry.routers.list()[-1].created_at + timedelta(days=1))
        found = run_night(workspace, THIRD + timedelta(days=1), ("weak", "fair", "good", "late"), later)
        assert not found.map_was_fitted
        are_identical(workspace)


def test_a_learned_map_needs_two_llms_that_answered_the_map_prompts(
    tmp_path: Path, migrated: Path, template: Path
) -> None:
    with answered_home(tmp_path / "home", migrated, template):
        pass
    with opened(tmp_path / "home", method="learned_map") as workspace, pytest.raises(PrerequisiteError) as refused:
        run_night(workspace, FIRST, ("weak",), Clock())
    assert "at least 2 LLMs that answered the map prompts, not 1" in refused.value.message
    assert "posterior" in refused.value.hint
