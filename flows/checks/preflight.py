"""What must hold before a night starts, checked within a second, before Prefect starts or anything is called."""

from __future__ import annotations

from flows.config.loading import read_key
from flows.errors import PrerequisiteError
from flows.graders import Judge, grader, grader_name
from flows.text import counted
from flows.workspace import Workspace


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
    prompt_set = workspace.prompt_set
    names = {grader_name(prompt.grader) for prompt in prompt_set.prompts}
    if Judge.name in names and not workspace.settings.judge.llm:
        raise PrerequisiteError(
            "Prompts name the grader judge, but no LLM is named as the judge.",
            unchanged="Nothing was called.",
            hint='Set [judge] llm = "ENDPOINT:LLM", or name another grader in the prompts.',
        )
    _refuse_older_graders(workspace, names - {Judge.name})
    n_clusters = workspace.settings.routing.n_clusters
    counts = {role: len(prompt_set.with_role(role)) for role in ("map", "representative")}
    if min(counts.values()) < n_clusters:
        raise PrerequisiteError(
            f"{counted(counts['map'], 'map prompt')} and {counted(counts['representative'], 'representative prompt')} "
            f"are too few for {counted(n_clusters, 'cluster')} ([routing] n_clusters).",
            unchanged="Nothing was called.",
            hint="Add prompts, or lower [routing] n_clusters.",
        )
    if not prompt_set.with_role("gate"):
        raise PrerequisiteError(
            "There is no gate prompt, so no router could be measured.",
            unchanged="Nothing was called.",
            hint="Add prompts, or raise [prompts] gate.",
        )
    _ = workspace.embedder.id
    for endpoint in workspace.settings.endpoint:
        read_key(endpoint)
        workspace.open_endpoint(endpoint)
    if not workspace.settings.is_sandbox:
        workspace.catalogs()


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
