import dataclasses
import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from routing import (
    FORMATS,
    ArtifactCorrupt,
    ArtifactError,
    ArtifactTooNew,
    ClusterMap,
    Router,
    load_router,
    save_router,
)
from routing.artifact import ARRAYS_FILE, DIGESTS_FILE, ROUTER_FILE
from routing.prompt_weights import Block
from routing.strict_json import canonical_json
from tests.properties import examples
from tests.routing.synthetic import EMBEDDER, flat_llm, random_llm, random_router, unit_rows

DATA = Path(__file__).parents[1] / "data"
GOLDEN, GOLDEN_2 = DATA / "router-v1", DATA / "router-v2"
FILES = (ROUTER_FILE, ARRAYS_FILE, DIGESTS_FILE)


@pytest.fixture
def saved(tmp_path) -> Path:
    save_router(random_router(), tmp_path / "router")
    return tmp_path / "router"


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and correct its checksum, as someone who knows the format would."""
    (folder / name).write_bytes(data)
    stated = json.loads((folder / DIGESTS_FILE).read_bytes())
    stated["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / DIGESTS_FILE).write_bytes(canonical_json(stated).encode() + b"\n")


@given(seed=st.integers(0, 10_000), soft=st.booleans(), n_llms=st.integers(1, 6), n_clusters=st.integers(1, 6))
@examples(25)
def test_a_router_survives_its_folder(tmp_path_factory, seed, soft, n_llms, n_clusters):
    router = random_router(soft=soft, n_llms=n_llms, n_clusters=n_clusters, seed=seed)
    folder = tmp_path_factory.mktemp("artifact") / "router"
    manifest = save_router(router, folder)
    again = load_router(folder)
    assert manifest.digest == again.digest == router.digest
    assert (again.keys, again.cost_weight, again.embedder) == (router.keys, router.cost_weight, router.embedder)
    assert dict(again.provenance) == dict(router.provenance)
    rows = unit_rows(20, seed=seed)
    assert list(again.route(rows)) == list(router.route(rows))


def test_the_same_router_gives_the_same_bytes(tmp_path):
    manifests = [save_router(random_router(), tmp_path / name) for name in ("one", "two")]
    assert manifests[0] == manifests[1]
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_saving_again_leaves_the_folder_as_it_is(saved):
    before = {name: (saved / name).stat().st_mtime_ns for name in FILES}
    save_router(random_router(), saved)
    assert {name: (saved / name).stat().st_mtime_ns for name in FILES} == before


def test_another_router_never_overwrites_a_folder(saved):
    with pytest.raises(ArtifactCorrupt, match="something other than router"):
        save_router(random_router(seed=1), saved)
    assert load_router(saved).digest == random_router().digest


def test_two_processes_may_save_the_same_router_in_one_moment(tmp_path, monkeypatch):
    router, rename = random_router(), Path.rename

    def overtaken(scratch, folder):
        monkeypatch.setattr(Path, "rename", rename)
        save_router(router, folder)
        return rename(scratch, folder)

    monkeypatch.setattr(Path, "rename", overtaken)
    assert save_router(router, tmp_path / "router").router_digest == router.digest
    assert [one.name for one in tmp_path.iterdir()] == ["router"]


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ArtifactError, match="No space"):
        save_router(random_router(), tmp_path / "router")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_anywhere_is_found(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("artifact") / "router"
    save_router(random_router(n_llms=2, n_clusters=2), folder)
    whole = (folder / name).read_bytes()

    @given(position=st.integers(0, len(whole) - 1), bit=st.integers(0, 7))
    @examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def flip(position, bit):
        changed = bytearray(whole)
        changed[position] ^= 1 << bit
        (folder / name).write_bytes(changed)
        with pytest.raises(ArtifactCorrupt):
            load_router(folder)

    flip()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 10])
def test_a_truncated_file_is_found(saved, name, size):
    (saved / name).write_bytes((saved / name).read_bytes()[:size])
    with pytest.raises(ArtifactCorrupt):
        load_router(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(ArtifactCorrupt, match=f"{name} in .* cannot be read"):
        load_router(saved)


def test_an_empty_folder_is_not_a_router(tmp_path):
    with pytest.raises(ArtifactCorrupt):
        load_router(tmp_path / "nothing")


def test_extra_files_are_ignored(saved):
    (saved / "evil.pkl").write_bytes(pickle.dumps({"a": 1}))
    (saved / "folder").mkdir()
    assert load_router(saved).digest == random_router().digest


def test_a_later_format_requires_a_later_version(saved):
    content = json.loads((saved / ROUTER_FILE).read_bytes())
    forge(saved, ROUTER_FILE, canonical_json(content | {"format": 99, "unheard_of": True}).encode())
    with pytest.raises(ArtifactTooNew, match="has format 99, this version reads 1, 2") as caught:
        load_router(saved)
    assert "later version" in caught.value.hint


class Bomb:
    """Write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def npz_with(original: bytes, **replaced: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, replaced.pop(entry.filename, old.read(entry)))
        for name, data in replaced.items():
            new.writestr(name, data)
    return buffer.getvalue()


def object_array(path: Path) -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([Bomb(path)], dtype=object), allow_pickle=True)
    return data.getvalue()


@pytest.mark.parametrize("name", ["calibration_weights.npy", "extra.npy"])
@pytest.mark.parametrize("kind", ["object array", "bare pickle"])
def test_a_smuggled_pickle_is_never_loaded(saved, tmp_path, name, kind):
    fuse = tmp_path / "exploded"
    payload = object_array(fuse) if kind == "object array" else pickle.dumps(Bomb(fuse))
    forge(saved, ARRAYS_FILE, npz_with((saved / ARRAYS_FILE).read_bytes(), **{name: payload}))
    with pytest.raises(ArtifactCorrupt):
        load_router(saved)
    assert not fuse.exists()


def test_the_bomb_of_the_test_above_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists()


def test_nothing_is_inflated(saved):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("calibration_weights.npy", bytes(10_000_000))
    forge(saved, ARRAYS_FILE, buffer.getvalue())
    with pytest.raises(ArtifactCorrupt, match="unexpected entry"):
        load_router(saved)


def test_an_array_that_claims_more_than_the_file_holds_is_refused(saved):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    forged = npz_with((saved / ARRAYS_FILE).read_bytes(), **{"calibration_weights.npy": header.getvalue()})
    forge(saved, ARRAYS_FILE, forged)
    with pytest.raises(ArtifactCorrupt):
        load_router(saved)


def edited(saved: Path, change) -> None:
    content = json.loads((saved / ROUTER_FILE).read_bytes())
    change(content)
    forge(saved, ROUTER_FILE, json.dumps(content, sort_keys=True).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("llms"),
        lambda content: content["llms"].pop(),
        lambda content: content["llms"][0].update(input_usd_per_mtok=-1),
        lambda content: content["llms"][0].update(output_usd_per_mtok=float("nan")),
        lambda content: content.update(cost_weight="NaN"),
        lambda content: content["llms"][0].update(key="endpoint:somebody-else"),
        lambda content: content["provenance"].update(prompt_set="another"),
        lambda content: content["embedder"].update(surprise=1),
        lambda content: content.update(llms="none"),
        lambda content: content.update(format=[1]),
    ],
)
def test_content_edited_with_corrected_checksums_is_not_the_router_it_claims(saved, change):
    edited(saved, change)
    with pytest.raises(ArtifactCorrupt):
        load_router(saved)


@given(data=st.binary(max_size=300), name=st.sampled_from([ROUTER_FILE, ARRAYS_FILE]))
def test_any_bytes_in_place_of_a_file_are_refused(tmp_path_factory, data, name):
    folder = tmp_path_factory.mktemp("artifact") / "router"
    save_router(random_router(n_llms=1, n_clusters=1), folder)
    forge(folder, name, data)
    with pytest.raises(ArtifactError):
        load_router(folder)


def golden_router() -> Router:
    """Make the router of tests/data/router-v1; only powers of two, so that no arithmetic rounds."""
    llms = [flat_llm("sandbox:small", [0.5, 0.25], 0.25), flat_llm("sandbox:large", [0.125, 0.25], 2.0)]
    router = random_router(n_clusters=2)
    fitted = ClusterMap.nearest(np.eye(8)[:2])
    return dataclasses.replace(
        router,
        cluster_map=fitted,
        llms=llms,
        cost_weight=0.25,
        calibration_weights=np.eye(2, dtype=np.float32),
        provenance={"prompt_set": "golden", "n": 3, "exact": True, "note": None},
    )


def test_the_golden_router_of_format_1_still_loads_and_decides():
    router = load_router(GOLDEN)
    assert router.digest == "6b973e1ee61c1b8b1e56bfde435a3ebf3c61ea8a070560b146a69a07ce821604"
    assert router.embedder == EMBEDDER
    assert router.keys == ("sandbox:large", "sandbox:small")
    decision = router.decide(np.eye(8)[0])
    assert decision.llm == "sandbox:small"
    assert (decision.expected_score, decision.expected_cost_usd) == pytest.approx((0.5, 0.25))
    assert router.decide(np.eye(8)[0], cost_weight=0.0).llm == "sandbox:large"


def golden_router_2() -> Router:
    """Make the router of tests/data/router-v2: the golden one, with the lengths of its prompts and a tokenizer."""
    router = golden_router()
    large, small = router.llms
    wordy = dataclasses.replace(large, vector=dataclasses.replace(large.vector, input_token_ratio=1.5))
    return dataclasses.replace(router, llms=[wordy, small], calibration_tokens=[64.0, 256.0])


def test_the_golden_router_of_format_2_still_loads_and_decides():
    router = load_router(GOLDEN_2)
    assert router.digest == golden_router_2().digest
    assert router.calibration_tokens.tolist() == [64.0, 256.0]
    assert [llm.vector.input_token_ratio for llm in router.llms] == [1.5, 1.0]
    # 2 USD per million tokens, of which the LLM counts three where two are estimated.
    assert router.decide(np.eye(8)[0], cost_weight=0.0, input_tokens=1e6).expected_cost_usd == pytest.approx(3)
    assert router.solves_by_tokens and not load_router(GOLDEN).solves_by_tokens


@pytest.mark.parametrize(("make", "folder"), [(golden_router, GOLDEN), (golden_router_2, GOLDEN_2)])
def test_a_router_is_written_in_the_first_format_that_holds_it(make, folder, tmp_path):
    assert FORMATS == (1, 2)
    save_router(make(), tmp_path / "router")
    for name in FILES:
        assert (tmp_path / "router" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"calibration_tokens": [64.0, 512.0]},
        {"calibration_tokens": []},
        {"llms": golden_router().llms},
    ],
)
def test_lengths_and_tokenizers_are_part_of_the_digest(changed, tmp_path):
    router = dataclasses.replace(golden_router_2(), **changed)
    assert router.digest != golden_router_2().digest
    save_router(router, tmp_path / "router")
    assert load_router(tmp_path / "router").digest == router.digest


def test_vectors_with_coefficients_survive(tmp_path):
    fitted = ClusterMap(
        "posterior", unit_rows(3), np.zeros(3), (Block("softmax", 1, 0.5), Block("nearest", 1, 0.5), Block("linear", 1))
    )
    base = random_llm("a", ClusterMap.nearest(unit_rows(2)), 0)
    llm = dataclasses.replace(base, vector=dataclasses.replace(base.vector, coefficients=np.array([-0.25])))
    router = Router(fitted, [llm], embedder=EMBEDDER, cost_weight=1.0, calibration_weights=np.zeros((0, 3)))
    save_router(router, tmp_path / "router")
    assert load_router(tmp_path / "router").decide(unit_rows(1)[0]) == router.decide(unit_rows(1)[0])
