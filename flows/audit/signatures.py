"""Whether keys vouch for router versions and for the ledger: a finding of ``audit verify`` and ``router verify``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.findings import Finding
from flows.text import counted
from flows.versions.signing import head_of, problem_of_version, since_when, trusted_keys
from registry.errors import PublishIncomplete, RegistryCorrupt
from registry.publishing.trust import INSTALL, SigningNotInstalled, Untrusted
from registry.routers import BUILT

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.publishing.trust import PublicKey
    from registry.routers import RouterRecord

_NOT_SIGNED = "it is not signed"


def versions_finding(workspace: Workspace, records: Sequence[RouterRecord]) -> Finding | None:
    """Check the signatures of published versions; None when no key is listed.

    One that is not signed counts as changed when `[signing] require` is set and it was made since the first key; else
    it is unknown, and named.
    """
    subject, keys = "signatures of versions", trusted_keys(workspace.settings)
    if not keys:
        return None
    changed, unsigned, n_signed = [], [], 0
    since, must = since_when(keys), workspace.settings.signing.require
    try:
        for record in records:
            if record.mlflow_version is None:
                continue
            try:
                problem = problem_of_version(record, workspace.registry.routers.known_folder(record), keys)
            except RegistryCorrupt as error:
                problem = error.message
            if not problem:
                n_signed += 1
            elif problem == _NOT_SIGNED and not (must and record.created_at >= since):
                unsigned.append(str(record.mlflow_version))
            else:
                changed.append(f"version {record.mlflow_version}: {problem}")
    except SigningNotInstalled as error:
        return Finding(subject, "attention", str(error), INSTALL)
    signed = f"{counted(n_signed, 'version')} signed"
    if changed:
        return Finding(subject, "damaged", "; ".join(changed))
    if unsigned:
        return Finding(subject, "attention", f"{signed}; not signed: {', '.join(unsigned)}")
    return Finding(subject, "ok", signed)


def heads_finding(workspace: Workspace) -> Finding | None:
    """Check the signed heads of the ledger, here and in MLflow; None when no key is listed."""
    subject, keys = "signed ledger heads", trusted_keys(workspace.settings)
    if not keys:
        return None
    try:
        heads, problems = _heads(workspace, keys)
    except SigningNotInstalled as error:
        return Finding(subject, "attention", str(error), INSTALL)
    except PublishIncomplete as error:
        return Finding(subject, "unreachable", error.message)
    ledger = workspace.registry.ledger
    gone = ledger.verify(noted_heads=heads).problem if heads else ""
    if gone.startswith("the head noted in"):
        problems.append(gone)
    n_events, covered = ledger.count(), max((int(place.split()[-1]) for place in heads.values()), default=0)
    built = [one.number for one in ledger.events(event=BUILT) if one.at >= since_when(keys)]
    if workspace.settings.signing.require and built and covered < built[-1]:
        problems.append(f"no signed head covers events {covered + 1} to {built[-1]}, the last of which is a version")
    if problems:
        return Finding(subject, "damaged", "; ".join(problems))
    if not heads:
        return Finding(subject, "attention", "none yet: the ledger itself is not signed")
    return Finding(subject, "ok", f"{counted(len(heads), 'head')}, for {covered} of {n_events} events")


def _heads(workspace: Workspace, keys: tuple[PublicKey, ...]) -> tuple[Mapping[str, str], list[str]]:
    """Return the hashes of the signed heads, each with its place, and what is wrong with the others."""
    name, rows = workspace.settings.mlflow.router_name, workspace.registry.signed_heads.list()
    signed = [(f"row {one.number} of signed_head", one.signature_json, one) for one in rows]
    in_mlflow = workspace.publisher.signed_ledger_head(name)
    signed += [] if in_mlflow is None else [(f"MLflow's tags of {name}", in_mlflow, None)]
    heads, problems = {}, []
    for place, text, stated in signed:
        try:
            head = head_of(text, keys)
        except Untrusted as error:
            problems.append(f"{place}: {error}")
            continue
        heads[head.hash] = f"a signature on event {head.number}"
        if stated not in (None, head):
            problems.append(f"{place} is not what is signed: event {head.number} on {head.signed_at:%Y-%m-%d}")
    return heads, problems
