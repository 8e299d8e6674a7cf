"""What must hold before a night starts, checked within a second, before Prefect starts or anything is called."""

from __future__ import annotations

from flows.checks.design import shortfalls
from flows.errors import PrerequisiteError
from flows.graders import Judge, grader, grader_name
from flows.workspace import Workspace
from registry.prompts import PromptSet


def check(workspace: Workspace) -> None:
    """Open everything that the night needs: registry, prompts, graders, embedder, keys.

    Parameters
    ----------
    workspace
        The parts; opened here and then used by the night.

    Raises
    ------
    UnirouteError
        The first thing that is missing, with what to type next.
    """
    check_prompts(workspace, workspace.prompt_set)
    for endpoint in workspace.settings.endpoint:
        workspace.open_endpoint(endpoint)
    if not workspace.settings.is_sandbox:
        workspace.catalogs()


def check_prompts(workspace: Workspace, prompt_set: PromptSet) -> None:
    """Check the prompts, their graders and the embedder, as `check` does.

    Raises
    ------
    UnirouteError
        The first thing that is missing, with what to type next.
    """
    names = {grader_name(prompt.grader) for prompt in prompt_set.prompts}
    if Judge.name in names and not workspace.settings.judge.llm:
        raise PrerequisiteError(
            "Prompts name the grader judge, but no LLM is named as the judge.",
            unchanged="Nothing was called.",
            hint='Set [judge] llm = "ENDPOINT:LLM", or name another grader in the prompts.',
        )
    _refuse_older_graders(workspace, names - {Judge.name})
    lacking = next(shortfalls(prompt_set, workspace.settings), None)
    if lacking is not None:
        raise PrerequisiteError(
            f"{lacking[:1].upper()}{lacking[1:]}.",
            unchanged="Nothing was called.",
            hint="Add prompts, lower [routing] n_clusters, or raise the shares of [prompts]: uniroute prompt check",
        )
    _ = workspace.embedder.id


def _refuse_older_graders(workspace: Workspace, names: set[str]) -> None:
    """Refuse a grader older than one on the same registry: every prompt would be asked again.

    Raises
    ------
    PrerequisiteError
        The registry has answers that a newer version of a grader scored.
    """
    known = [label.partition("/") for label in workspace.registry.outcomes.graders()]
    for name in sorted(names):
        ours = grader(name)
        newest = max((int(version) for other, _, version in known if other == name and version.isdecimal()), default=0)
        if newest > int(ours.version):
            raise PrerequisiteError(
                f"This version of uniroute grades with {ours.label}, but {workspace.registry.name} already has scores "
                f"of {name}/{newest}.",
                unchanged="Nothing was called.",
                hint="Install the newer version of uniroute, or set [registry] url to another registry.",
            )
