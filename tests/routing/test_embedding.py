import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import (
    ArtifactIncompatible,
    EmbedderId,
    HashingEmbedder,
    InvalidInput,
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


def test_the_full_name_of_the_default_embedder_means_the_same_weights():
    assert load_embedder("sentence-transformers/all-MiniLM-L6-v2") is load_embedder("all-MiniLM-L6-v2")


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
