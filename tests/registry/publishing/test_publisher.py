"""One router, one version, wherever an earlier attempt stopped."""

import math
import py_compile
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from registry.errors import NotFound, PublishIncomplete
from registry.publishing import RouterPublisher
from routing.errors import ArtifactCorrupt, InvalidInput
from tests.registry.publishing.samples import make_router, request_for

KEY = "night:2024-09-01"


class Killed(BaseException):
    """The process is gone: no code of the program handles this."""


class WatchedClient:
    """Stands before MLflow's client: counts its calls and does something before the chosen one."""

    def __init__(self, client: Any, before: Callable[[int, str], None]) -> None:
        self._client = client
        self._before = before
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def watched(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            self._before(len(self.calls), name)
            return found(*arguments, **named)

        return watched


def watch(publisher: RouterPublisher, before: Callable[[int, str], None]) -> WatchedClient:
    client = WatchedClient(publisher.client, before)
    publisher.__dict__["client"] = client
    return client


def kill_at(number: int) -> Callable[[int, str], None]:
    def before(call: int, _: str) -> None:
        if call == number:
            raise Killed

    return before


def runs_of(publisher: RouterPublisher, key: str = KEY) -> list[Any]:
    experiment = publisher.client.get_experiment_by_name("uniroute-nights")
    return list(publisher.client.search_runs([experiment.experiment_id], f"tags.publish_key = '{key}'"))


def logged_of(publisher: RouterPublisher, key: str = KEY) -> list[Any]:
    experiment = publisher.client.get_experiment_by_name("uniroute-nights")
    return list(publisher.client.search_logged_models([experiment.experiment_id], f"tags.publish_key = '{key}'"))


def versions_of(publisher: RouterPublisher, key: str = KEY) -> list[Any]:
    return list(publisher.client.search_model_versions(f"name = 'uniroute' and tags.publish_key = '{key}'"))


def assert_complete_once(publisher: RouterPublisher, key: str = KEY) -> None:
    (version,) = versions_of(publisher, key)
    (run,) = runs_of(publisher, key)
    (logged,) = logged_of(publisher, key)
    assert (run.info.status, version.status, logged.status.value) == ("FINISHED", "READY", "READY")
    assert version.run_id == run.info.run_id == logged.source_run_id
    assert run.data.metrics == {"score": 0.71, "area": 0.5}
    assert run.data.params["n_clusters"] == "2"
    paths = {entry.path for entry in publisher.client.list_artifacts(run.info.run_id, "router")}
    assert paths == {"router/router.json", "router/arrays.npz", "router/digests.json"}
    assert [entry.path for entry in publisher.client.list_artifacts(run.info.run_id, "figures")] == [
        "figures/deferral.svg"
    ]


def test_publishing_makes_one_run_and_one_described_and_tagged_version(store, tmp_path):
    router = make_router()
    publisher = store.publisher()
    published = publisher.publish(request_for(router, tmp_path))
    assert (published.name, published.version, published.created) == ("uniroute", 1, True)
    assert (published.digest, published.publish_key) == (router.digest, KEY)
    assert_complete_once(publisher)
    (version,) = versions_of(publisher)
    assert version.description == "Router over 3 LLMs.  \n- score 0.71"
    expected = {"digest": router.digest, "embedder": router.embedder.key, "n_llms": "3", "parent": "none"}
    assert expected.items() <= version.tags.items()
    assert version.tags["prompt_set"] == "a" * 64
    assert "load_model" in publisher.client.get_registered_model("uniroute").description


def test_publishing_again_finds_the_version_and_adds_nothing(store, tmp_path):
    request = request_for(make_router(), tmp_path)
    first = store.publisher().publish(request)
    again = store.publisher().publish(request)
    assert (again.version, again.run_id, again.created) == (first.version, first.run_id, False)
    assert_complete_once(store.publisher())
    found = store.publisher().find_by_publish_key("uniroute", KEY)
    assert found is not None and found.version == 1
    assert store.publisher().find_by_publish_key("uniroute", "night:never") is None


def test_another_key_makes_the_next_version(store, tmp_path):
    publisher = store.publisher()
    publisher.publish(request_for(make_router(0), tmp_path))
    assert publisher.publish(request_for(make_router(1), tmp_path, "night:2024-10-01")).version == 2


def test_killed_before_any_step_and_repeated_it_is_published_once(store, tmp_path):
    router = make_router()
    publisher = store.publisher()
    publisher.publish(request_for(router, tmp_path, "first"))
    real = publisher.client
    step, finished = 0, False
    while not finished:
        step += 1
        request = request_for(router, tmp_path, f"step-{step}")
        watch(publisher, kill_at(step))
        try:
            publisher.publish(request)
            finished = True
        except Killed:
            publisher.__dict__["client"] = real
            publisher.publish(request)
        publisher.__dict__["client"] = real
        assert_complete_once(publisher, f"step-{step}")
    assert step > 12
    assert sorted(int(version.version) for version in real.search_model_versions("name = 'uniroute'")) == list(
        range(1, step + 2)
    )


def test_a_name_that_was_never_used_is_published_once_from_every_kill_point(store, tmp_path, template):
    request = request_for(make_router(), tmp_path)
    for step in range(1, 6):
        publisher = store.publisher()
        watch(publisher, kill_at(step))
        with pytest.raises(Killed):
            publisher.publish(request)
    publisher = store.publisher()
    assert publisher.publish(request).version == 1
    assert_complete_once(publisher)


def test_an_upload_cut_in_the_middle_is_not_what_gets_published(store, tmp_path):
    request = request_for(make_router(), tmp_path)
    publisher = store.publisher()
    client = publisher.client

    def half(logged_id: str, folder: str) -> None:
        client.log_model_artifact(logged_id, f"{folder}/MLmodel")
        raise Killed

    watched = watch(publisher, lambda *_: None)
    watched.log_model_artifacts = half
    with pytest.raises(Killed):
        publisher.publish(request)
    published = store.publisher().publish(request)
    assert_complete_once(store.publisher())
    store.publisher().download("uniroute", published.version, tmp_path / "back")


@pytest.mark.parametrize("moment", ["create_run", "log_batch", "log_model_artifacts", "create_model_version"])
def test_two_publishers_at_once_end_with_one_version(store, tmp_path, moment):
    request = request_for(make_router(), tmp_path)
    other_results = []

    def other_publishes(_: int, name: str) -> None:
        if name == moment and not other_results:
            other_results.append(store.publisher().publish(request))

    publisher = store.publisher()
    watch(publisher, other_publishes)
    published = publisher.publish(request)
    (other,) = other_results
    assert (published.version, published.run_id, published.created) == (other.version, other.run_id, False)
    assert_complete_once(store.publisher())


def test_a_second_version_of_a_key_goes_unless_it_is_served(store, tmp_path):
    request = request_for(make_router(), tmp_path)
    publisher = store.publisher()
    first = publisher.publish(request)
    (version,) = versions_of(publisher)
    for _ in range(2):
        publisher.client.create_model_version("uniroute", version.source, version.run_id, tags=version.tags)
    publisher.set_alias("uniroute", "champion", 2)
    assert publisher.publish(request).version == first.version
    assert publisher.aliases("uniroute") == {"champion": 2}
    assert {int(version.version) for version in versions_of(publisher)} == {1, 2}


def test_importing_the_room_loads_neither_mlflow_nor_numpy():
    code = (
        "import sys, registry.publishing; print(sorted({'mlflow', 'numpy', 'pandas', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_aliases_are_moved_and_removed(store, tmp_path):
    publisher = store.publisher()
    assert publisher.aliases("uniroute") == {}
    publisher.publish(request_for(make_router(0), tmp_path))
    publisher.publish(request_for(make_router(1), tmp_path, "second"))
    publisher.set_alias("uniroute", "champion", 1)
    publisher.set_alias("uniroute", "challenger", 2)
    publisher.set_alias("uniroute", "champion", 2)
    publisher.set_alias("uniroute", "previous", 1)
    assert publisher.aliases("uniroute") == {"challenger": 2, "champion": 2, "previous": 1}
    publisher.delete_alias("uniroute", "challenger")
    publisher.delete_alias("uniroute", "challenger")
    assert publisher.aliases("uniroute") == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("alias", ["Champion", "latest", "v3", ""])
def test_aliases_that_are_not_ours_are_refused(store, alias):
    with pytest.raises(InvalidInput, match="not an alias of a router"):
        store.publisher().set_alias("uniroute", alias, 1)


def test_an_alias_of_a_missing_version_is_not_set(store, tmp_path):
    publisher = store.publisher()
    publisher.publish(request_for(make_router(), tmp_path))
    with pytest.raises(PublishIncomplete, match="not moved to version 7"):
        publisher.set_alias("uniroute", "champion", 7)
    assert publisher.aliases("uniroute") == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"qnc": math.inf}}, "The metric 'qnc' is inf"),
        ({"metrics": {"qnc": math.nan}}, "The metric 'qnc' is nan"),
        ({"publish_key": "a' or 'b"}, "cannot be the publish key"),
        ({"name": "models/uniroute"}, "cannot be the name"),
        ({"tags": {"digest": "0" * 64}}, "The tag digest is"),
    ],
)
def test_what_mlflow_would_store_wrongly_is_refused_before_it_is_touched(store, tmp_path, changes, message):
    with pytest.raises(InvalidInput, match=message):
        store.publisher().publish(request_for(make_router(), tmp_path, **changes))
    assert not store.artifact_root.exists()


def test_documents_lie_beside_the_figures_byte_for_byte(store, tmp_path):
    page = tmp_path / "page.html"
    page.write_bytes("<p>Größe</p>\n".encode())
    publisher = store.publisher()
    published = publisher.publish(request_for(make_router(), tmp_path, documents={"review.html": page}))
    publisher.client.download_artifacts(published.run_id, "review.html", str(tmp_path))
    assert (tmp_path / "review.html").read_bytes() == page.read_bytes()


def test_a_document_of_an_odd_name_or_without_a_file_is_refused(store, tmp_path):
    for documents, message in (
        ({"../review.html": tmp_path / "page.html"}, "document name"),
        ({"review.html": tmp_path / "none.html"}, r"document review\.html is missing"),
    ):
        with pytest.raises(InvalidInput, match=message):
            store.publisher().publish(request_for(make_router(), tmp_path, documents=documents))


def test_a_missing_figure_is_named(store, tmp_path):
    with pytest.raises(InvalidInput, match=r"figure curve\.svg is missing"):
        store.publisher().publish(request_for(make_router(), tmp_path, figures={"curve.svg": tmp_path / "none.svg"}))


def test_a_key_that_belongs_to_another_router_is_refused(store, tmp_path):
    publisher = store.publisher()
    publisher.publish(request_for(make_router(0), tmp_path))
    with pytest.raises(InvalidInput, match="belongs to another router"):
        publisher.publish(request_for(make_router(1), tmp_path))
    assert_complete_once(publisher)


def test_a_router_folder_that_was_changed_is_not_published(store, tmp_path):
    request = request_for(make_router(), tmp_path)
    file = request.router_folder / "router.json"
    file.write_text(file.read_text().replace("frugal", "frugax"))
    with pytest.raises(ArtifactCorrupt):
        store.publisher().publish(request)
    assert not store.artifact_root.exists()


def test_foreign_text_in_a_description_is_escaped(store, tmp_path):
    hostile = "New: [gpt](https://evil.example) <img src=x> \x1b[31m# heading"
    store.publisher().publish(request_for(make_router(), tmp_path, description=hostile))
    (version,) = versions_of(store.publisher())
    assert version.description == ("New: \\[gpt\\]\\(https\\://evil.example\\) \\<img src=x\\> \\[31m\\# heading")


def test_a_downloaded_router_is_the_one_that_was_published(store, tmp_path):
    from routing.artifact import load_router

    router = make_router()
    published = store.publisher().publish(request_for(router, tmp_path))
    target = tmp_path / "there" / "router"
    downloaded = store.publisher().download("uniroute", published.version, target)
    assert (downloaded.router_folder, downloaded.digest) == (target, router.digest)
    assert load_router(target).digest == router.digest
    assert [entry.name for entry in target.parent.iterdir()] == ["router"]
    store.publisher().download("uniroute", published.version, target)
    with pytest.raises(NotFound, match="no version 9 of uniroute"):
        store.publisher().download("uniroute", 9, tmp_path / "nine")


@pytest.mark.parametrize(
    "path", ["artifacts/router/arrays.npz", "artifacts/code/routing/router.py", "consumer.py", "MLmodel"]
)
def test_a_downloaded_version_with_one_changed_byte_is_refused(store, tmp_path, path):
    publisher = store.publisher()
    publisher.publish(request_for(make_router(), tmp_path))
    (file,) = store.artifact_root.glob(f"*/models/*/artifacts/{path}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactCorrupt):
        publisher.download("uniroute", 1, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_version_that_was_loaded_is_still_the_one_that_was_published(tracking, tmp_path):
    import mlflow.pyfunc

    publisher = tracking.publisher()
    publisher.publish(request_for(make_router(), tmp_path))
    mlflow.pyfunc.load_model("models:/uniroute/1")
    (store_folder,) = tracking.artifact_root.glob("*/models/*/artifacts")
    py_compile.compile(str(store_folder / "consumer.py"))  # as Python does where it is allowed to
    downloaded = publisher.download_version("uniroute", 1, tmp_path / "back")
    assert tmp_path / "back" in downloaded.folder.parents
    assert (downloaded.folder / "MLmodel").is_file()
    assert not list(downloaded.folder.rglob("__pycache__"))
    (store_folder / "__pycache__" / "consumer.cpython-311.pyc").write_bytes(b"compiled by somebody else")
    with pytest.raises(ArtifactCorrupt, match=r"is not what Python 3\.11 compiles from a checked source"):
        publisher.download_version("uniroute", 1, tmp_path / "again")


def test_a_file_added_to_a_version_is_found(store, tmp_path):
    publisher = store.publisher()
    publisher.publish(request_for(make_router(), tmp_path))
    (folder,) = store.artifact_root.glob("*/models/*/artifacts")
    (folder / "artifacts" / "notes.txt").write_text("added")
    with pytest.raises(ArtifactCorrupt, match="is not what was published"):
        publisher.download("uniroute", 1, tmp_path / "back")
