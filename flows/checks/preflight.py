"""What must hold before a night starts: checked in a second, before Prefect is started or anything is called."""

from __future__ import annotations

from flows.config.loading import read_key
from flows.errors import PrerequisiteError
from flows.graders import Judge, grader, grader_name
from flows.workspace import Workspace


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
    _refuse_older_graders(workspace, names - {Judge.name})
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


def _refuse_older_graders(workspace: Workspace, names: set[str]) -> None:
    """Refuse to ask everything again for a grader that newer code, on the same registry, has left behind.

    Raises
    ------
    PrerequisiteError
        The registry holds answers that a newer version of a grader scored.
    """
    known = [label.partition("/") for label in workspace.registry.outcomes.graders()]
    for name in sorted(names):
        ours = grader(name)
        newest = max((int(version) for other, _, version in known if other == name and version.isdecimal()), default=0)
        if newest > int(ours.version):
            raise PrerequisiteError(
                f"This version of uniroute grades with {ours.label}, and a newer one has graded with {name}/{newest} "
                f"into {workspace.registry.name}.",
                unchanged="Nothing was called.",
                hint="Install the newer version of uniroute, or name a registry of its own in [registry] url.",
            )
