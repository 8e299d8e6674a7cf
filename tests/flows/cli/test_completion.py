"""What shells complete: commands, options, and names of the registry, without a heavy import."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from flows.cli.completion import registry_url
from flows.config.loading import load_settings
from registry.db.completion_names import names
from registry.store import Registry
from tests.commands import Uniroute
from tests.flows.cli.test_contract import COMMANDS
from tests.registry.samples import fetch, listing, record_fetch

NAMING = {"name", "version", "before", "after", "to", "only", "candidates", "subject"}
HEAVY = ("pydantic", "sqlalchemy", "numpy", "prefect", "mlflow", "rich", "sklearn")


def naming(command: click.Command) -> list[click.Parameter]:
    """Return the parameters that take a name of the registry."""
    return [parameter for parameter in command.params if parameter.name in NAMING]


def completed(*words: str, variables: dict[str, str] | None = None) -> list[str]:
    """Complete the last word as fish asks for it, and fail if that imported anything heavy."""
    script = (
        "import sys\nfrom flows.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\nassert not loaded, loaded\n"
    )
    asked = {
        "_UNIROUTE_COMPLETE": "fish_complete",
        "COMP_WORDS": " ".join(("uniroute", *words)),
        "COMP_CWORD": words[-1],
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | asked | (variables or {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [line.split("\t")[0].removeprefix("plain,") for line in lines if line.startswith("plain,")]


def test_commands_verbs_and_options_are_completed(home: Path) -> None:
    assert completed("ni") == ["night"]
    assert {"cancel", "events", "list", "run", "serve", "show"} <= set(completed("night", ""))
    assert "--json" in completed("llm", "list", "--js")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("llm", "show", "sandbox:m"), ["sandbox:middle"]),
        (("llm", "exclude", "mid"), ["sandbox:middle"]),
        (("night", "run", "--only", "sandbox:s"), ["sandbox:strong"]),
        (("night", "show", "night:"), ["night:2024-09-01:abc"]),
        (("router", "diff", "1", "ch"), ["challenger", "champion"]),
        (("promotion", "request", "ch"), ["challenger", "champion"]),
        (("promotion", "rollback", "--to", "prev"), ["previous"]),
        (("promotion", "show", ""), ["2", "1"]),
        (("report", "promotion", ""), ["2", "1"]),
        (("promotion", "approve", ""), []),
        (("route", "--router", "champ"), ["champion"]),
        (("route", "--candidates", "sandbox:frugal,sandbox:m"), ["sandbox:frugal,sandbox:middle"]),
        (("route", "--candidates", "sandbox:middle,mid"), []),
        (("prompt", "example", "0", "--router", "champ"), ["champion"]),
        (("audit", "log", "--subject", "night:"), ["night:2024-09-01:abc"]),
        (("audit", "log", "--subject", "sandbox:m"), ["sandbox:middle"]),
    ],
    ids=" ".join,
)
def test_names_are_completed_from_the_registry(home: Path, words: tuple[str, ...], names: list[str]) -> None:
    assert completed(*words) == names


def test_only_promotions_that_wait_are_offered_for_a_decision(eventful: Path) -> None:
    assert completed("promotion", "show", "") == ["2", "1"]
    assert completed("promotion", "approve", "") == completed("promotion", "reject", "") == ["2"]


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if naming(command)])
def test_every_parameter_that_takes_a_name_of_the_registry_completes_it(eventful: Path, path: str) -> None:
    context = click.Context(COMMANDS[path], resilient_parsing=True)
    for parameter in naming(COMMANDS[path]):
        assert parameter.shell_complete(context, ""), parameter.name


def test_names_of_every_kind_are_read_and_nothing_is_written(home: Path) -> None:
    url = f"sqlite:///{home / 'registry.db'}"
    before = (home / "registry.db").read_bytes()
    assert set(names(url, "llm")) == {"sandbox:frugal", "sandbox:middle", "sandbox:strong"}
    assert {"champion", "challenger", "previous", "1", "2"} == set(names(url, "router"))
    assert (len(names(url, "promotion")), names(url, "waiting promotion")) == (2, ())
    assert (home / "registry.db").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"garbage" * 100, b""])
def test_without_a_registry_to_read_there_are_no_names(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "registry.db"
    if content is not None:
        file.write_bytes(content)
    assert names(f"sqlite:///{file}", "llm") == ()
    assert file.exists() == (content is not None)
    assert names("postgresql://me@nowhere/registry", "llm") == ()


def test_a_name_that_would_act_in_a_shell_is_not_offered(home: Path, registry: Registry, capsys) -> None:
    from flows.cli.completion import complete_llms

    run = registry.runs.latest()
    hostile = ["a$(touch x)", "b`id`", "c\x1b[31m", "d'e", "good"]
    record_fetch(
        registry, run.id, fetch([listing(name, endpoint="x") for name in hostile], "h", catalog="h"), run.as_of
    )
    context = click.Context(click.Command("x"), resilient_parsing=True)
    found = [item.value for item in complete_llms(context, click.Option(["--x"]), "x:")]
    assert found == ["x:good"]


def plain_home(folder: Path, environment: Callable[[str, str], None]) -> str:
    return ""


def home_in_file(folder: Path, environment: Callable[[str, str], None]) -> str:
    return 'home = "state"\n'


def url_in_file(folder: Path, environment: Callable[[str, str], None]) -> str:
    return '[registry]\nurl = "postgresql://me@there/registry"\n'


def home_in_both(folder: Path, environment: Callable[[str, str], None]) -> str:
    environment("UNIROUTE_HOME", str(folder / "elsewhere"))
    return 'home = "state"\n'


def url_in_environment(folder: Path, environment: Callable[[str, str], None]) -> str:
    environment("UNIROUTE_REGISTRY__URL", "sqlite:////tmp/x.db")
    return url_in_file(folder, environment)


@pytest.mark.parametrize("case", [plain_home, home_in_file, url_in_file, home_in_both, url_in_environment])
def test_completion_finds_the_registry_where_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Callable[..., str]
) -> None:
    for name in [name for name in os.environ if name.startswith("UNIROUTE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("uniroute.toml").write_text(case(tmp_path, monkeypatch.setenv))
    assert registry_url(None) == load_settings().registry_url


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script_that_asks_uniroute(uniroute: Uniroute, shell: str) -> None:
    found = uniroute("completion", shell)
    assert found.code == 0
    assert "_UNIROUTE_COMPLETE" in found.out
    assert uniroute("completion", shell, "--json").data["script"] == found.out.removesuffix("\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_an_llm_key_behind_its_colon(home: Path, uniroute: Uniroute, tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    script.write_text(uniroute("completion", "bash").out)
    bin_folder = Path(sys.executable).parent
    ask = f"""
        PATH="{bin_folder}:$PATH"; . "{script}"
        [[ "$COMP_WORDBREAKS" != *:* ]] || exit 9
        COMP_WORDS=(uniroute llm show sandbox:m); COMP_CWORD=3; _uniroute_completion uniroute; echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "sandbox:middle", done.stderr
