"""An LLM with two fifths of the traffic is withdrawn: consumers stop being sent to it in the same night."""

import json
import shutil
from collections import Counter
from pathlib import Path

from flows.config.loading import load_settings
from flows.reports.nights import night_html, night_markdown
from flows.reports.past_night import look_back
from flows.workspace import Workspace
from registry.clock import utc_now
from registry.publishing.client import RouterClient
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import TinyNight
from tests.faults.withdrawal import (
    FIRST,
    FIRST_LLMS,
    GONE,
    N_PROMPTS,
    REPLACEMENT,
    SECOND,
    THIRD,
    Withdrawal,
    answer,
    prompt_of,
)


def traffic(client: RouterClient) -> Counter[str]:
    """Return how many prompts a consumer sends to each LLM now."""
    assert client.check().last_error is None
    return Counter(client.predict([prompt_of(number) for number in range(N_PROMPTS)])["llm"])


def listed(*llm_ids: str) -> dict:
    return {"object": "list", "data": [{"id": llm_id} for llm_id in llm_ids]}


def test_the_night_of_a_withdrawal_serves_on_without_it_and_judges_its_replacement_against_that(
    tmp_path: Path, template: Path
) -> None:
    with FakeEndpoint(answer, scripts=dict.fromkeys(FIRST_LLMS, "ok")) as endpoint:
        made = Withdrawal.prepare(tmp_path / "night", endpoint.base_url.removesuffix("/v1"))
        (made.folder / "home").mkdir()
        shutil.copyfile(template, made.folder / "home" / "mlflow.db")
        night = TinyNight(made.folder)
        assert night.run(FIRST) == 0, night.output()
        ((before,),) = night.rows("SELECT router_digest FROM alias WHERE name = 'champion'")
        with RouterClient(tracking_url=made.tracking_url, folder=tmp_path, every_s=3600) as client:
            assert traffic(client)[f"litellm:{GONE}"] == 48
            endpoint.scripts |= {GONE: "404", REPLACEMENT: "ok"}
            endpoint.documents["/v1/models"] = listed("fair", "rivers", REPLACEMENT)
            made.price(*FIRST_LLMS, REPLACEMENT)
            assert night.run(SECOND) == 0, night.output()
            sent = traffic(client)
        assert f"litellm:{GONE}" not in sent
        assert sent[f"litellm:{REPLACEMENT}"] == 48
        ((refreshed, reason),) = night.rows("SELECT subject, reason FROM ledger WHERE event = 'router:refreshed'")
        assert (refreshed != before, bytes(reason).decode()) == (True, f"without litellm:{GONE}")
        ((key, summary),) = night.rows(f"SELECT key, summary_json FROM run WHERE as_of = '{SECOND}'")
        record = json.loads(summary)
        assert record["refresh"]["status"] == "applied"
        assert record["router"]["promotion"] == "promoted"
        last = night.rows("SELECT expected_champion FROM promotion ORDER BY id DESC LIMIT 1")
        assert last == [(refreshed,)], "the replacement met the champion as it can serve"
        with Workspace(load_settings(made.folder / "uniroute.toml")) as workspace:
            shown = look_back(workspace, key)
            for llm in workspace.registry.llms.all():
                workspace.registry.llms.set_status(llm.key, "quarantined", "doubted", actor="anna", now=utc_now())
        for page in (night_html(shown), night_markdown(shown)):
            assert "the champion serves without" in page and refreshed[:12] in page
        # Nothing is left to serve: the night says so first, and ends as one that needs a person.
        assert night.run(THIRD) == 3, night.output()
        ((summary,),) = night.rows(f"SELECT summary_json FROM run WHERE as_of = '{THIRD}'")
        lines = json.loads(summary)["attention"]
        assert lines[0].startswith("The champion rests on LLMs that cannot serve: 3 of its 3 LLMs"), lines
        assert "none of its LLMs is left to serve" in lines[1]
        assert lines[-1].startswith("no router was made: No LLM is there to route to: none")
