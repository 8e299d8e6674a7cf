"""Alerts and runbook agree with each other, with the metrics that exist, and with the commands that exist."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.metrics.listed import METRICS, PREFIX
from tests.conftest import ROOT
from tests.flows.cli.test_contract import COMMANDS, options_of

DOCKER = ROOT / "docker"
RUNBOOK = (DOCKER / "RUNBOOK.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCKER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = {f"{PREFIX}{name}{'_total' * metric.is_counter}": metric for name, metric in METRICS.items()}
SECTIONS: dict[str, str] = dict(re.findall(r"^### (\w+)\n(.*?)(?=^#|\Z)", RUNBOOK, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_reads_metrics_that_are_exported_and_labels_that_they_have(rule: dict[str, Any]) -> None:
    named = set(re.findall(rf"{PREFIX}[a-z_]+", rule["expr"]))
    assert named, rule["alert"]
    assert named <= set(NAMES)
    labels = {label for name in named for label in NAMES[name].labels} | {"job", "instance"}
    asked = re.findall(r"(\w+)(?:=~?|!~|!=)\"", rule["expr"])
    grouped = [name for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for name in group.split(", ")]
    assert {*asked, *grouped} <= labels
    assert set(rule["labels"]) == {"severity", "section"}
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert {rule["labels"]["section"] for rule in RULES} == set(SECTIONS)
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_says_what_it_means_what_is_safe_how_to_look_to_fix_and_when_to_wake(section: str) -> None:
    assert re.findall(r"^- \*\*(\w+)\*\*: \S", SECTIONS[section], flags=re.MULTILINE) == [
        "Means",
        "Safe",
        "Look",
        "Fix",
        "Wake",
    ]


def commands_named() -> list[str]:
    spans = [*re.findall(r"`([^`\n]+)`", RUNBOOK), *re.findall(r"^(uniroute .*)$", RUNBOOK, flags=re.MULTILINE)]
    return sorted({span[span.index("uniroute ") :] for span in spans if re.match(r"(env .* )?uniroute ", span)})


@pytest.mark.parametrize("named", commands_named())
def test_every_command_that_the_runbook_names_exists_with_its_options(named: str) -> None:
    words = named.split("#")[0].split()[1:]
    path = next((path for path in sorted(COMMANDS, key=len)[::-1] if words[: len(path.split())] == path.split()), None)
    assert path is not None, named
    assert {word for word in words if word.startswith("--")} <= options_of(COMMANDS[path])


def test_the_events_that_the_runbook_names_are_those_that_are_logged() -> None:
    listed = re.search(r"Events are (.*?); each answer", RUNBOOK, flags=re.DOTALL)
    assert listed is not None
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "flows").rglob("*.py")))
    for event in re.findall(r"`(\w+)`", listed[1]):
        stem = event.partition("_")[0] if event.startswith("endpoint_") else event
        assert re.search(rf"[\"']{stem}(_\{{state\}})?[\"']", code), event


def test_prometheus_own_checker_finds_nothing() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", str(Path(DOCKER) / "alerts.yaml")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
