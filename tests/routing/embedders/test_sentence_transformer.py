"""Other embedders of sentence-transformers: how they are found, what identifies them, and what is never run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from routing import ArtifactIncompatible, EmbedderId, EmbedderUnavailable, InvalidInput, load_embedder_for
from routing.embedders import SETTING
from routing.embedders.sentence_transformer import SentenceTransformerEmbedder, _digest, folder_of

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What identifies an embedder; it is not loaded while its rows are known to have four numbers."""
    made = tmp_path / "small"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "modules.json").write_text(json.dumps(MODULES))
    (made / "config.json").write_text("{}")
    (made / "1_Pooling" / "config.json").write_text("{}")
    return made


def identity(folder: Path, name: str = "folder:small") -> EmbedderId:
    return EmbedderId(name, _digest(folder)[:12], 4)


def test_an_embedder_is_identified_by_what_decides_over_its_rows_and_not_by_where_it_is(folder, tmp_path):
    before = identity(folder)
    assert SentenceTransformerEmbedder(str(folder), known=before).id == before
    (folder / "README.md").write_text("about it")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"another form")
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "state.json").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    moved = folder.rename(tmp_path / "elsewhere" / "small")
    assert SentenceTransformerEmbedder(f"{moved}/", known=before).id == before


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "1_Pooling/config.json", "vocab.txt"])
def test_another_file_that_decides_is_another_embedder(folder, file):
    before = identity(folder)
    (folder / file).write_bytes(b'{"other": 1}')
    assert identity(folder) != before


def test_a_router_finds_its_folder_by_the_setting_and_refuses_other_weights(folder, monkeypatch):
    of_router = identity(folder)
    assert load_embedder_for(of_router, given=str(folder)).id == of_router
    monkeypatch.delenv(SETTING, raising=False)
    with pytest.raises(ArtifactIncompatible, match="nothing says where its folder is") as caught:
        load_embedder_for(of_router)
    assert caught.value.hint == f"export {SETTING}=/path/to/small"
    monkeypatch.setenv(SETTING, str(folder))
    assert load_embedder_for(of_router).id == of_router
    monkeypatch.setattr(SentenceTransformerEmbedder, "_found", lambda self, texts: np.ones((1, 4)))
    (folder / "model.safetensors").write_bytes(b"trained further")
    with pytest.raises(
        ArtifactIncompatible, match=f"needs the embedder {of_router.key}, this installation has folder:"
    ):
        load_embedder_for(of_router)


def cached(hub: Path, repository: str, content: Path) -> None:
    """Put a folder where `hf download` puts it."""
    entry = hub / f"models--{repository.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("a" * 40)
    (entry / "snapshots").mkdir()
    (entry / "snapshots" / ("a" * 40)).symlink_to(content, target_is_directory=True)


@pytest.mark.parametrize(("name", "full"), [("org/small", "org/small"), ("tiny", "sentence-transformers/tiny")])
def test_a_name_is_looked_up_in_the_local_cache_and_stored_in_full(folder, tmp_path, monkeypatch, name, full):
    cached(tmp_path / "hub", full, folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    known = identity(folder_of(name), full)
    assert SentenceTransformerEmbedder(name, known=known).id.name == full
    assert load_embedder_for(known).id == known


@pytest.mark.parametrize(
    ("name", "said"),
    [("org/absent", "hf download org/absent"), ("absent", "hf download sentence-transformers/absent")],
)
def test_nothing_is_downloaded_and_the_error_says_how_to(name, said, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InvalidInput, match=f"there is no embedder {name!r} on this machine") as caught:
        folder_of(name)
    assert said in caught.value.hint
    with pytest.raises(ArtifactIncompatible, match="the router needs the embedder") as caught:
        load_embedder_for(EmbedderId(name, "0" * 12, 4))
    assert said in caught.value.hint


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", [MODULES[0] | {"type": "modeling_evil.Evil"}], "wants code of its own"),
        ("modules.json", [MODULES[0] | {"type": "os.system"}], "wants code of its own"),
        ("modules.json", [MODULES[0] | {"type": None}], "wants code of its own"),
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "wants code of its own"),
        ("router_config.json", {"types": {"query": "evil.Module"}}, "wants code of its own"),
        ("modules.json", [MODULES[0], MODULES[1] | {"path": "onnx"}], "not part of its identity"),
        ("modules.json", [MODULES[0], MODULES[1] | {"path": "1_Pooling/.more"}], "not part of its identity"),
        ("router_config.json", {"types": {".0": "sentence_transformers.models.Dense"}}, "not part of its identity"),
        ("1_Pooling/pytorch_model.bin", "a pickle", "pickled"),
        ("1_Pooling/weights.pkl", "a pickle", "pickled"),
        ("adapter_config.json", {"base_model_name_or_path": "org/other"}, "is an adapter"),
        ("config.json", "[" * 100_000, "is not JSON"),
        ("config.json", "{", "is not JSON"),
    ],
)
def test_code_pickles_and_weights_elsewhere_are_refused_before_anything_is_loaded(folder, file, content, said):
    (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(EmbedderUnavailable, match=said):
        SentenceTransformerEmbedder(str(folder), known=identity(folder))


def test_pickled_weights_are_refused_beside_safetensors_that_nothing_reads(folder):
    (folder / "1_Pooling" / "pytorch_model.bin").write_text("a pickle")
    (folder / "1_Pooling" / "decoy.safetensors").write_bytes(b"weights")
    with pytest.raises(EmbedderUnavailable, match="pickled"):
        SentenceTransformerEmbedder(str(folder), known=identity(folder))
    (folder / "1_Pooling" / "decoy.safetensors").rename(folder / "1_Pooling" / "model.safetensors")
    SentenceTransformerEmbedder(str(folder), known=identity(folder))


def test_weights_without_safetensors_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EmbedderUnavailable, match="no weights in safetensors"):
        SentenceTransformerEmbedder(str(folder))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~nobody-here/x", "../", "/"])
def test_a_folder_that_is_not_there_or_has_no_embedder_in_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="there is no embedder"):
        SentenceTransformerEmbedder(name)


REAL = """
import json, sys
from pathlib import Path
import numpy as np
from routing import load_embedder, load_embedder_for
from routing.embedders import minilm

# The default's own weights under another name, without the pooling that its modules.json names: a real embedder.
folder = Path(sys.argv[1]) / "mine"
folder.mkdir()
for file in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
    (folder / file).symlink_to(minilm.weights_folder() / file)
mine = load_embedder(str(folder))
assert (mine.id.name, mine.id.dim, mine.id.normalised) == ("folder:mine", 384, True), mine.id
texts = ["What is 2 + 2?", "", "lone \\ud800 surrogate"]
rows = mine.embed(texts)
np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
np.testing.assert_allclose(rows, load_embedder("all-MiniLM-L6-v2").embed(texts), atol=1e-6)
again = load_embedder_for(mine.id, given=str(folder))
np.testing.assert_allclose(again.embed(texts), rows, atol=1e-6)
"""


def test_a_folder_of_real_weights_embeds(tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", REAL, str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
