"""Hostile reasons, names and prompts do nothing when an auditor reads them."""

import pytest

from flows.audit.explanation import Contender, Explanation, NearPrompt
from flows.findings import Finding, findings_text
from flows.reports.audit import diff_text, explanation_text, history_text, log_text, served_text
from tests.fakes.hostile import HOSTILE, active_signs

every_string = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def change(text):
    return {
        "version": None,
        "digest": "d" * 64,
        "since": "2024-09-01T02:00:00Z",
        "until": None,
        "kind": "promotion",
        "actor": text,
        "reason": text,
        "promotion": 1,
        "ledger_event": 7,
        "gate_passed": True,
    }


def served(text):
    check = {"name": text, "value": text, "threshold": text, "passed": False}
    facts = dict.fromkeys(
        ["run", "as_of", "settings_hash", "prompt_set", "embedder", "cluster_map", "gate_digest", "report_digest"],
        "f" * 64,
    )
    evidence = facts | {"run": text, "embedder": text, "promotion": 1, "gate_passed": False, "gate_checks": [check]}
    allowed = {"requested_by": text, "requested_at": "then", "decided_by": text, "decided_at": "then"}
    return change(text) | {"allowed_by": allowed, "evidence": evidence | {"llms": [text] * 20}}


@every_string
def test_hostile_text_is_harmless_in_everything_an_auditor_reads(text):
    event = {"number": 1, "at": "2024-09-01T02:00:00.000000+00:00", "event": text, "subject": text, "actor": text}
    contender = Contender(text, 0.5, 0.1, 0.1, 0.6, 0.1)
    found = Explanation((contender, contender), (NearPrompt(text, text, 0.5),), 20.0, "tie", False, 0.5, 0)
    before_and_after = {"name": text, "before": text, "after": None}
    differences = {
        "llms": {"in": [text], "out": [text]},
        "prices": [{"llm": text, "side": "input_usd_per_mtok", "before": 1.0, "after": 2.0}],
        "vectors": [{"llm": text, "mean_error_before": 0.1, "mean_error_after": 0.2}],
        "routes": {
            "gate_prompts": 2,
            "changed": 1,
            "share_changed": 0.5,
            "largest_flows": [{"from": text, "to": text, "prompts": 1}],
        },
        "settings": [before_and_after],
    }
    said = [
        log_text([event | {"reason": text}]),
        findings_text([Finding(text, "damaged", text, text)]),
        history_text([change(text)]),
        served_text([served(text)], text),
        diff_text("version 1", "version 2", differences),
        explanation_text(found, "version 2"),
    ]
    for one in said:
        assert not active_signs(one.replace("\n", ""))


def test_nothing_to_show_is_said_in_words():
    assert log_text([]) == "The ledger holds no such event."
    assert "uniroute night run" in history_text([])
    assert diff_text("version 1", "version 1", {}) == "version 1 and version 1 do not differ."
    assert "were not compared" in diff_text("a", "b", {"routes": {"not_compared": "no embeddings"}})
