"""Faults of routers: ties, invalid weights, no LLM left, tampering, other formats, aliases moved by hand."""

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.checks.doctor import examine
from flows.cli import main
from flows.cli.endings import ExitCode, exit_code_of
from flows.versions.mlflow_sync import (
    DRIFTED,
    REPAIRED,
    find_drift,
    forget_version,
    note_drift,
    repair_drift,
    sync_mlflow,
)
from flows.versions.store import load_version, router_folder
from flows.workspace import Workspace
from registry.promotions import gate_result
from routing import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactTooNew,
    InvalidInput,
    NoEligibleLLM,
    load_router,
    save_router,
)
from tests.fakes.served import clock
from tests.registry.publishing.samples import make_router, request_for
from tests.registry.samples import NOW
from tests.routing.synthetic import flat_llm, flat_router, random_router, unit_rows

GOLDEN = Path(__file__).parents[1] / "data" / "router-v1"
GOLDEN_DIGEST = "6b973e1ee61c1b8b1e56bfde435a3ebf3c61ea8a070560b146a69a07ce821604"
AXES = np.eye(8)[:2]
ROUTER = random_router()
ROWS = unit_rows(50)


@given(order=st.permutations(["costly", "a", "b"]), soft=st.booleans(), cost_weight=st.sampled_from([0.0, 0.5, 1.0]))
def test_f76_a_tie_goes_to_the_cheaper_llm_and_then_to_the_first_key_in_any_order(order, soft, cost_weight):
    usd = {"costly": 2.0, "a": 1.0, "b": 1.0}
    error = {"costly": [0.0, 0.0], "a": [cost_weight] * 2, "b": [cost_weight] * 2}
    router = flat_router([flat_llm(key, error[key], usd[key]) for key in order], cost_weight=cost_weight, soft=soft)
    assert set(router.route(AXES).llms) == {"a"}
    assert router.decide(AXES[0]).llm == "a"


@given(bad=st.floats(max_value=-1e-300) | st.sampled_from([float("nan"), float("inf"), float("-inf")]))
def test_f77_an_invalid_cost_weight_never_decides(bad):
    with pytest.raises(InvalidInput, match="cost_weight"):
        ROUTER.route(ROWS, cost_weight=bad)
    with pytest.raises(InvalidInput, match="cost_weight"):
        ROUTER.decide(ROWS[0], cost_weight=bad)


def test_f77_no_weight_takes_the_best_and_the_largest_the_cheapest():
    expected, each = ROUTER.expected(ROWS), np.arange(len(ROWS))
    best = ROUTER.route(ROWS, cost_weight=0.0).llm_index
    np.testing.assert_allclose(expected.errors[each, best], expected.errors.min(axis=1), atol=1e-6)
    for weight in (1e12, 1e300, 1.7e308):
        cheap = ROUTER.route(ROWS, cost_weight=weight).llm_index
        np.testing.assert_allclose(expected.costs_usd[each, cheap], expected.costs_usd.min(axis=1), rtol=1e-6)


def test_f78_no_llm_left_to_choose_from_is_an_error_and_never_the_first_llm():
    for ask in (lambda: ROUTER.route(ROWS, candidates=[]), lambda: ROUTER.decide(ROWS[0], candidates=[])):
        with pytest.raises(NoEligibleLLM) as caught:
            ask()
        assert exit_code_of(caught.value) == ExitCode.REFUSED
    with pytest.raises(NoEligibleLLM):
        ROUTER.cost_weight_for(min_score=0.9, candidates=[])
    with pytest.raises(InvalidInput, match="nobody"):
        ROUTER.route(ROWS, candidates=["nobody"])


REFIT = """
from routing import EmbedderId, KMeansMap, RoutedLLM, Router, plain_feature_vector
from tests.routing.synthetic import random_llm, unit_rows
rows = unit_rows(800, dim=64)
fitted = KMeansMap(n_clusters=8).fit(rows).fitted_
router = Router(
    fitted, [random_llm(f"llm-{j}", fitted, j) for j in range(4)], embedder=EmbedderId("fake", "1", 64),
    cost_weight=50.0, calibration_weights=fitted.weights(rows[:50]),
)
print(router.digest, *router.route(rows).llm_index)
"""


def test_f79_any_number_of_threads_fits_the_same_map_and_makes_the_same_router(in_child):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    children = [in_child(REFIT, **dict.fromkeys(names, n), PYTHONHASHSEED=n) for n in ("1", "3")]
    (one, err), (three, _) = (child.communicate() for child in children)
    assert len(one.split()) == 801, err
    assert one == three


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_router(ROUTER, tmp_path / "router")
    return tmp_path / "router"


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and correct its checksum, as an attacker who knows the format would."""
    (folder / name).write_bytes(data)
    stated = json.loads((folder / "digests.json").read_bytes())
    stated["files"][name] = hashlib.sha256(data).hexdigest()
    written = json.dumps(stated, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    (folder / "digests.json").write_bytes(written)


def test_f87_a_champion_that_was_tampered_with_is_refused_and_stays_the_champion(served):
    digest = served.registry.routers.aliases().champion
    for name in ("router.json", "arrays.npz", "digests.json"):
        file = router_folder(served, digest) / name
        whole = file.read_bytes()
        for damaged in (None, b"", whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:]):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            with pytest.raises(ArtifactCorrupt, match=name) as caught:
                load_version(served, digest)
            assert exit_code_of(caught.value) == ExitCode.INTEGRITY
            assert caught.value.hint == "uniroute doctor --repair"
            file.write_bytes(whole)
    (router_folder(served, digest) / "arrays.npz").unlink()
    aliases = served.registry.routers.aliases()
    assert aliases.champion == digest
    assert load_version(served, aliases.previous).digest == aliases.previous


def test_f87_a_router_swapped_for_another_intact_one_is_not_the_one_in_the_registry(served):
    aliases = served.registry.routers.aliases()
    folder = router_folder(served, aliases.champion)
    shutil.rmtree(folder)
    shutil.copytree(router_folder(served, aliases.previous), folder)
    found = [check for check in examine(served, repair=False, clock=clock) if check.severity == "damaged"]
    assert [check.subject for check in found] == [f"router {aliases.champion[:12]}"]
    with pytest.raises(ArtifactCorrupt, match=aliases.previous[:12]):
        load_version(served, aliases.champion)


def test_f87_a_changed_price_is_found_although_the_checksums_were_corrected(saved):
    content = json.loads((saved / "router.json").read_bytes())
    content["cost_weight"] = 0.001
    forge(saved, "router.json", json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    with pytest.raises(ArtifactCorrupt, match=f"is not router {ROUTER.digest[:12]}"):
        load_router(saved)


def test_f87_a_version_changed_in_mlflow_is_not_taken_over(served, tmp_path):
    for file in (served.home / "mlflow-artifacts").rglob("arrays.npz"):
        file.write_bytes(file.read_bytes()[:-2] + b"?!")
    with pytest.raises(ArtifactCorrupt, match="is not what was published: its folder has the digest"):
        served.publisher.download("uniroute", 2, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".copy-*")), "and nothing half is left"


def test_f87_a_foreign_file_is_ignored_and_reported(served):
    digest = served.registry.routers.aliases().champion
    (router_folder(served, digest) / "extra.json").write_text("{}")
    assert load_version(served, digest).digest == digest
    found = {check.subject: check.severity for check in examine(served, repair=False, clock=clock)}
    assert found["router files"] == "attention"


class Bomb:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_f88_a_smuggled_pickle_does_not_run_even_with_the_right_checksums(saved, tmp_path):
    fuse = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(fuse)))
    assert fuse.exists(), "the bomb works"
    fuse.unlink()
    data = io.BytesIO()
    np.save(data, np.array([Bomb(fuse)], dtype=object), allow_pickle=True)
    packed = io.BytesIO((saved / "arrays.npz").read_bytes())
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("bomb.npy", data.getvalue())
    forge(saved, "arrays.npz", packed.getvalue())
    (saved / "router.pkl").write_bytes(pickle.dumps(Bomb(fuse)))
    with pytest.raises(ArtifactCorrupt):
        load_router(saved)
    assert not fuse.exists()


def test_f89_a_router_of_a_later_format_says_what_to_install(saved):
    content = json.loads((saved / "router.json").read_bytes()) | {"format": 99}
    forge(saved, "router.json", json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    with pytest.raises(ArtifactTooNew, match="format 99, this version reads 1") as caught:
        load_router(saved)
    assert caught.value.hint == "install a later version of uniroute"
    assert isinstance(caught.value, ArtifactError)
    assert exit_code_of(caught.value) == ExitCode.CONFIGURATION


def test_f90_a_router_of_the_first_format_decides_as_it_did(tmp_path):
    router = load_router(GOLDEN)
    assert router.digest == GOLDEN_DIGEST
    assert [router.decide(np.eye(8)[0], cost_weight=weight).llm for weight in (None, 0.0)] == [
        "sandbox:small",
        "sandbox:large",
    ]
    save_router(router, tmp_path / "again")
    assert load_router(tmp_path / "again").digest == GOLDEN_DIGEST


def drift_events(workspace: Workspace) -> list[str]:
    return [one.event for one in workspace.registry.ledger.events() if one.event in (DRIFTED, REPAIRED)]


def test_f84_an_alias_moved_by_hand_is_found_noted_once_and_not_moved_back_unasked(served):
    served.publisher.set_alias("uniroute", "champion", 1)
    drifts = find_drift(served)
    assert list(map(str, drifts)) == ["champion points to version 1, it should be version 2"]
    for _ in range(3):
        note_drift(served, drifts, actor="night", now=NOW)
    sync_mlflow(served, clock)
    assert served.publisher.aliases("uniroute")["champion"] == 1, "the person who moved it may have had a reason"
    assert drift_events(served) == [DRIFTED]
    repair_drift(served, drifts, actor="me", now=NOW)
    assert find_drift(served) == ()
    assert drift_events(served) == [DRIFTED, REPAIRED]
    served.publisher.set_alias("uniroute", "champion", 1)
    note_drift(served, find_drift(served), actor="night", now=NOW)
    assert drift_events(served) == [DRIFTED, REPAIRED, DRIFTED], "a second time is news"
    assert served.registry.ledger.verify().is_intact


def test_f84_the_next_promotion_does_not_overwrite_an_alias_that_was_moved_by_hand(served):
    by_hand = served.publisher.publish(request_for(make_router(7), served.home, "by-hand")).version
    served.publisher.set_alias("uniroute", "champion", by_hand)
    aliases = served.registry.routers.aliases()
    asked = served.registry.promotions.request(
        aliases.previous, aliases.champion, gate_result(True, {}), actor="night", now=NOW
    )
    served.registry.promotions.apply(asked, actor="night", reason="gate passed", now=NOW)
    (left_alone,) = sync_mlflow(served, clock)
    assert str(left_alone) == f"champion points to version {by_hand}, it should be version 1"
    assert served.publisher.aliases("uniroute") == {"champion": by_hand, "challenger": 2, "previous": 2}
    (waiting,) = served.registry.promotions.pending()
    assert (waiting.alias, "uniroute doctor --repair" in waiting.last_error) == ("champion", True)
    assert find_drift(served) == (left_alone,)
    assert drift_events(served) == [DRIFTED]
    found = {
        check.subject: check.severity for check in examine(served, repair=True, clock=clock) if check.severity != "ok"
    }
    assert found == {}
    assert served.publisher.aliases("uniroute") == {"champion": 1, "challenger": 2, "previous": 2}
    assert (served.registry.promotions.pending(), drift_events(served)) == ((), [DRIFTED, REPAIRED])


def test_f84_an_alias_moved_by_hand_to_where_it_was_going_anyway_is_no_drift(served):
    served.registry.promotions.rollback(actor="me", reason="worse", now=NOW)
    served.publisher.set_alias("uniroute", "champion", 1)
    assert (sync_mlflow(served, clock), served.registry.promotions.pending()) == ((), ())
    assert drift_events(served) == []


def test_f84_an_alias_that_differs_in_case_is_drift_and_goes_on_request(served):
    served.publisher.client.set_registered_model_alias("uniroute", "Champion", "1")
    assert list(map(str, find_drift(served))) == ["Champion points to version 1, it should not exist"]
    found = {check.subject: check for check in examine(served, repair=False, clock=clock) if check.severity != "ok"}
    assert list(found) == ["aliases"]
    assert found["aliases"].next_step == "uniroute doctor --repair"
    examine(served, repair=True, clock=clock)
    assert served.publisher.aliases("uniroute") == {"champion": 2, "challenger": 2, "previous": 1}
    assert drift_events(served) == [DRIFTED, REPAIRED]


def test_f84_a_version_number_that_mlflow_reuses_belongs_to_the_router_that_got_it(served):
    champion, previous = (served.registry.routers.get(alias) for alias in ("champion", "previous"))
    with served.registry.unit() as unit:
        for record in (champion, previous):
            forget_version(served, record, now=NOW, unit=unit)
        served.registry.routers.set_published(previous.digest, "uniroute", 2, "run", unit=unit)
    sync_mlflow(served, clock)
    assert served.registry.routers.get("champion").mlflow_version == 2
    assert served.registry.routers.get("previous").mlflow_version is None, "its number was given to another"
    sync_mlflow(served, clock)
    assert served.registry.routers.get("previous").mlflow_version == 1
    assert find_drift(served) == ()


@pytest.fixture
def route(served: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    monkeypatch.setenv("UNIROUTE_HOME", str(served.home))
    monkeypatch.chdir(served.home)

    def ask(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["route", "What does the heart pump?", *arguments])
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return ask


def test_f91_a_withdrawn_llm_of_the_champion_is_passed_over_for_the_next_best(served, route):
    code, out, err = route("--cost-weight", "0", "--json")
    first = json.loads(out)["data"]
    assert (code, first["llm"]) == (0, "sandbox:strong")
    served.registry.llms.set_status("sandbox:strong", "withdrawn", "gone", actor="me", now=NOW)
    code, out, err = route("--cost-weight", "0", "--json")
    second = json.loads(out)["data"]
    assert (code, second["llm"], second["expected_score"]) == (0, first["runner_up"], first["runner_up_score"])
    assert "sandbox:strong" in err
    found = {check.subject: check for check in examine(served, repair=False, clock=clock)}["champion"]
    assert (found.severity, "sandbox:strong" in found.text) == ("attention", True)
    for key in ("sandbox:middle", "sandbox:frugal"):
        served.registry.llms.set_status(key, "quarantined", "odd", actor="me", now=NOW)
    code, out, err = route()
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "No LLM is left" in err
