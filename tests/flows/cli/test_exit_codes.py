import json
from pathlib import Path

import pytest

import flows.errors
import registry.errors
import routing.errors
from flows.cli.endings import ExitCode, exit_code_of, kind_of, report_bug, report_error
from routing.errors import UnirouteError


def every_error_class() -> list[type[UnirouteError]]:
    def below(kind: type[UnirouteError]) -> list[type[UnirouteError]]:
        return [found for child in kind.__subclasses__() for found in (child, *below(child))]

    modules = {module.__name__ for module in (flows.errors, registry.errors, routing.errors)}
    return [kind for kind in below(UnirouteError) if kind.__module__ in modules]


def made(kind: type[UnirouteError]) -> UnirouteError:
    extra = {"kind": "timeout"} if issubclass(kind, flows.errors.EndpointError) else {}
    extra |= {"scope": "night"} if kind is flows.errors.BudgetExceeded else {}
    extra |= {"signal_number": 15} if kind is flows.errors.Interrupted else {}
    return kind("Something is wrong.", hint="Do this.", **extra)


@pytest.mark.parametrize("kind", every_error_class(), ids=lambda kind: kind.__name__)
def test_every_error_has_an_exit_code_that_is_not_that_of_a_bug(kind: type[UnirouteError]) -> None:
    assert exit_code_of(made(kind)) not in (0, 1)


def test_the_codes_that_schedulers_rely_on() -> None:
    assert exit_code_of(made(registry.errors.RunAlreadyActive)) == ExitCode.TRY_LATER
    assert exit_code_of(made(flows.errors.Interrupted)) == ExitCode.TERMINATED
    assert exit_code_of(made(flows.errors.CatalogUnavailable)) == ExitCode.TRY_LATER
    assert exit_code_of(made(flows.errors.CredentialsMissing)) == ExitCode.CREDENTIALS
    assert exit_code_of(made(flows.errors.PrerequisiteError)) == ExitCode.CONFIGURATION
    assert exit_code_of(made(registry.errors.SchemaMismatch)) == ExitCode.CONFIGURATION
    assert exit_code_of(made(routing.errors.ArtifactCorrupt)) == ExitCode.INTEGRITY
    assert exit_code_of(made(flows.errors.BudgetExceeded)) == ExitCode.ATTENTION


def test_the_kinds_that_machines_rely_on() -> None:
    kinds = {
        registry.errors.StalePromotion: "stale",
        registry.errors.RunAlreadyActive: "busy",
        registry.errors.PublishIncomplete: "unpublished",
        registry.errors.NotFound: "not_found",
        routing.errors.InvalidInput: "invalid",
        routing.errors.NoEligibleLLM: "refused",
        routing.errors.ArtifactCorrupt: "integrity",
        flows.errors.CatalogUnavailable: "unavailable",
        flows.errors.CredentialsMissing: "credentials",
        flows.errors.BudgetExceeded: "budget",
        flows.errors.Interrupted: "interrupted",
        flows.errors.PrerequisiteError: "configuration",
    }
    assert {family: kind_of(made(family)) for family in kinds} == kinds


def test_an_error_is_one_line_and_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    error = flows.errors.PrerequisiteError("a\x1b[31m file\nis missing.", unchanged="Nothing ran.", hint="Make it.")
    assert report_error(error, as_json=False) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: a [31m file is missing. Nothing ran.\nnext:  Make it.\n"


def test_an_error_as_json_carries_the_same_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(flows.errors.PrerequisiteError("It is missing.", hint="Make it."), as_json=True)
    found = json.loads(capsys.readouterr().out)["error"]
    assert found == {
        "kind": "configuration",
        "message": "It is missing.",
        "unchanged": "",
        "hint": "Make it.",
        "exit_code": 78,
    }


def test_a_bug_leaves_its_traceback_in_a_file_and_one_line_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path))
    assert report_bug(KeyError("x")) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    (log,) = tmp_path.glob("crash-*.log")
    assert str(log) in said
    assert "KeyError" in log.read_text()
