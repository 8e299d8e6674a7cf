"""Whether everything that was kept is still what it was: ``uniroute audit verify``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.audit.earlier import EarlierExport, export_finding, head_finding
from flows.audit.facts import coverage, facts_findings
from flows.audit.replay import disagreements
from flows.audit.signatures import heads_finding, versions_finding
from flows.audit.version_folders import folders_finding
from flows.findings import Finding, compared
from flows.text import counted
from flows.versions.provenance import Provenance, known_provenance
from flows.versions.store import publication_folder, read_publication, router_folder
from registry.errors import PublishIncomplete, RegistryBusy, RegistryError
from registry.routers import KEPT
from routing.artifact import load_router
from routing.errors import ArtifactError

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.ledger import LedgerEvent
    from registry.routers import RouterRecord
    from registry.store import Registry

LEDGER = "ledger"
ALIASES = "aliases and promotions"
UNREADABLE = "rows and events"
_PAGES = "review*.html"


@dataclass(frozen=True)
class Verification:
    """What was found, and in one line what it covers."""

    findings: tuple[Finding, ...]
    covers: str


def verify_everything(
    workspace: Workspace, *, head: str | None = None, export: EarlierExport | None = None
) -> Verification:
    """Check the ledger, what rests on it, and everything of which it or the registry knows a digest.

    Of versions in MLflow every file is checked; their tags, parameters and metrics are by ``router verify``, version by
    version.

    Parameters
    ----------
    workspace
        The opened parts; nothing in them is changed.
    head, export
        An earlier head of the ledger, and an earlier export of it, to compare it with.
    """
    found = verify_registry(workspace.registry, head=head, export=export)
    findings = list(found.findings)
    if not any(one.subject == LEDGER and one.severity == "damaged" for one in findings):
        findings.append(_noted_heads(workspace))
    if UNREADABLE in {one.subject for one in findings}:
        return Verification(tuple(findings), found.covers)
    records = workspace.registry.routers.list()
    findings.append(folders_finding(workspace, records))
    findings += [one for one in (versions_finding(workspace, records), heads_finding(workspace)) if one is not None]
    findings.append(_folders(workspace, records))
    findings.append(_publications(workspace, records))
    findings.append(_reports(workspace))
    return Verification(tuple(findings), found.covers)


def verify_registry(
    registry: Registry, *, head: str | None = None, export: EarlierExport | None = None
) -> Verification:
    """Check what needs nothing but the registry's database; see `verify_everything`."""
    edited = [f"migration {name} is not the one that was applied" for name in registry.schema_status().changed]
    damages = [*registry.damages(), *edited]
    findings = [compared("database", damages, "every page and every reference is intact")]
    chain = registry.ledger.verify()
    intact = f"{counted(chain.n_events, 'event')}, unbroken chain"
    findings.append(compared(LEDGER, [chain.problem] if chain.problem else [], intact))
    check = None
    try:
        events = registry.ledger.events()
        findings += [] if head is None else [head_finding(head, events)]
        findings += [] if export is None else [export_finding(export, events)]
        if chain.is_intact:
            check = registry.check_facts(events)
            findings += facts_findings(check)
        records = registry.routers.list()
        kept = {event.subject: event for event in events if event.event == KEPT}
        findings.append(_rows(records, kept))
        findings.append(compared(ALIASES, disagreements(registry, events), "they are what the ledger says"))
    except RegistryBusy:
        raise
    except (RegistryError, ValueError, KeyError, TypeError, AttributeError) as error:
        findings.append(Finding(UNREADABLE, "damaged", f"rows or events cannot be read: {error}"))
        return Verification(tuple(findings), coverage(chain.n_events, 0, check))
    return Verification(tuple(findings), coverage(chain.n_events, len(records), check))


def _noted_heads(workspace: Workspace) -> Finding:
    """Check that the ledger's heads noted in MLflow are part of its chain."""
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
            lines.append(f"the row of router {record.digest[:12]} is not what was kept (event {event.number})")
    lines += [f"the row of router {digest[:12]} is gone" for digest in kept]
    return compared("rows of router versions", lines, f"{n_known} of {len(records)} known to the ledger and intact")


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
    return compared("router folders", lines, f"{n_here} of {len(records)} on this machine, intact")


def _publications(workspace: Workspace, records: Sequence[RouterRecord]) -> Finding:
    """Compare the publications kept beside the versions with what the ledger knows of them."""
    lines, n_here = [], 0
    for record in records:
        provenance = known_provenance(workspace.registry, record.digest)
        folder = publication_folder(workspace, record.digest)
        if provenance is None or not folder.is_dir():
            continue
        n_here += 1
        lines += [f"{folder.name[:12]}: {line}" for line in _publication_differences(workspace, record, provenance)]
    return compared("publications", lines, f"{n_here} on this machine, intact")


def _publication_differences(workspace: Workspace, record: RouterRecord, provenance: Provenance) -> list[str]:
    from registry.publishing import markdown

    lines = []
    folder = publication_folder(workspace, record.digest)
    try:
        found = read_publication(workspace, record.digest)
    except (OSError, ValueError, TypeError):
        return ["the publication cannot be read"]
    current = {
        "tags": dict(found.tags),
        "params": {name: str(value) for name, value in found.params.items()},
        "metrics": dict(found.metrics),
        "description": hashlib.sha256(markdown(found.description).encode()).hexdigest(),
    }
    lines += [f"the {name} to be published were changed" for name in current if current[name] != provenance.sent[name]]
    for name, digest in provenance.sent["figures"].items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            lines.append(f"the figure {name} is gone or was changed")
    return lines


def _reports(workspace: Workspace) -> Finding:
    """Check that the report each reviewer saw is among those kept beside the version."""
    wanted = [one for one in workspace.registry.promotions.list() if one.report_digest is not None]
    lines, n_here = [], 0
    for one in wanted:
        pages = list(publication_folder(workspace, one.router_digest).glob(_PAGES))
        n_here += bool(pages)
        if pages and one.report_digest not in {hashlib.sha256(page.read_bytes()).hexdigest() for page in pages}:
            lines.append(f"the report of promotion {one.id} is not the one that the reviewer saw")
    return compared("reports", lines, f"{n_here} of {len(wanted)} on this machine, intact")
