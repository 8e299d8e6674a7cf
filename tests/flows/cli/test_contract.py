"""What holds for every command: help, JSON of a pinned shape, a place in flows/README.md, and silence when refused."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from flows.cli import cli
from flows.cli.endings import ErrorKind, ExitCode
from flows.cli.options import NounGroup
from tests.commands import Uniroute
from tests.flows.cli.shapes import PINNED, misfits, shape_of

README = (Path(__file__).resolve().parents[3] / "flows" / "README.md").read_text(encoding="utf-8")
# These take minutes, or need data that is not here: other tests look at them.
LONG = {"bench", "demo"}
LISTS = {"list", "log", "events", "history", "diff"}


def commands() -> dict[str, click.Command]:
    """Return every command by its path."""

    def below(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield path, command
            return
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            verb = command.get_command(context, name)
            assert verb is not None
            yield from below(verb, f"{path} {name}".strip())

    return dict(below(cli, ""))


COMMANDS = commands()


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_json_and_the_options_that_all_share(path: str) -> None:
    command = COMMANDS[path]
    assert command.help, path
    assert {"--json", "--quiet", "--verbose", "--exit-zero-on"} <= options_of(command)
    assert all(option.help for option in command.params if isinstance(option, click.Option)), path


def test_lists_of_commands_say_in_whole_sentences_what_each_does() -> None:
    context = click.Context(cli, terminal_width=80)
    groups = {"": cli} | {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    helps = {
        name: group.get_help(click.Context(group, info_name=f"uniroute {name}", terminal_width=80))
        for name, group in groups.items()
        if isinstance(group, click.Group)
    }
    assert len(helps) > 8
    assert [name for name, text in helps.items() if "..." in text.partition("Commands:")[2]] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_in_the_readme(path: str) -> None:
    assert re.search(rf"(uniroute |`){path}\b", README), f"flows/README.md's table of commands lacks uniroute {path}"


@pytest.mark.parametrize("path", [path for path in COMMANDS if path.split()[-1] in LISTS and path != "router diff"])
def test_every_list_is_limited_and_sorted(path: str) -> None:
    assert {"--limit", "--sort"} <= options_of(COMMANDS[path])


@pytest.mark.parametrize("path", [path for path in COMMANDS if "--reason" in options_of(COMMANDS[path])])
def test_every_decision_can_be_tried_without_effect(path: str) -> None:
    assert "--dry-run" in options_of(COMMANDS[path])


def test_every_command_has_a_pinned_schema() -> None:
    pinned = {" ".join(entry["command"][: len(path.split())]) for path in COMMANDS for entry in PINNED.values()}
    assert set(COMMANDS) - LONG <= pinned
    assert all(re.fullmatch(r"uniroute(\.[a-z-]+){1,2}/[1-9][0-9]*", schema) for schema in PINNED)


@pytest.mark.parametrize(
    "schema", [schema for schema, pinned in PINNED.items() if "data" in pinned and "needs" not in pinned]
)
def test_json_has_the_pinned_schema_and_shape(eventful: Path, uniroute: Uniroute, schema: str) -> None:
    pinned = PINNED[schema]
    for command in pinned.get("first", []):
        assert uniroute(*command).code in (0, 3), "a refresh may wait for its review"
    ended = uniroute(*pinned["command"], "--json", "--quiet")
    content = json.loads(ended.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON number"))
    assert set(content) == {"schema", "as_of", "data", "warnings"}
    path = next(path for path in sorted(COMMANDS, key=len)[::-1] if " ".join(pinned["command"]).startswith(path))
    assert content["schema"] == schema == f"uniroute.{path.replace(' ', '.')}/{schema.rpartition('/')[2]}"
    found = list(misfits(content["data"], pinned["data"]))
    assert not found, f"{found[:5]}; the whole shape is {json.dumps(shape_of(content['data']))[:3000]}"
    assert ended.err == ""


@pytest.mark.parametrize("path", COMMANDS)
def test_a_refused_command_prints_nothing_on_standard_output_without_json(
    home: Path, uniroute: Uniroute, path: str
) -> None:
    refused = uniroute(*path.split(), "--no-such-option")
    assert (refused.code, refused.out) == (ExitCode.USAGE, "")
    error, hint = refused.err.splitlines()
    assert error.startswith("error: No such option")
    assert hint == f"next:  uniroute {path} --help"
    as_json = uniroute(*path.split(), "--no-such-option", "--json")
    assert json.loads(as_json.out) == {
        "error": {
            "kind": "usage",
            "message": error.removeprefix("error: "),
            "unchanged": "",
            "hint": hint.removeprefix("next:  "),
            "exit_code": 2,
        }
    }


def test_the_readme_has_every_exit_code_and_no_other() -> None:
    table = README[README.index("| exit code |") :].split("\n\n")[0]
    documented = [int(code) for row in table.splitlines()[2:] for code in re.findall(r"\d+", row.split("|")[1])]
    assert sorted(documented) == sorted(int(code) for code in ExitCode)


def test_the_readme_has_every_kind_of_error_and_no_other() -> None:
    listed = re.search(r"`error\.kind` is one of ([^.]+)\.", README)
    assert listed is not None
    assert sorted(re.findall(r"`([a-z_]+)`", listed[1])) == sorted(ErrorKind)


@pytest.mark.parametrize("noun", cli.list_commands(click.Context(cli)))
def test_a_bare_noun_stands_for_one_of_its_verbs(noun: str) -> None:
    command = cli.get_command(click.Context(cli), noun)
    assert not isinstance(command, click.Group) or (isinstance(command, NounGroup) and command.bare in command.commands)
