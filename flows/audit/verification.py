"""Is everything that was kept still what it was: ``uniroute audit verify``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.audit.replay import disagreements
from flows.findings import Finding, compared
from flows.versions.provenance import Provenance, known_evidence
from flows.versions.store import publication_folder, read_publication, router_folder
from registry.errors import PublishIncomplete, RegistryError
from registry.routers import KEPT
from routing.artifact import load_router
from routing.errors import ArtifactError

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.ledger import LedgerEvent
    from registry.routers import RouterRecord

_PAGES = "review*.html"


def verify_everything(workspace: Workspace) -> tuple[Finding, ...]:
    """Look at the ledger, at what rests on it, and at everything of which it or the registry knows a digest.

    Files and tags of a version in MLflow are looked at by ``router verify``, version by version.

    Parameters
    ----------
    workspace
        The opened parts; nothing in them is changed.
    """
    registry = workspace.registry
    damages = registry.damages()
    findings = [compared("database", damages, "every page and every reference is whole")]
    chain = registry.ledger.verify()
    findings.append(
        compared("ledger", [chain.problem] if chain.problem else [], f"{chain.n_events} events, unbroken chain")
    )
    if chain.is_intact:
        findings.append(_noted_heads(workspace))
    try:
        events, records = registry.ledger.events(), registry.routers.list()
        findings.append(
            compared("aliases and promotions", disagreements(registry, events), "they are what the ledger says")
        )
    except (RegistryError, ValueError, KeyError, TypeError, AttributeError) as error:
        findings.append(Finding("aliases and promotions", "damaged", f"rows or events cannot be read: {error}"))
        return tuple(findings)
    kept = {event.subject: event for event in events if event.event == KEPT}
    findings.append(_rows(records, kept))
    findings.append(_folders(workspace, records))
    findings.append(_publications(workspace, records))
    findings.append(_reports(workspace))
    return tuple(findings)


def _noted_heads(workspace: Workspace) -> Finding:
    """Look for the heads of the ledger that were noted in MLflow."""
    subject = "ledger heads noted in MLflow"
    try:
        noted = workspace.publisher.noted_ledger_heads(workspace.settings.mlflow.router_name)
    except PublishIncomplete as error:
        return Finding(subject, "unreachable", error.message)
    problem = workspace.registry.ledger.verify(noted_heads=noted).problem
    return compared(subject, [problem] if problem else [], f"{len(noted)}, each part of the chain")


def _rows(records: Sequence[RouterRecord], kept: dict[str, LedgerEvent]) -> Finding:
    """Compare the rows of versions with the ledger's events of their making."""
    lines, n_known = [], 0
    for record in records:
        event = kept.pop(record.digest, None)
        if event is None:
            continue
        n_known += 1
        facts = (json.loads(event.payload_json)["row"], event.at)
        if (record.row_digest(), record.created_at) != facts:
            lines.append(f"the row of router {record.digest[:12]} is not the one that was kept (event {event.number})")
    lines += [f"the row of router {digest[:12]} is gone" for digest in kept]
    return compared(
        "rows of router versions", lines, f"{n_known} of {len(records)} are known to the ledger, and intact"
    )


def _folders(workspace: Workspace, records: Sequence[RouterRecord]) -> Finding:
    lines, n_here = [], 0
    for record in records:
        folder = router_folder(workspace, record.digest)
        if not folder.is_dir():
            continue
        n_here += 1
        try:
            digest = load_router(folder).digest
        except ArtifactError as error:
            lines.append(error.message)
            continue
        if digest != record.digest:
            lines.append(f"the folder of router {record.digest[:12]} holds router {digest[:12]}")
    return compared("router folders", lines, f"{n_here} of {len(records)} are on this machine, and intact")


def _publications(workspace: Workspace, records: Sequence[RouterRecord]) -> Finding:
    """Compare what is kept beside the versions, to be published again, with what the ledger knows of it."""
    lines, n_here = [], 0
    for record in records:
        evidence = known_evidence(workspace.registry, record.digest)
        folder = publication_folder(workspace, record.digest)
        if evidence is None or not folder.is_dir():
            continue
        n_here += 1
        lines += [f"{folder.name[:12]}: {line}" for line in _publication_differences(workspace, record, evidence)]
    return compared("publications", lines, f"{n_here} are on this machine, and intact")


def _publication_differences(workspace: Workspace, record: RouterRecord, evidence: Provenance) -> list[str]:
    from registry.publishing import markdown

    lines = []
    folder = publication_folder(workspace, record.digest)
    try:
        found = read_publication(workspace, record.digest)
    except (OSError, ValueError, TypeError):
        return ["what is to be published cannot be read"]
    told = {
        "tags": dict(found.tags),
        "params": {name: str(value) for name, value in found.params.items()},
        "metrics": dict(found.metrics),
        "description": hashlib.sha256(markdown(found.description).encode()).hexdigest(),
    }
    lines += [f"the {name} to be published were changed" for name in told if told[name] != evidence.told[name]]
    for name, digest in evidence.told["figures"].items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            lines.append(f"the figure {name} is gone or was changed")
    return lines


def _reports(workspace: Workspace) -> Finding:
    """Look for the very report that each reviewer saw among those that are kept beside the version."""
    wanted = [one for one in workspace.registry.promotions.list() if one.report_digest is not None]
    lines, n_here = [], 0
    for one in wanted:
        pages = list(publication_folder(workspace, one.router_digest).glob(_PAGES))
        n_here += bool(pages)
        if pages and one.report_digest not in {hashlib.sha256(page.read_bytes()).hexdigest() for page in pages}:
            lines.append(f"the report of promotion {one.id} is not the one that the reviewer saw")
    return compared("reports", lines, f"{n_here} of {len(wanted)} are on this machine, and intact")
