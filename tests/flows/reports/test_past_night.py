"""A night of the past, as ``uniroute night show`` prints it."""

from datetime import date
from decimal import Decimal

from flows.fitting.refit_change import LLMChange, RefitChange
from flows.reports.night_record import NightRecord, NightRouterRecord
from flows.reports.past_night import PastNight, night_text
from registry.runs import Run
from tests.registry.samples import NOW


def test_a_refit_is_shown_with_what_it_changed() -> None:
    run = Run(
        id=1,
        key="night:2024-11-01:abc",
        as_of=date(2024, 11, 1),
        status="completed",
        attempt=1,
        lease_number=1,
        settings_hash="abc",
        settings_json="{}",
        prompt_set_digest=None,
        host="here",
        pid=1,
        started_at=NOW,
        finished_at=NOW,
        verdict="",
        summary_json=None,
    )
    moved = LLMChange("shop:\x1b[31mred", 0.4, 0.5, prompts_before=9, prompts=4)
    change = RefitChange("2 new LLMs since the last fit", 9, same_map=True, gate_prompts=40, rerouted=5, llms=(moved,))
    record = NightRecord(router=NightRouterRecord(digest="ab" * 32, version=3, n_llms=9, refit=change))
    lines = night_text(PastNight(run, record, 0, Decimal(0), {})).splitlines()
    refit = [line for line in lines if line.startswith("refit    ")]
    assert refit[0].endswith(
        "the prior fitted anew on 9 LLMs, from stored answers alone (2 new LLMs since the last fit)"
    )
    assert "5 of 40 gate prompts routed otherwise" in refit[1] and "-5" in refit[1]
    assert "0.400 -> 0.500" in refit[2]
    assert "\x1b" not in "".join(refit)
    assert not any(
        line.startswith("refit") for line in night_text(PastNight(run, NightRecord(), 0, Decimal(0), {})).splitlines()
    )
