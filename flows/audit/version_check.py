"""Whether a router version is what was published and can be rebuilt: ``uniroute router verify``."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.audit.rebuilding import OriginalNight, Rebuilt, rebuild
from flows.audit.rounding import Comparison, compare_routers
from flows.audit.signatures import versions_finding
from flows.audit.version_folders import known_finding
from flows.errors import PrerequisiteError
from flows.findings import Finding, compared
from flows.text import counted
from flows.versions.provenance import (
    Provenance,
    answers_digest,
    embeddings_digest,
    kept_event,
    libraries_now,
    read_provenance,
    routed_llms,
)
from flows.versions.store import REVIEW, fetch_version, router_folder
from registry.cluster_maps import vector_digest
from registry.errors import NotFound, PublishIncomplete, RegistryCorrupt, RegistryError
from routing.artifact import load_router
from routing.errors import ArtifactError, RoutingError, UnirouteError
from routing.stored_estimator import arrays_digest

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord
    from routing.router import Router

Outcome = Literal["identical", "numerically equivalent", "different", "not rebuilt"]
_NAMED = 5


@dataclass(frozen=True)
class VersionCheck:
    """Whether a version is intact, and the result of computing it again.

    Attributes
    ----------
    findings
        One per check.
    outcome
        ``identical``: the same router to the byte; ``numerically equivalent``: equal within rounding, in expected
        errors and in decisions; ``different``; ``not rebuilt`` when something it takes is missing.
    asked_again
        LLMs that have been asked again since; the version rests on their earlier answers.
    """

    findings: tuple[Finding, ...]
    outcome: Outcome
    asked_again: tuple[str, ...]


def verify_version(workspace: Workspace, record: RouterRecord) -> VersionCheck:
    """Compare a version with everything recorded about it, and compute it again from the stored answers.

    Parameters
    ----------
    workspace
        The opened parts; nothing in them is changed.
    record
        The version's row.
    """
    findings = [_ledger(workspace)]
    provenance, found = _row(workspace, record)
    findings.append(found)
    if record.mlflow_version is not None:
        findings.append(known_finding(workspace, record))
        signed = versions_finding(workspace, [record])
        findings += [] if signed is None else [signed]
    with tempfile.TemporaryDirectory(prefix="uniroute-verify-") as scratch:
        published, in_mlflow = _in_mlflow(workspace, record, provenance, Path(scratch))
    findings += in_mlflow
    at_home, found_at_home = _at_home(workspace, record)
    findings += found_at_home
    original = published or at_home
    if original is None or provenance is None:
        missing = "the version itself" if original is None else "what it was made from"
        findings.append(Finding("rebuilding", "attention", f"not possible without {missing}"))
        return VersionCheck(tuple(findings), "not rebuilt", ())
    try:
        findings += _stored(workspace, record, original)
        findings.append(_rules(workspace, record, provenance))
        night = OriginalNight(workspace, record, provenance)
        findings += _inputs(night, record, provenance)
        outcome, found = _rebuilt(night, record, provenance, original)
        return VersionCheck((*findings, found), outcome, _asked_again(night, provenance))
    except PrerequisiteError as error:
        return VersionCheck((*findings, Finding("rebuilding", "attention", error.message)), "not rebuilt", ())
    except (UnirouteError, ValueError, IndexError) as error:
        said = error.message if isinstance(error, UnirouteError) else str(error)
        findings.append(Finding("rebuilding", "damaged", f"what it takes cannot be read: {said}"))
        return VersionCheck(tuple(findings), "not rebuilt", ())


def _ledger(workspace: Workspace) -> Finding:
    found = workspace.registry.ledger.verify()
    if found.is_intact:
        return Finding("ledger", "ok", f"{counted(found.n_events, 'event')}, unbroken chain")
    return Finding("ledger", "damaged", found.problem)


def _row(workspace: Workspace, record: RouterRecord) -> tuple[Provenance | None, Finding]:
    """Compare the registry's row with the ledger's event of its making, and read its provenance."""
    try:
        event = kept_event(workspace.registry, record.digest)
        provenance, row_digest = read_provenance(event), json.loads(event.payload_json)["row"]
    except NotFound as error:
        return None, Finding("registry row", "attention", error.message)
    except (ValueError, KeyError, TypeError) as error:
        return None, Finding("registry row", "damaged", f"the ledger's event of its making cannot be read: {error}")
    try:
        is_same = (record.row_digest(), record.created_at) == (row_digest, event.at)
    except ValueError as error:
        return provenance, Finding("registry row", "damaged", f"it cannot be read: {error}")
    lines = [] if is_same else [f"the row is not what was kept on {event.at:%Y-%m-%d} (event {event.number})"]
    return provenance, compared("registry row", lines, f"as it was kept (event {event.number} of the ledger)")


def _in_mlflow(
    workspace: Workspace, record: RouterRecord, provenance: Provenance | None, scratch: Path
) -> tuple[Router | None, list[Finding]]:
    """Download the version and compare its files, tags, parameters and metrics with what is recorded of them."""
    subject = "files in MLflow"
    if record.mlflow_version is None:
        return None, [Finding(subject, "attention", "the version is not in MLflow yet: uniroute doctor --repair")]
    try:
        downloaded = fetch_version(workspace, record, scratch / "version")
        router = load_router(downloaded.router_folder)
        lines = _file_differences(downloaded.router_folder, record)
        findings = [compared(subject, lines, "every file has the digest of ledger, registry and router")]
        code = json.loads((downloaded.folder / "artifacts" / "code" / "manifest.json").read_text(encoding="utf-8"))
        findings += _descriptions(workspace, record, provenance, code["code_digest"], scratch)
    except PublishIncomplete as error:
        return None, [Finding(subject, "unreachable", error.message)]
    except (NotFound, ArtifactError, RegistryCorrupt) as error:
        return None, [Finding(subject, "damaged", error.message)]
    return router if router.digest == record.digest else None, findings


def _file_differences(folder: Path, record: RouterRecord) -> list[str]:
    try:
        stated = dict(json.loads(record.files_json))
    except (ValueError, TypeError):
        return ["the registry's list of its files cannot be read"]
    lines = []
    for name in sorted({*stated, "router.json", "arrays.npz"}):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != stated.get(name):
            lines.append(f"{name} is not the file that the registry knows")
    digest = load_router(folder).digest
    if digest != record.digest:
        lines.append(f"it holds router {digest[:12]}, the registry says {record.digest[:12]}")
    return lines


def _descriptions(
    workspace: Workspace, record: RouterRecord, provenance: Provenance | None, code_digest: str, scratch: Path
) -> Iterator[Finding]:
    """Compare what MLflow says about the version with what was sent to it."""
    from registry.publishing import HEAD_TAG

    assert record.mlflow_version is not None, "only a published version is described"
    name = workspace.settings.mlflow.router_name
    found = workspace.publisher.describe(name, record.mlflow_version)
    fixed = {"digest": record.digest, "publish_key": record.publish_key, "embedder": record.embedder_key}
    fixed |= {"n_llms": str(len(record.llm_keys)), "code_digest": code_digest}
    fixed |= {"prompt_set": record.prompt_set_digest, "cluster_map": record.cluster_map_digest}
    sent = {} if provenance is None else provenance.sent
    tags = fixed | {key: str(value) for key, value in sent.get("tags", {}).items()}
    lines = _unlike("tag", tags, found.tags) + _unlike("tag of the run", tags, found.run_tags)
    head = found.tags.get(HEAD_TAG, "").partition(":")[2]
    if head and workspace.registry.ledger.verify(noted_heads={head: "its tag"}).problem.startswith("the head noted"):
        lines.append(f"tag {HEAD_TAG} names no event of the ledger")
    lines += _unlike("parameter", sent.get("params", {}), found.params)
    lines += _unlike("metric", sent.get("metrics", {}), found.metrics)
    texts = {"description": found.description, "note of the run": found.run_tags.get("mlflow.note.content", "")}
    for what, text in texts.items():
        if "description" in sent and hashlib.sha256(text.encode()).hexdigest() != sent["description"]:
            lines.append(f"the {what} was changed")
    if record.mlflow_run_id != found.run_id:
        lines.append(f"the registry names run {record.mlflow_run_id}, MLflow run {found.run_id}")
    yield compared(
        "tags and figures in MLflow", lines + _figures(workspace, found.run_id, sent, scratch), "as published"
    )
    yield from _report(workspace, record, found.run_id, scratch)


def _figures(workspace: Workspace, run_id: str, sent: dict, scratch: Path) -> list[str]:
    wanted = sent.get("figures", {})
    folder = workspace.publisher.download_of_run(run_id, "figures", scratch) if wanted else None
    lines = []
    for name, digest in wanted.items():
        path = None if folder is None else folder / name
        if path is None or not path.is_file():
            lines.append(f"the figure {name} is gone")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            lines.append(f"the figure {name} was changed")
    return lines


def _report(workspace: Workspace, record: RouterRecord, run_id: str, scratch: Path) -> Iterator[Finding]:
    """Compare the report in MLflow with those that reviewers saw; yields nothing when none was kept."""
    promotions = workspace.registry.promotions.list()
    known = {one.report_digest for one in promotions if one.router_digest == record.digest} - {None}
    path = workspace.publisher.download_of_run(run_id, REVIEW[0], scratch) if known else None
    if path is not None:
        is_known = hashlib.sha256(path.read_bytes()).hexdigest() in known
        lines = [] if is_known else ["it is not the report that the reviewer saw"]
        yield compared("report in MLflow", lines, "the report that the reviewer saw")


def _unlike(what: str, wanted: dict, found: dict) -> list[str]:
    from registry.publishing import one_line

    lines = []
    for name, value in wanted.items():
        expected = one_line(value, 6000) if isinstance(value, str) else value
        if found.get(name) != expected:
            lines.append(f"{what} {name} is {found.get(name)!r} instead of {expected!r}")
    return lines


def _at_home(workspace: Workspace, record: RouterRecord) -> tuple[Router | None, list[Finding]]:
    folder = router_folder(workspace, record.digest)
    if not folder.is_dir():
        return None, []
    try:
        lines = _file_differences(folder, record)
        router = load_router(folder)
    except (ArtifactError, OSError) as error:
        return None, [Finding("files in the home folder", "damaged", str(error))]
    found = compared("files in the home folder", lines, "every file has the digest of registry and router")
    return None if lines else router, [found]


def _stored(workspace: Workspace, record: RouterRecord, original: Router) -> Iterator[Finding]:
    """Compare the stored cluster map and feature vectors with their digests and with the version."""
    routers = workspace.registry.routers
    subject = "cluster map and prior"
    try:
        stored = routers.cluster_map(record.cluster_map_digest)
        lines = [] if arrays_digest(stored.kind, stored.arrays) == stored.digest else ["the stored arrays were changed"]
    except (RegistryError, ValueError) as error:
        lines = [f"the stored arrays cannot be read: {error}"]
    yield compared(subject, lines, "the stored arrays have their digest")
    lines = []
    for llm in original.llms:
        wanted = vector_digest(llm.vector, record.prompt_set_digest)
        try:
            history = routers.vector_history(record.cluster_map_digest, llm.key)
            same = [one for one in history if one.digest == wanted]
            is_intact = any(vector_digest(one, one.prompt_set_digest) == wanted for one in same)
        except (RegistryError, ValueError):
            same, is_intact = [None], False
        if not same:
            lines.append(f"no stored vector of {llm.key} is the one of this version")
        elif not is_intact:
            lines.append(f"the stored vector of {llm.key} was changed")
    yield compared(
        "stored feature vectors", lines, f"they equal the version's for {counted(len(original.llms), 'LLM')}"
    )


def _inputs(night: OriginalNight, record: RouterRecord, provenance: Provenance) -> Iterator[Finding]:
    """Compare prompts, embeddings and answers with what they were when the version was made."""
    lines = [] if night.prompt_set.is_whole else ["texts, order or roles are not those of its digest"]
    yield compared(
        "prompt set", lines, f"{counted(len(night.prompt_set.prompts), 'prompt')}, with the digest of the set"
    )
    digest = embeddings_digest(night.registry, night.prompt_set, record.embedder_key)
    lines = [] if digest == provenance.embeddings else ["they are not those of that night"]
    yield compared("embeddings", lines, "those of that night")
    llms = routed_llms(night.registry, provenance)
    table = night.outcome_table(llms, night.prompts_of_all_roles)
    changed = [
        llm.key
        for column, llm in enumerate(llms)
        if answers_digest(table, column) != provenance.answers[llm.key].digest
    ]
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    lines = [f"the answers of {', '.join(changed[:_NAMED])}{more} are not those of that night"] if changed else []
    yield compared("answers", lines, f"those of that night, of {counted(len(llms), 'LLM')}")


def _rebuilt(
    night: OriginalNight, record: RouterRecord, provenance: Provenance, original: Router
) -> tuple[Outcome, Finding]:
    """Compute the version again, and compare."""
    subject = "rebuilding"
    try:
        again = rebuild(night, provenance, original, record.cluster_map_digest)
    except RoutingError as error:
        return "not rebuilt", Finding(subject, "damaged", f"it cannot be computed again: {error.message}")
    if again.router.digest == original.digest:
        fitted = "cluster map, prior and vectors" if provenance.map_was_fitted else "vectors"
        return "identical", Finding(subject, "ok", f"identical: {fitted} computed again give the same bytes")
    prompts = {role: night.embeddings_of(night.prompt_set.with_role(role)) for role in ("gate", "representative")}
    compared_with = compare_routers(original, again.router, prompts)
    if not compared_with.lines:
        return "numerically equivalent", Finding(subject, "ok", _equivalent(again, compared_with, len(prompts["gate"])))
    lines = list(compared_with.lines)
    now = libraries_now()
    other = [
        f"{name} {version} (here {now.get(name)})"
        for name, version in provenance.libraries.items()
        if now.get(name) != version
    ]
    if again.has_other_map:
        lines.append("the cluster map fitted here is another one")
        on_stored = rebuild(night, replace(provenance, map_was_fitted=False), original, record.cluster_map_digest)
        if not compare_routers(original, on_stored.router, prompts).lines:
            lines[-1] += "; on the stored map everything is equal within rounding"
            if not {"kernel", "threads"} <= provenance.libraries.keys():
                other.append("an unrecorded processor")
    if other:
        # Its inputs are compared digest by digest: running other code does not mean that the version was changed.
        said = f"it was computed with {', '.join(other)}; here {'; '.join(lines)}"
        return "different", Finding(subject, "attention", said)
    return "different", compared(subject, lines, "")


def _equivalent(again: Rebuilt, found: Comparison, n_gate: int) -> str:
    """Say what equal within rounding means for this version."""
    said = f"numerically equivalent: no decision on {counted(n_gate, 'gate prompt')} changed"
    if found.n_tied:
        said = f"numerically equivalent: {counted(found.n_tied, 'decision')} changed, each between LLMs that are tied"
    said += f"; expected errors differ by at most {found.largest:.2g}"
    return f"{said}; the cluster map fitted here has other last digits" if again.has_other_map else said


def _rules(workspace: Workspace, record: RouterRecord, provenance: Provenance) -> Finding:
    """Compare the settings kept with the run with their hash, and the run with what was sent to MLflow."""
    run = workspace.registry.runs.get(record.run_id)
    digest = hashlib.sha256(run.settings_json.encode()).hexdigest()
    lines = [] if digest == run.settings_hash else ["the settings of the run are not those of its hash"]
    sent = provenance.sent["params"]
    facts = {"settings": run.settings_hash, "run_key": run.key, "as_of": run.as_of.isoformat()}
    lines += [
        f"the run has {name} {value}, MLflow received {sent[name]}"
        for name, value in facts.items()
        if sent[name] != value
    ]
    return compared("rules of the run", lines, f"the settings of {run.key} have their hash")


def _asked_again(night: OriginalNight, provenance: Provenance) -> tuple[str, ...]:
    """Return the LLMs that have been asked again since, or of which more answers have arrived."""
    llms = routed_llms(night.registry, provenance)
    keys, prompts = [llm.key for llm in llms], night.prompts_of_all_roles
    sampling = {llm.key: night.counted_sampling(llm) for llm in llms}
    now = night.registry.outcomes.table(keys, prompts, night.grader_versions, sampling)
    then = night.outcome_table(llms, prompts)
    drifts = night.drifts.all()
    found = []
    for column, llm in enumerate(llms):
        drift = drifts.get(llm.key)
        epoch = None if drift is None or drift.counted_epoch is None else drift.counted_epoch.isoformat()
        is_later = epoch is not None and json.loads(sampling[llm.key]).get("epoch") != epoch
        if is_later or answers_digest(now, column) != answers_digest(then, column):
            found.append(llm.key)
    return tuple(found)
