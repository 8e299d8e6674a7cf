"""Handing out profiles is refused before anything is called if what it needs is missing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.config.settings import FanOutSettings
from flows.deploy.serve import prefect_server
from flows.errors import PrerequisiteError
from flows.profiling.fan_out import check_fan_out
from tests.homes import with_prefect
from tests.stack.processes import free_port


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory, prefect_template: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        home = with_prefect(tmp_path_factory.mktemp("fan-out"), prefect_template)
        patch.setenv("PREFECT_HOME", str(home / "prefect"))
        with prefect_server(free_port()) as url:
            yield url


@pytest.mark.parametrize("runner", ["work_pool", "dask"])
def test_handing_out_needs_a_server_that_all_workers_can_reach(monkeypatch: pytest.MonkeyPatch, runner: str) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    asyncio.run(check_fan_out(FanOutSettings()))
    with pytest.raises(PrerequisiteError, match="needs a Prefect server") as refused:
        asyncio.run(check_fan_out(FanOutSettings(runner=runner)))
    assert refused.value.hint.startswith("export PREFECT_API_URL=")


@pytest.mark.slow
def test_a_missing_deployment_or_work_pool_is_refused_before_anything_is_called(
    api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import PrefectClient
    from prefect.settings import PREFECT_API_URL, temporary_settings

    async def deploy_without_pool() -> None:
        async with PrefectClient(api_url) as client:
            flow_id = await client.create_flow_from_name("profile-llm")
            await client.create_deployment(flow_id, "profile-llm")

    monkeypatch.setenv("PREFECT_API_URL", api_url)
    wanted = FanOutSettings(runner="work_pool")
    with temporary_settings({PREFECT_API_URL: api_url}):
        with pytest.raises(PrerequisiteError, match=r"'profile-llm/profile-llm' .* is not on the Prefect server"):
            asyncio.run(check_fan_out(wanted))
        asyncio.run(deploy_without_pool())
        with pytest.raises(PrerequisiteError, match=r"The work pool .* is gone") as refused:
            asyncio.run(check_fan_out(wanted))
    assert (refused.value.unchanged, refused.value.hint) == ("Nothing was called.", "uniroute deploy")
