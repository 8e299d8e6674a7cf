import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from registry.db.prompt_tables import ROLES
from registry.errors import NotFound, PromptSetInvalid
from registry.prompts import Prompt, RoleShares, prompt_set_of
from routing.errors import InvalidInput
from tests.properties import examples
from tests.registry.samples import freeze, prompts

any_text = st.text(alphabet=st.characters(codec=None, exclude_categories=()), min_size=1, max_size=80).filter(
    lambda text: text.strip() != ""
)
any_prompt = st.builds(Prompt, any_text, any_text, any_text, st.just("choice"), st.none() | any_text)


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(any_prompt, min_size=1, max_size=8, unique_by=lambda one: one.prompt_id), st.integers(0, 2**32))
def test_f26_a_frozen_set_comes_back_to_the_byte(registry, given_prompts, seed):
    frozen = registry.prompts.freeze("any", given_prompts, seed=seed)
    assert registry.prompts.get(frozen.digest).members == frozen.members
    kept = {one.digest: one for one in reversed(given_prompts)}
    assert {one.digest for one in frozen.prompts} == set(kept)
    assert all(kept[one.digest] == one for one in frozen.prompts)


@given(any_prompt, any_text)
def test_f64_one_changed_character_is_another_prompt(one, other):
    assert (replace(one, text=other).digest == one.digest) == (other == one.text)
    assert (replace(one, reference=other).digest == one.digest) == (other == one.reference)


@pytest.mark.parametrize("field", ["text", "reference"])
@pytest.mark.parametrize("place", [0, 5000, 9999])
def test_f64_one_changed_character_anywhere_changes_the_digest_of_prompt_and_set(registry, field, place):
    long = "a" * 10_000
    one = Prompt("p", long, long, "choice")
    other = replace(one, **{field: long[:place] + "b" + long[place + 1 :]})
    assert other.digest != one.digest
    assert registry.prompts.freeze("core", [other]).digest != registry.prompts.freeze("core", [one]).digest


def test_the_digest_separates_fields():
    assert Prompt("1", "ab", "c", "g").digest != Prompt("1", "a", "bc", "g").digest
    assert Prompt("1", "é", "c", "g").digest != Prompt("1", "e\u0301", "c", "g").digest, "NFC is not applied"


def test_the_digest_of_a_prompt_is_the_promised_one():
    data = b"".join(len(part).to_bytes(8, "little") + part for part in (b"text", b"reference", b"choice"))
    assert Prompt("any id", "text", "reference", "choice").digest == hashlib.sha256(data).hexdigest()


def test_the_same_input_gives_the_same_set(registry):
    first = freeze(registry, 50)
    assert freeze(registry, 50) == first
    assert registry.prompts.get(first.digest) == first


def test_another_seed_deals_other_roles(registry):
    one = registry.prompts.freeze("core", prompts(50), seed=1)
    other = registry.prompts.freeze("core", prompts(50), seed=2)
    assert one.digest != other.digest
    assert one.prompts == other.prompts


def test_a_set_that_is_already_stored_keeps_its_first_name(registry):
    freeze(registry)
    assert registry.prompts.freeze("other", prompts(10)).name == "core"


@examples(25)
@given(st.integers(1, 200), st.integers(1, 6), st.integers(0, 1000))
def test_roles_get_their_shares_in_all_and_in_each_category(n, n_categories, seed):
    given_prompts = [Prompt(f"p{i}", f"Question {i}?", "A", "choice", f"c{i % n_categories}") for i in range(n)]
    shares = RoleShares()
    frozen = prompt_set_of("core", given_prompts, shares, seed)
    for role in ROLES:
        assert abs(len(frozen.with_role(role)) - getattr(shares, role) * n) < 2
        for category in {one.category for one in given_prompts}:
            n_here = sum(one.category == category for one in given_prompts)
            dealt = sum(one.category == category for one in frozen.with_role(role))
            assert abs(dealt - getattr(shares, role) * n_here) < 3
    assert sum(len(frozen.with_role(role)) for role in ROLES) == n
    assert len(frozen.with_role(*ROLES)) == n


def test_a_role_without_share_gets_nothing(registry):
    shares = RoleShares(map=0.5, representative=0.0, gate=0.5, hidden=0.0)
    frozen = registry.prompts.freeze("core", prompts(21), shares)
    assert frozen.with_role("representative", "hidden") == ()


def test_equal_contents_count_once(registry):
    twice = (Prompt("a", "same?", "A", "choice"), Prompt("b", "same?", "A", "choice"))
    assert [one.prompt_id for one in registry.prompts.freeze("core", twice).prompts] == ["a"]


@pytest.mark.parametrize(
    ("given_prompts", "said"),
    [
        ([], "the prompt set is empty"),
        ([Prompt("a", "q", "", "choice")], "1 prompt without reference: a"),
        ([Prompt("a", "q", " \n", "choice")], "1 prompt without reference: a"),
        ([Prompt("a", "", "A", "choice")], "1 prompt without text: a"),
        ([Prompt("a", "q", "A", "")], "1 prompt without grader: a"),
        ([Prompt("", "q", "A", "choice")], r"1 prompt without prompt_id: \(no id\)"),
        (
            [Prompt("a", "q", "A", "choice"), Prompt("a", "r", "A", "choice")],
            "1 prompt id used for .*: a",
        ),
        (
            [Prompt(f"p{i}", "q", "", "g") for i in range(9)],
            "9 prompts without reference: p0, p1, p2, p3, p4 and 4 more",
        ),
        ([Prompt("\x1b[31m", "q", "", "g")], r"without reference: \\x1b\[31m"),
    ],
)
def test_prompts_that_cannot_be_frozen_are_named(registry, given_prompts, said):
    with pytest.raises(PromptSetInvalid, match=said) as caught:
        registry.prompts.freeze("core", given_prompts)
    assert caught.value.hint


def test_an_unknown_set_is_not_found(registry):
    with pytest.raises(NotFound, match="there is no prompt set"):
        registry.prompts.get("0" * 64)


@pytest.mark.parametrize(
    "shares", [(1.0, 0.1, 0, 0), (-0.5, 0.5, 0.5, 0.5), (float("nan"), 0, 0, 1), (0.2, 0.2, 0.2, 0.2)]
)
def test_shares_must_be_fractions_of_one(shares):
    with pytest.raises(InvalidInput):
        RoleShares(*shares)


def test_embeddings_come_back_in_the_order_of_the_set(registry):
    frozen = freeze(registry, 12)
    matrix = np.random.default_rng(0).random((12, 8), dtype=np.float32)
    assert registry.prompts.embeddings(frozen, "e@1/8").matrix.shape == (0, 0)
    backwards = list(reversed(range(12)))[:7]
    registry.prompts.store_embeddings("e@1/8", [frozen.prompts[i] for i in backwards], matrix[backwards])
    block = registry.prompts.embeddings(frozen, "e@1/8")
    assert block.prompt_ids == tuple(one.prompt_id for one in frozen.prompts[5:])
    assert block.prompt_digests == tuple(one.digest for one in frozen.prompts[5:])
    assert block.matrix.dtype == np.float32
    assert np.array_equal(block.matrix, matrix[5:])
    assert registry.prompts.embeddings(frozen, "other@1/8").prompt_ids == ()


def test_embeddings_are_replaced_by_digest_and_read_for_some_prompts(registry):
    frozen = freeze(registry, 4)
    digests = [one.digest for one in frozen.prompts]
    registry.prompts.store_embeddings("e", digests, np.zeros((4, 2), dtype=np.float32))
    registry.prompts.store_embeddings("e", digests, np.ones((4, 2), dtype=np.float64))
    assert registry.prompts.embeddings(frozen.prompts[:2], "e").matrix.tolist() == [[1, 1], [1, 1]]


def test_a_prompt_with_another_reference_has_the_embedding_of_its_text(registry):
    frozen = freeze(registry, 3)
    registry.prompts.store_embeddings("e", frozen.prompts, np.arange(6, dtype=np.float32).reshape(3, 2))
    twins = [replace(one, reference="another") for one in reversed(frozen.prompts)]
    strange = replace(twins[0], text="\ud800 never seen")
    block = registry.prompts.embeddings([*twins, strange], "e")
    assert block.prompt_digests == tuple(one.digest for one in twins)
    assert block.matrix.tolist() == [[4, 5], [2, 3], [0, 1]]


@pytest.mark.parametrize("matrix", [np.zeros((3, 2)), np.zeros(4), np.full((4, 2), np.nan), np.full((4, 2), np.inf)])
def test_embeddings_that_do_not_fit_are_refused(registry, matrix):
    frozen = freeze(registry, 4)
    with pytest.raises(InvalidInput):
        registry.prompts.store_embeddings("e", frozen.prompts, matrix.astype(np.float32))
    assert registry.prompts.embeddings(frozen, "e").prompt_ids == ()


def test_embeddings_of_unknown_prompts_are_refused(registry):
    freeze(registry, 4)
    with pytest.raises(NotFound, match="not in any prompt set: 1 prompt, the first is"):
        registry.prompts.store_embeddings("e", [Prompt("x", "new", "A", "choice")], np.zeros((1, 2), dtype=np.float32))
