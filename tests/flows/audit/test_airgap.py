"""``router export``: a version on a machine without MLflow's database, network and this repository."""

import json
import subprocess
import sys

import pytest

from flows.audit.airgap import export_version
from flows.cli.endings import exit_code_of
from flows.errors import PrerequisiteError
from tests.flows.audit.damage import flipped
from tests.registry.publishing.samples import Consumer

ROUTE = """
import json, sys, pandas, mlflow
router = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(router.predict(pandas.DataFrame({"prompt": ["Question 5 about lakes"]})).to_dict("records")[0]))
"""


def check(folder, *digest):
    done = subprocess.run([sys.executable, folder / "verify.py", *digest], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_an_exported_version_verifies_and_routes_where_nothing_else_is(audited, tmp_path):
    record = audited.registry.routers.get("champion")
    found = export_version(audited, record, tmp_path / "out")
    intact = f"intact: {found.n_files} files of router {record.digest}\n"
    assert check(found.folder, record.folder_digest) == (0, intact)
    assert check(found.folder, record.digest)[1].startswith(f"{intact}compared with export.json only, because")
    consumer = Consumer.at(tmp_path / "elsewhere", f"sqlite:///{tmp_path / 'empty.db'}")
    decision = consumer.run(ROUTE, str(found.folder / "version"))
    assert (decision["router_digest"], decision["llm"] in record.llm_keys) == (record.digest, True)
    assert check(found.folder)[0] == 0, "what Python and MLflow write beside it when it is loaded does not count"
    for path in (one for one in (found.folder / "version").rglob("*.*") if one.suffix in (".npz", ".py", ".json")):
        if "__pycache__" not in path.parts and path.stat().st_size > 1:
            with flipped(path):
                code, said = check(found.folder)
            assert (code, path.name in said) == (1, True), said
    code, said = check(found.folder, "f" * 64)
    assert (code, "not " + "f" * 64 in said) == (1, True)
    imported = ("__future__", "hashlib", "json", "marshal", "re", "types")
    for name in imported:
        (found.folder / f"{name}.py").write_text("raise SystemExit('planted')")
    added = "; ".join(f"'{name}.py' was added beside the version" for name in imported)
    assert check(found.folder) == (1, f"CHANGED: {added}\n")
    assert json.loads((found.folder / "export.json").read_text())["version"] == 2


def test_an_export_overwrites_nothing(audited, tmp_path):
    record = audited.registry.routers.get("champion")
    (tmp_path / "kept").write_text("mine")
    for folder in (tmp_path, tmp_path / "kept", tmp_path / "kept" / "below"):
        with pytest.raises(PrerequisiteError) as caught:
            export_version(audited, record, folder)
        assert exit_code_of(caught.value) == 78
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
