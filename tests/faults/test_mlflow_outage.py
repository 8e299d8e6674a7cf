"""MLflow is down, fails or hangs when the night publishes: the registry is right, and MLflow catches up (claim C7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.endpoint import FakeEndpoint, FakeRequest
from tests.faults.tiny_night import FIRST, LLMS, TinyNight, answer, mlflow_state

PENDING = "SELECT count(*) FROM outbox WHERE done_at IS NULL"


@contextmanager
def first_night(folder: Path, template: Path) -> Iterator[TinyNight]:
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as endpoint:
        yield TinyNight.prepare(folder / "night", endpoint, template)


@pytest.fixture(params=["closed port", "500", "hang"])
def broken(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an MLflow that does not answer as it should."""
    if request.param == "closed port":
        yield "http://127.0.0.1:9"
        return

    def fail(_request: FakeRequest) -> str:
        return str(request.param)

    with FakeEndpoint(choose=fail) as server:
        yield server.base_url.removesuffix("/v1")


def test_f81_a_night_whose_mlflow_is_out_of_order_promotes_in_the_registry_and_publishes_later(
    tmp_path: Path, template: Path, broken: str
) -> None:
    impatient = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with first_night(tmp_path, template) as night:
        assert night.run(FIRST, UNIROUTE_MLFLOW__TRACKING_URL=broken, **impatient) == 3, night.output()
        assert "published: pending." in night.output()
        ((digest,),) = night.rows("SELECT router_digest FROM alias WHERE name = 'champion'")
        assert night.rows(PENDING)[0][0] > 0
        planned = night.planned_calls()
        assert night.rows("SELECT status FROM run") == [("attention",)]

        assert night.run(FIRST) == 0, night.output()
        assert night.rows(PENDING) == [(0,)]
        state = mlflow_state(f"sqlite:///{night.folder / 'home' / 'mlflow.db'}")
        assert state[:-1] == [
            ("uniroute", 1, "READY", digest),
            ("uniroute", "challenger", 1),
            ("uniroute", "champion", 1),
        ]
        ((calls,),) = night.rows("SELECT sum(calls) FROM charge")
        assert calls == planned, "no LLM was asked again for it"
