"""What must hold before a night starts: checked in a second, before Prefect is started or anything is called."""

from __future__ import annotations

from flows.errors import PrerequisiteError
from flows.graders import Judge, grader_name
from flows.workspace import Workspace, read_key


def check(workspace: Workspace) -> None:
    """Open what the night will need: registry, prompts, graders, embedder, keys.

    Parameters
    ----------
    workspace
        The parts; opened here and used by the night afterwards.

    Raises
    ------
    UnirouteError
        The first thing that is missing, with what to type next.
    """
    prompt_set = workspace.prompt_set
    names = {grader_name(prompt.grader) for prompt in prompt_set.prompts}
    if Judge.name in names and not workspace.settings.judge.llm:
        raise PrerequisiteError(
            "Prompts name the grader judge, but no LLM is named to judge.",
            unchanged="Nothing was called.",
            hint='Set [judge] llm = "ENDPOINT:LLM", or name another grader in the prompts.',
        )
    wanted = workspace.settings.routing.n_clusters
    counts = {role: len(prompt_set.with_role(role)) for role in ("map", "representative")}
    if min(counts.values()) < wanted:
        raise PrerequisiteError(
            f"{counts['map']} map prompts and {counts['representative']} representative prompts are fewer than "
            f"the {wanted} clusters of [routing] n_clusters.",
            unchanged="Nothing was called.",
            hint="Give more prompts, or set [routing] n_clusters lower.",
        )
    if not prompt_set.with_role("gate"):
        raise PrerequisiteError(
            "There is no gate prompt, so no router could be measured.",
            unchanged="Nothing was called.",
            hint="Give more prompts, or raise [prompts] gate.",
        )
    _ = workspace.embedder.id
    for endpoint in workspace.settings.endpoint:
        read_key(endpoint)
        workspace.open_endpoint(endpoint)
    if not workspace.settings.is_sandbox:
        workspace.catalogs()
