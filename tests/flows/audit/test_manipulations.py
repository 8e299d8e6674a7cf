"""A published version changed in every way we know of: the client and all verifiers find it, and none of it runs."""

import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.audit import version_check
from flows.audit.airgap import export_version
from flows.audit.verification import verify_everything
from flows.audit.version_folders import folders_finding
from flows.checks import doctor
from flows.promotion.judging import check_published
from flows.workspace import Workspace
from registry.clock import utc_now
from registry.publishing.client import RouterClient
from registry.publishing.folder_check import digest_of, file_digests, read_folder
from registry.publishing.trust import Trust
from routing.errors import ArtifactCorrupt

TAG = sys.implementation.cache_tag


def evil(at: Path) -> str:
    return f"open({str(at / '..' / 'ran')!r}, 'w').close()\n"


def compiled(source: str, at: Path, mode: str = "UNCHECKED_HASH") -> None:
    """Compile a source that is not there as if it were the one beside which `at` is."""
    hidden = at.parent / "hidden.py"
    hidden.parent.mkdir(exist_ok=True)
    hidden.write_text(source)
    py_compile.compile(str(hidden), str(at), doraise=True, invalidation_mode=py_compile.PycInvalidationMode[mode])
    hidden.unlink()


def another_consumer(at: Path) -> None:
    text = (at / "consumer.py").read_text()
    (at / "consumer.py").write_text(text + evil(at))


def compiled_beside_the_consumer(at: Path) -> None:
    compiled(evil(at), at / "__pycache__" / f"consumer.{TAG}.pyc")


def compiled_with_the_time_of_its_source(at: Path) -> None:
    file = at / "__pycache__" / f"consumer.{TAG}.pyc"
    compiled(evil(at), file, "TIMESTAMP")
    whole, facts = file.read_bytes(), (at / "consumer.py").stat()
    stamp = int(facts.st_mtime).to_bytes(4, "little") + facts.st_size.to_bytes(4, "little")
    file.write_bytes(whole[:8] + stamp + whole[16:])


def compiled_for_optimised_python(at: Path) -> None:
    compiled(evil(at), at / "__pycache__" / f"consumer.{TAG}.opt-1.pyc")


def compiled_by_another_python(at: Path) -> None:
    compiled((at / "consumer.py").read_text(), at / "__pycache__" / "consumer.cpython-399.pyc")


def compiled_into_the_carried_client(at: Path) -> None:
    compiled(evil(at), at / "artifacts/code/uniroute_client/__pycache__" / f"__init__.{TAG}.pyc")


def compiled_with_a_tail(at: Path) -> None:
    file = at / "__pycache__" / f"consumer.{TAG}.pyc"
    compiled((at / "consumer.py").read_text(), file)
    file.write_bytes(file.read_bytes() + b"more")


def no_compiled_code_at_all(at: Path) -> None:
    (at / "__pycache__").mkdir(exist_ok=True)
    (at / "__pycache__" / "notes.txt").write_text("nothing")


def compiled_without_a_source(at: Path) -> None:
    compiled(evil(at), at / "artifacts/code/numpy.pyc")


def one_file_more(at: Path) -> None:
    (at / "artifacts/code/sitecustomize.py").write_text(evil(at))


def one_empty_file_more(at: Path) -> None:
    (at / "artifacts/code/routing/py.typed").touch()


def one_file_less(at: Path) -> None:
    (at / "python_env.yaml").unlink()


def a_file_renamed(at: Path) -> None:
    (at / "consumer.py").rename(at / "Consumer.py")


def a_link_to_the_same_bytes(at: Path) -> None:
    shutil.copy(at / "consumer.py", at.parent / "elsewhere.py")
    (at / "consumer.py").unlink()
    (at / "consumer.py").symlink_to(at.parent / "elsewhere.py")


def a_folder_that_is_a_link(at: Path) -> None:
    (at / "artifacts/code").rename(at.parent / "code-elsewhere")
    (at / "artifacts/code").symlink_to(at.parent / "code-elsewhere")


def a_link_to_nowhere(at: Path) -> None:
    (at / "more.py").symlink_to("/nowhere/at/all.py")


def a_pipe(at: Path) -> None:
    os.mkfifo(at / "artifacts/more")


def folders_without_end(at: Path) -> None:
    (at / "artifacts" / "/".join("d" * 300)).mkdir(parents=True)


def a_note_about_another_version(at: Path) -> None:
    (at / "registered_model_meta").write_text("model_name: uniroute\nmodel_version: '9'\n")


def a_note_that_holds_more(at: Path) -> None:
    (at / "registered_model_meta").write_text(f"model_name: uniroute\nmodel_version: '2'\n{evil(at)}")


def a_folder_named_like_the_note(at: Path) -> None:
    (at / "registered_model_meta").unlink(missing_ok=True)
    (at / "registered_model_meta").mkdir()
    (at / "registered_model_meta/__init__.py").write_text(evil(at))


def another_loader(at: Path) -> None:
    text = (at / "MLmodel").read_text()
    assert "mlflow.pyfunc.loaders.code_model" in text
    (at / "MLmodel").write_text(text.replace("mlflow.pyfunc.loaders.code_model", "elsewhere"))


def other_requirements(at: Path) -> None:
    (at / "requirements.txt").write_text("evil==1.0\n")


def other_mathematics_with_a_manifest_to_match(at: Path) -> None:
    code = at / "artifacts/code"
    (code / "routing/router.py").write_text((code / "routing/router.py").read_text() + evil(at))
    manifest = json.loads((code / "manifest.json").read_text())
    manifest["files"] = file_digests(code / "routing", "*.py")
    manifest["code_digest"] = digest_of(manifest["files"])
    (code / "manifest.json").write_text(json.dumps(manifest))


def one_bit_of_the_router(at: Path) -> None:
    file = at / "artifacts/router/arrays.npz"
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)


MANIPULATIONS: tuple[Callable[[Path], None], ...] = (
    another_consumer,
    compiled_beside_the_consumer,
    compiled_with_the_time_of_its_source,
    compiled_for_optimised_python,
    compiled_by_another_python,
    compiled_into_the_carried_client,
    compiled_with_a_tail,
    no_compiled_code_at_all,
    compiled_without_a_source,
    one_file_more,
    one_empty_file_more,
    one_file_less,
    a_file_renamed,
    a_link_to_the_same_bytes,
    a_folder_that_is_a_link,
    a_link_to_nowhere,
    a_pipe,
    folders_without_end,
    a_note_about_another_version,
    a_note_that_holds_more,
    a_folder_named_like_the_note,
    another_loader,
    other_requirements,
    other_mathematics_with_a_manifest_to_match,
    one_bit_of_the_router,
)


@contextmanager
def changed(folder: Path, kept: Path, change: Callable[[Path], None]) -> Iterator[None]:
    """Change a folder, and put the kept copy in its place afterwards."""
    around = {path.name for path in folder.parent.iterdir()}
    change(folder)
    try:
        yield
    finally:
        for path in folder.parent.iterdir():
            if path.name not in around:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)


@pytest.fixture(scope="module")
def stored(audited: Workspace) -> Path:
    """Where MLflow keeps the champion's folder."""
    record = audited.registry.routers.get("champion")
    uri = audited.publisher.client.get_model_version_download_uri("uniroute", str(record.mlflow_version))
    return Path(uri.removeprefix("file://"))


def is_damaged(findings) -> bool:
    return "damaged" in {one.severity for one in findings}


def exported_check(folder: Path, *digest: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-S", folder / "verify.py", *digest], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_every_manipulation_is_found_by_the_client_and_by_all_verifiers(audited, stored, tmp_path):
    from mlflow.exceptions import MlflowException

    record = audited.registry.routers.get("champion")
    registry, version = audited.publisher.client, str(record.mlflow_version)
    assert record.folder_digest == read_folder(stored).digest
    out = export_version(audited, record, tmp_path / "out").folder
    shutil.copytree(stored, tmp_path / "kept")
    assert exported_check(out, record.folder_digest)[0] == 0, exported_check(out, record.folder_digest)
    unseen = []
    for change in MANIPULATIONS:
        with changed(stored, tmp_path / "kept", change):
            if not any(path.is_symlink() for path in stored.rglob("*")):
                registry.set_model_version_tag("uniroute", version, "version_digest", read_folder(stored).digest)
            found = {
                "router verify": is_damaged(
                    version_check._in_mlflow(audited, record, None, tmp_path / change.__name__)[1]
                ),
                "audit verify": is_damaged([folders_finding(audited, [record])]),
                "doctor": is_damaged(doctor._versions(audited, False, utc_now)),
            }
            if change is another_consumer:
                found |= {
                    "all of router verify": is_damaged(version_check.verify_version(audited, record).findings),
                    "all of audit verify": is_damaged(verify_everything(audited).findings),
                    "all of doctor": is_damaged(doctor.examine(audited, repair=False, clock=utc_now)),
                }
            with pytest.raises(ArtifactCorrupt, match="is not what was published"):
                check_published(audited, record.digest)
            with pytest.raises(MlflowException, match="no router can be served"):
                RouterClient(
                    tracking_url=audited.settings.mlflow_url, trust=Trust(digests=(record.folder_digest,))
                ).start()
            found["nothing of it ran"] = not (stored.parent / "ran").exists()
        registry.set_model_version_tag("uniroute", version, "version_digest", record.folder_digest)
        with changed(out / "version", tmp_path / "kept", change):
            code, said = exported_check(out, record.folder_digest)
            found["verify.py"] = code == 1 and said.startswith("CHANGED: ") and not (out / "ran").exists()
        unseen += [f"{change.__name__}: {who}" for who, is_found in found.items() if not is_found]
    assert unseen == []
    assert exported_check(out, record.folder_digest)[0] == 0, exported_check(out, record.folder_digest)
