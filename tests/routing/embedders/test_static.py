import json

import numpy as np
import pytest

from routing.embedders import HashingEmbedder, keep_embedder, load_embedder, load_embedder_for
from routing.embedders.static import STATIC, StaticEmbedder, read_static, table_file
from routing.errors import ArtifactIncompatible, EmbedderUnavailable, InvalidInput

WORDS = ["[PAD]", "[UNK]", "[unused1]", "?", "the", "of", "sum", "two", "numbers", "law", "roman", "senate", "##s"]


def tokenizer_json() -> bytes:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces = models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    tokenizer = Tokenizer(pieces)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # As the default embedder's: cut short and filled up, which a table must not inherit.
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module")
def static() -> StaticEmbedder:
    return StaticEmbedder.distilled(HashingEmbedder(16), tokenizer_json())


def test_a_text_is_the_weighted_mean_of_its_tokens_and_rare_ones_count_more(static):
    row = static.embed(["the sum of numbers"])[0]
    assert row.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(row), 1, atol=1e-6)
    assert row @ static.embed(["sum numbers"])[0] > row @ static.embed(["the of"])[0]
    table = static.rows * static.scales[:, None]
    wanted = table[[WORDS.index(word) for word in ("the", "sum", "of", "numbers")]].sum(axis=0)
    np.testing.assert_allclose(row, wanted / np.linalg.norm(wanted), atol=1e-6)


def test_tokens_that_no_text_has_count_nothing(static):
    assert not static.scales[[WORDS.index(word) for word in ("[PAD]", "[UNK]", "[unused1]")]].round(9).any()


def test_long_texts_are_read_whole(static):
    assert not np.allclose(*static.embed(["sum two numbers", "sum two numbers roman law senate"]))


def test_rows_do_not_depend_on_the_batch(static):
    texts = ["the sum of two numbers", "", "roman law", "zzz"]
    together = static.embed(texts)
    np.testing.assert_allclose(together, np.vstack([static.embed([text]) for text in texts]), atol=1e-6)
    np.testing.assert_allclose(together[1], np.eye(together.shape[1])[0], atol=1e-6)
    assert static.embed([]).shape == (0, together.shape[1])


def test_the_identity_depends_on_the_distillation(static):
    assert StaticEmbedder.distilled(HashingEmbedder(16), tokenizer_json()).id == static.id
    assert StaticEmbedder.distilled(HashingEmbedder(17), tokenizer_json()).id.revision != static.id.revision


def test_a_kept_table_is_the_same_embedder_also_for_a_router_that_needs_it(static, tmp_path):
    keep_embedder(static, tmp_path)
    keep_embedder(static, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{STATIC}.npz"]
    text = ["the sum of two numbers"]
    for found in (load_embedder(STATIC, folder=tmp_path), load_embedder_for(static.id, folder=tmp_path)):
        assert found.id == static.id
        np.testing.assert_array_equal(found.embed(text), static.embed(text))


def test_embedders_that_consumers_can_install_are_not_kept(tmp_path):
    keep_embedder(HashingEmbedder(16), tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_table_than_the_routers_is_refused(static, tmp_path):
    StaticEmbedder(static.rows[::-1].copy(), static.scales, static.tokenizer_json).save(tmp_path)
    with pytest.raises(ArtifactIncompatible, match=f"needs the embedder {STATIC}@{static.id.revision}"):
        load_embedder_for(static.id, folder=tmp_path)
    with pytest.raises(ArtifactIncompatible, match="needs the folder of its table"):
        load_embedder_for(static.id)
    with pytest.raises(InvalidInput, match="needs the folder of its table"):
        load_embedder(STATIC)


def test_a_missing_or_damaged_table_is_refused_by_name(static, tmp_path):
    with pytest.raises(EmbedderUnavailable, match="is not in"):
        read_static(tmp_path)
    static.save(tmp_path)
    whole = table_file(tmp_path).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no table at all"):
        table_file(tmp_path).write_bytes(damaged)
        with pytest.raises(EmbedderUnavailable, match="is damaged") as caught:
            read_static(tmp_path)
        assert "delete" in caught.value.hint
    np.savez(table_file(tmp_path), rows=static.rows, scales=static.scales[:3], tokenizer_json=np.zeros(3, np.uint8))
    with pytest.raises(EmbedderUnavailable, match="is damaged"):
        read_static(tmp_path)


def test_the_tokenizer_of_the_default_embedder_can_be_read():
    from routing.embedders import minilm

    vocabulary = json.loads(minilm.read_pinned(minilm.TOKENIZER))["model"]["vocab"]
    assert vocabulary["the"] < vocabulary["theory"]
