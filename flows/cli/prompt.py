"""``uniroute prompt``: the prompts that LLMs are profiled on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_routers
from flows.cli.endings import ExitCode
from flows.cli.options import NounGroup, arranged, config_option, dry_run_option, json_option, list_options, opened
from flows.cli.screen import show
from flows.text import counted, sanitize, table

if TYPE_CHECKING:
    from flows.checks.prompts import PromptReview

_ROLES = ("map", "representative", "gate", "hidden")


@click.group("prompt", cls=NounGroup)
def prompt() -> None:
    """List, check and add the prompts that LLMs are profiled on; without a command, list them."""


@prompt.command("list")
@click.option("--role", type=click.Choice(_ROLES), help="Only prompts with this role.")
@list_options("prompt_id", "role", "category", "grader", "rank", limit=20)
@config_option
@json_option
def list_prompts(role: str | None, limit: int, sort: str | None, config: str | None, as_json: bool) -> None:
    """List the prompts of the settings with their roles.

    RANK is the place in the order in which LLMs are asked prompts of a role, once there is one, and WHY says what put
    a prompt there; (not asked) marks those that new LLMs are not asked. The last lines say how many they are asked,
    and what the simulation expects of each order. Without settings, these are the sandbox's prompts.
    """
    from flows.checks.prompts import orders_in_force
    from flows.config.loading import load_settings
    from flows.reports.asking import choice_lines, reason_of

    found = _configured(config).prompt_set
    orders = orders_in_force(load_settings(config), found)
    ranks = {
        digest: (rank, reason_of(one.order, rank, one.n_asked))
        for one in orders
        for rank, digest in enumerate(one.order.prompt_digests, start=1)
    }
    nowhere = (None, None)
    rows = [
        {
            "prompt_id": member.prompt.prompt_id,
            "role": member.role,
            "category": member.prompt.category,
            "grader": member.prompt.grader,
            "digest": member.prompt.digest,
            "text": member.prompt.text,
            "rank": ranks.get(member.prompt.digest, nowhere)[0],
            "reason": ranks.get(member.prompt.digest, nowhere)[1],
        }
        for member in found.members
        if role in (None, member.role)
    ]
    data = arranged(rows, sort, limit)

    def text() -> str:
        lines = [_prompt_table(data), f"{len(data)} of {counted(len(rows), 'prompt')}"]
        shown = (one for one in orders if role in (None, one.order.role))
        return "\n".join(lines + [line for one in shown for line in choice_lines(one.order, one.n_asked)])

    show("prompt.list", data, as_json=as_json, text=text)


def _prompt_table(data: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["prompt_id"],
            row["role"],
            row["rank"] or "",
            row["reason"] or "",
            row["category"] or "",
            row["grader"],
            sanitize(row["text"], width=60),
        ]
        for row in data
    ]
    return table(["PROMPT", "ROLE", "RANK", "WHY", "CATEGORY", "GRADER", "TEXT"], cells, right=(2,))


def _configured(config: str | None) -> PromptReview:
    from flows.checks.prompts import review
    from flows.config.loading import load_settings
    from flows.prompt_file import read_prompts
    from flows.sandbox import Sandbox

    settings = load_settings(config)
    file = settings.prompts.file
    return review(settings, Sandbox.night_prompts() if file is None else read_prompts(file))


@prompt.command("check")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@config_option
@json_option
def check(file: str | None, config: str | None, as_json: bool) -> int:
    """Check the prompts of FILE, or those of the settings.

    They must be complete and gradable; duplicates are reported. The design is judged as well: what the gate can see
    with so many prompts, and whether a night would start. If it is too weak, the exit code is 3. No LLM is called.
    """
    from flows.checks.prompts import review
    from flows.config.loading import load_settings
    from flows.prompt_file import read_prompts

    found = _configured(config) if file is None else review(load_settings(config), read_prompts(Path(file)))
    data = _review_data(found)
    show("prompt.check", data, as_json=as_json, text=lambda: "\n".join([found.design.verdict, *_lines(data)]))
    return ExitCode.DONE if found.design.is_sound else ExitCode.ATTENTION


def _review_data(found: PromptReview) -> dict[str, Any]:
    return {
        "prompt_set": found.prompt_set.digest,
        "prompts": len(found.prompt_set.members),
        "roles": found.roles,
        "graders": found.graders,
        "categories": found.categories,
        "duplicates": found.duplicates,
        "design": {
            "is_sound": found.design.is_sound,
            "visible_difference": found.design.visible_difference,
            "epsilon": found.design.epsilon,
            "gate_needed": found.design.gate_needed,
            "prompts_needed": found.design.prompts_needed,
            "shortfalls": found.design.shortfalls,
            "weaknesses": found.design.weaknesses,
            "figures": found.design.figures,
        },
    }


def _lines(data: dict[str, Any]) -> list[str]:
    named = {"roles": "role", "graders": "grader", "categories": "category"}
    lines = [f"prompt set {data['prompt_set'][:12]}: {counted(data['prompts'], 'prompt')}"]
    for field, title in named.items():
        counts = sorted(data[field].items(), key=lambda entry: (-entry[1], entry[0]))[:12]
        lines.append(f"by {title}: " + ", ".join(f"{sanitize(name) or '(none)'} {count}" for name, count in counts))
    if data["duplicates"]:
        shown = ", ".join(sanitize(name, width=40) for name in data["duplicates"][:8])
        repeated = counted(len(data["duplicates"]), "duplicate")
        lines.append(f"{repeated} of earlier prompts, not counted: {shown}")
    lines.append(f"design: {data['design']['figures']}")
    return lines


@prompt.command("add")
@click.argument("file", type=click.Path(dir_okay=False))
@dry_run_option
@config_option
@json_option
def add(file: str, is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Add the prompts of FILE to the prompt file of the settings.

    Prompts that are already in it are left as they are.
    """
    from flows.checks.prompts import add_prompts
    from flows.config.loading import load_settings

    found = add_prompts(load_settings(config), Path(file), is_dry_run=is_dry_run)
    data = _review_data(found.review) | {
        "file": found.file,
        "added": [one.prompt_id for one in found.added],
        "known": found.known,
        "moved": found.moved,
        "is_dry_run": is_dry_run,
    }

    def text() -> str:
        verb = "Would add" if is_dry_run else "Added"
        lines = [
            f"{verb} {counted(len(found.added), 'prompt')} to {sanitize(found.file, width=300)}; "
            f"{found.known} were already there."
        ]
        if found.added:
            kept = "No earlier prompt changes its role."
            if found.moved:
                kept = (
                    f"Roles change for {counted(found.moved, 'earlier prompt')}, because the shares or the seed have."
                )
            lines += [
                f"{kept} The next night fits a new cluster map and asks",
                "every LLM the prompts it has not answered. See what that costs: uniroute night run --plan",
            ]
        return "\n".join([*lines, *_lines(data)])

    show("prompt.add", data, as_json=as_json, text=text)


@prompt.command("example")
@click.argument("cluster", type=int)
@click.option(
    "--router",
    "name",
    default="champion",
    show_default=True,
    shell_complete=complete_routers,
    help="Router version: number, alias or digest.",
)
@click.option("--limit", default=5, show_default=True, type=click.IntRange(min=1), help="Show at most this many.")
@config_option
@json_option
def example(cluster: int, name: str, limit: int, config: str | None, as_json: bool) -> None:
    """Show the prompts nearest to the centre of a cluster.

    CLUSTER is the number that decisions name.
    """
    from flows.checks.prompts import nearest_prompts
    from flows.versions.store import find_router

    with opened(config) as workspace:
        record = find_router(workspace.registry, name)
        found = nearest_prompts(workspace, record, cluster, limit)
    rows = [
        {
            "rank": one.rank,
            "prompt_id": one.prompt.prompt_id,
            "role": one.role,
            "category": one.prompt.category,
            "text": one.prompt.text,
        }
        for one in found
    ]
    data = {"router": record.digest, "router_version": record.mlflow_version, "cluster": cluster, "prompts": rows}

    def text() -> str:
        if not rows:
            return f"No prompt of the router's prompt set lies in cluster {cluster}."
        return "\n".join(
            f"{row['rank']}. {sanitize(row['prompt_id'])} ({row['role']}"
            f"{', ' + sanitize(row['category']) if row['category'] else ''})\n   {sanitize(row['text'], width=300)}"
            for row in rows
        )

    show("prompt.example", data, as_json=as_json, text=text)
