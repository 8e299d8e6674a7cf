"""``router verify``: a version comes out again, and one changed byte anywhere is found."""

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.audit.rebuilding import OriginalNight
from flows.audit.version_check import VersionCheck, verify_version
from flows.config.sources import CONFIG_NAME
from flows.findings import worst
from flows.fitting.estimation import Estimation
from flows.versions.provenance import libraries_now
from flows.versions.store import router_folder
from flows.workspace import Workspace
from registry.errors import RegistryCorrupt
from tests.fakes.nights import SECOND
from tests.flows.audit.damage import changed_cell, flipped
from tests.flows.audit.products import inject_noise


def verified(workspace: Workspace) -> VersionCheck:
    """Verify the champion, read from the registry anew."""
    return verify_version(workspace, workspace.registry.routers.get("champion"))


def changes(found: VersionCheck) -> dict[str, str]:
    return {finding.subject: finding.text for finding in found.findings if finding.severity == "damaged"}


def test_both_versions_come_out_again_to_the_byte(audited):
    for name in ("previous", "champion"):
        found = verify_version(audited, audited.registry.routers.get(name))
        assert (found.outcome, worst(found.findings), found.asked_again) == ("identical", "ok", ()), found.findings


def version_files(audited: Workspace) -> list[Path]:
    with sqlite3.connect(audited.home / "mlflow.db") as connection:
        ((source,),) = connection.execute("SELECT storage_location FROM model_versions WHERE version = 2").fetchall()
    connection.close()
    folder = Path(source.removeprefix("file://"))
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "registered_model_meta")


def test_a_flipped_bit_in_any_file_of_the_version_in_mlflow_is_found(audited, tmp_path):
    files = version_files(audited)
    assert {"MLmodel", "router.json", "arrays.npz", "digests.json", "manifest.json", "router.py"} <= {
        path.name for path in files
    }
    for number, path in enumerate(file for file in files if file.stat().st_size > 1):
        with flipped(path, place=7919 * number), pytest.raises(Exception, match=r"is not|was changed|cannot be read"):
            audited.publisher.download_version("uniroute", 2, tmp_path / str(number))
    with flipped(files[0]):
        found = verified(audited)
        assert list(changes(found)) == ["files in MLflow"]
        assert found.outcome == "identical", "the home folder has it still"


@pytest.mark.parametrize("name", ["router.json", "arrays.npz", "digests.json"])
def test_a_flipped_bit_in_the_home_folder_is_found(audited, name):
    folder = router_folder(audited, audited.registry.routers.aliases().champion)
    with flipped(folder / name):
        assert list(changes(verified(audited))) == ["files in the home folder"]


MLFLOW_CELLS = [
    *(
        ("model_version_tags", "value", f"version = 2 AND key = '{key}'")
        for key in (
            "digest",
            "version_digest",
            "publish_key",
            "prompt_set",
            "embedder",
            "cluster_map",
            "parent",
            "n_llms",
            "gate",
            "code_digest",
            "ledger_head",
        )
    ),
    *(("tags", "value", f"run_uuid = '{{run}}' AND key = '{key}'") for key in ("digest", "mlflow.note.content")),
    *(("params", "value", f"run_uuid = '{{run}}' AND key = '{key}'") for key in ("settings", "cost_weight")),
    ("latest_metrics", "value", "run_uuid = '{run}' AND key = 'score'"),
    ("model_versions", "description", "version = 2"),
]


@pytest.mark.parametrize(("table", "column", "where"), MLFLOW_CELLS)
def test_a_changed_tag_parameter_metric_or_text_in_mlflow_is_found(audited, table, column, where):
    run = audited.registry.routers.get("champion").mlflow_run_id
    with changed_cell(audited.home / "mlflow.db", table, column, where.format(run=run)):
        found = changes(verified(audited))
    assert len(found) == 1
    assert set(found) <= {"tags and figures in MLflow", "files in MLflow"}


def test_a_changed_figure_is_found(audited):
    run = audited.registry.routers.get("champion").mlflow_run_id
    (figure,) = (audited.home / "mlflow-artifacts").rglob(f"{run}/artifacts/figures/*.png")
    with flipped(figure, place=100):
        assert changes(verified(audited)) == {"tags and figures in MLflow": "the figure deferral_curve.png was changed"}


CHAMPION = "router_id = (SELECT id FROM router WHERE mlflow_version = 2)"
OF_FEATURE_VECTOR = "run_id = (SELECT run_id FROM router WHERE mlflow_version = 2) AND llm_id = 3"
REGISTRY_CELLS = [
    *(
        ("router", column, "mlflow_version = 2", "registry row")
        for column in ("publish_key", "parent_digest", "embedder_key", "files_json", "created_at")
    ),
    ("router", "mlflow_run_id", "mlflow_version = 2", "tags and figures in MLflow"),
    ("router_metric", "value", f"{CHAMPION} AND name = 'score'", "registry row"),
    ("router_metric", "name", f"{CHAMPION} AND name = 'score'", "registry row"),
    *(
        ("feature_vector", column, OF_FEATURE_VECTOR, "stored feature vectors")
        for column in ("errors", "standard_errors", "counts", "output_tokens", "coefficients", "n_prompts", "digest")
    ),
    ("cluster_map_array", "contents", "name = 'prior_means'", "cluster map and prior"),
    ("cluster_map", "kind", "id = 1", "cluster map and prior"),
    ("run", "settings_json", "as_of = '2024-10-01'", "rules of the run"),
    ("run", "as_of", "as_of = '2024-10-01'", "rules of the run"),
    ("prompt", "text", "id = 3", "prompt set"),
    ("prompt", "reference", "id = 3", "prompt set"),
    ("prompt_set_member", "role", "role = 'map'", "prompt set"),
    ("embedding", "vector", "prompt_id IN (SELECT prompt_id FROM prompt_set_member WHERE role = 'map')", "embeddings"),
    ("outcome", "score", "llm_id = 3 AND score = 1", "answers"),
    ("outcome", "output_tokens", "llm_id = 2", "answers"),
    ("outcome", "cost_picousd", "llm_id = 2", "answers"),
    ("ledger", "payload_json", "event = 'router:version:kept'", "ledger"),
    ("ledger", "reason", "event = 'router:promotion:applied'", "ledger"),
]


def other_value(column: str) -> object:
    """Return a changed value that the table's constraints allow, where one flipped bit would not."""
    return {"score": 0.5, "role": "hidden", "as_of": "2024-10-02"}.get(column)


@pytest.mark.parametrize(("table", "column", "where", "subject"), REGISTRY_CELLS)
def test_a_changed_cell_of_the_registry_is_found(audited, table, column, where, subject):
    with changed_cell(audited.home / "registry.db", table, column, where, other_value(column)):
        try:
            found = changes(verified(audited))
        except RegistryCorrupt:
            return
    assert subject in found, found


def test_an_llm_that_answered_more_since_is_named_and_the_version_still_comes_out_identical(audited):
    with changed_cell(audited.home / "registry.db", "outcome", "asked_at", "llm_id = 3", f"{SECOND} 23:00:00.000000"):
        found = verified(audited)
    assert "answers" in changes(found), "an answer whose time was changed is none of that night's"
    assert found.asked_again == ("fake:good",)


def nudged(by):
    """Make estimators whose errors are larger by that much."""

    def vector(self, column):
        found = ESTIMATE(self, column)
        return replace(found, coefficients=found.coefficients + np.float32(by * (column + 1)))

    return vector


ESTIMATE = Estimation.vector


@pytest.mark.parametrize(
    ("by", "outcome", "severity"), [(2e-7, "numerically equivalent", "ok"), (9.0, "different", "damaged")]
)
def test_what_comes_out_otherwise_is_judged_by_decisions_on_gate_prompts(audited, monkeypatch, by, outcome, severity):
    monkeypatch.setattr(Estimation, "vector", nudged(by))
    found = verified(audited)
    assert (found.outcome, found.findings[-1].severity) == (outcome, severity), found.findings[-1]
    assert ("the LLM differs on" in found.findings[-1].text) == (outcome == "different")


def test_rounding_in_every_product_is_not_a_change(audited, monkeypatch):
    def noisy(night, prompts):
        exact = EMBEDDINGS(night, prompts)
        noise = np.random.default_rng(7).uniform(-1e-7, 1e-7, exact.shape)
        return (exact * (1 + noise)).astype(np.float32)

    monkeypatch.setattr(OriginalNight, "embeddings_of", noisy)
    for name in ("previous", "champion"):
        found = verify_version(audited, audited.registry.routers.get(name))
        assert found.outcome in ("identical", "numerically equivalent"), found.findings[-1]
        assert worst(found.findings) == "ok"


EMBEDDINGS = OriginalNight.embeddings_of


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_in_every_product_leaves_a_version_equal_or_fits_another_map_which_is_said(audited, monkeypatch, seed):
    assert inject_noise(monkeypatch, seed) > 20
    on_stored_map = verify_version(audited, audited.registry.routers.get("champion"))
    assert (on_stored_map.outcome, worst(on_stored_map.findings)) == ("numerically equivalent", "ok")
    found = verify_version(audited, audited.registry.routers.get("previous"))
    if found.outcome == "different":  # the noise made k-means end elsewhere, or another dimension the best
        said = "the cluster map fitted here is another one; on the stored map everything is equal within rounding"
        assert said in found.findings[-1].text
    else:
        assert (found.outcome, worst(found.findings)) == ("numerically equivalent", "ok")


def test_a_fitted_map_that_differs_is_said_and_counts_as_a_change_only_on_the_same_kernel(audited, monkeypatch):
    monkeypatch.setattr(OriginalNight, "embeddings_of", lambda night, prompts: EMBEDDINGS(night, prompts)[::-1].copy())
    first = audited.registry.routers.get("previous")
    found = verify_version(audited, first)
    assert (found.outcome, found.findings[-1].severity) == ("different", "damaged")
    assert "the cluster map fitted here is another one" in found.findings[-1].text
    now = libraries_now()
    for other in ({"kernel": "openblas Prescott"}, {"threads": "97"}):
        monkeypatch.setattr("flows.audit.version_check.libraries_now", lambda other=other: now | other)
        found = verify_version(audited, first)
        assert (found.outcome, found.findings[-1].severity) == ("different", "attention")
        assert f"(here {next(iter(other.values()))})" in found.findings[-1].text


@pytest.mark.slow
def test_on_another_kernel_of_blas_a_version_is_equal_within_rounding(audited):
    environment = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}
    config = str(audited.home.with_name(CONFIG_NAME))
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "from flows.cli import main; main()",
            *("router", "verify", "previous", "--json"),
            *("--config", config),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    data = json.loads(ended.stdout)["data"]
    assert ended.returncode == 0, ended.stdout
    assert data["rebuilt"] in ("identical", "numerically equivalent")


def test_other_code_that_decides_differently_is_reported_and_does_not_count_as_a_change(audited, monkeypatch):
    monkeypatch.setattr(Estimation, "vector", nudged(9.0))
    now = libraries_now()
    monkeypatch.setattr("flows.audit.version_check.libraries_now", lambda: now | {"numpy": "9.9"})
    found = verified(audited)
    assert (found.outcome, worst(found.findings)) == ("different", "attention")
    assert "(here 9.9)" in found.findings[-1].text


def test_a_version_that_is_not_in_mlflow_is_reported_and_verified_from_the_home_folder(audited):
    found = verify_version(audited, replace(audited.registry.routers.get("champion"), mlflow_version=None))
    severities = {finding.subject: finding.severity for finding in found.findings}
    assert (severities["files in MLflow"], found.outcome) == ("attention", "identical")


def test_mlflow_being_out_of_reach_is_reported_and_the_rest_is_verified(audited, monkeypatch):
    monkeypatch.setattr(audited.publisher, "_tracking_url", "sqlite:///nowhere")
    monkeypatch.setitem(audited.publisher.__dict__, "client", Silent())
    found = verified(audited)
    assert (worst(found.findings), found.outcome) == ("unreachable", "identical")


class Silent:
    """An MLflow that does not answer."""

    def __getattr__(self, name: str) -> object:
        raise ConnectionError("no answer")
