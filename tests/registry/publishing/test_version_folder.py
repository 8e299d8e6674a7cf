import os
import shutil
import subprocess
import sys

from registry.publishing.version_folder import CarriedCode, _stage_code, routing_package

PACKAGE = routing_package()


def test_a_version_carries_every_module_of_the_mathematics_and_nothing_else():
    assert (PACKAGE / "README.md").exists() and list(PACKAGE.glob("*.svg")), "there is something to leave behind"
    carried = CarriedCode.of(PACKAGE).files
    assert set(carried) == {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}


def test_documents_and_pictures_beside_the_mathematics_make_no_other_version(tmp_path):
    copied = tmp_path / "routing"
    shutil.copytree(PACKAGE, copied)
    before = CarriedCode.of(copied).digest
    (copied / "README.md").write_text("Another method, in one page.\n", encoding="utf-8")
    (copied / "deferral_curve.svg").unlink()
    (copied / "another.svg").write_text("<svg/>\n", encoding="utf-8")
    assert CarriedCode.of(copied).digest == before
    with (copied / "router.py").open("a", encoding="utf-8") as file:
        file.write("# Another router.\n")
    assert CarriedCode.of(copied).digest != before


CONSUME = """
import importlib, sys
from pathlib import Path
from registry.publishing.consumer import import_carried_routing
for name in ("torch", "sentence_transformers", "transformers", "scipy", "sklearn"):
    sys.modules[name] = None
routing = import_carried_routing(Path(sys.argv[1]))
assert routing.__name__.startswith("_uniroute_routing_")
embedders = importlib.import_module(f"{routing.__name__}.embedders")
identity = routing.EmbedderId("all-MiniLM-L6-v2", "53aa51172d14", 384)
embedder = embedders.load_embedder_for(identity)
assert type(embedder).__module__ == f"{routing.__name__}.embedders.onnx_minilm"
assert embedder.embed(["Which planet is the largest?"]).shape == (1, 384)
"""


def test_the_carried_code_embeds_with_the_default_embedder_where_there_is_no_torch(tmp_path):
    _stage_code(tmp_path / "code", CarriedCode.of(PACKAGE), "0" * 64)
    command = [sys.executable, "-W", "ignore", "-c", CONSUME, str(tmp_path / "code")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
