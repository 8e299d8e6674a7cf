"""Provenance: what a router version was made from, recorded in the ledger by its night and read back by auditors.

Answers are final, so a version can be computed again from the registry alone: under the settings of its run, from the
answers there were when it was kept. The digests here show whether the answers are still the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from registry.errors import NotFound
from registry.routers import KEPT

if TYPE_CHECKING:
    from flows.fitting.refit import Candidate
    from flows.night.context import Night
    from flows.versions.store import Publication
    from registry.ledger import LedgerEvent
    from registry.llms import LLM
    from registry.outcomes import OutcomeTable
    from registry.prompts import PromptSet
    from registry.routers import RouterRecord
    from registry.store import Registry

Use = Literal["routed", "carried over", "left out"]
ROLES = ("representative", "map", "gate", "hidden")
EMBEDDED_ROLES = ("representative", "map", "gate")
_LIBRARIES = ("numpy", "scikit-learn", "scipy", "uniroute")


@dataclass(frozen=True)
class AnswersUsed:
    """One LLM's answers at the time a version was made.

    Attributes
    ----------
    use
        ``routed`` with a vector of that night, ``carried over`` with an earlier one, or ``left out``.
    sampling
        Sampling settings under which its answers counted.
    digest
        SHA-256 over scores, tokens and costs on the whole prompt set.
    """

    use: Use
    sampling: str
    digest: str


@dataclass(frozen=True)
class Provenance:
    """What a version was made from.

    Attributes
    ----------
    row_digest
        Digest of the registry's row, from `RouterRecord.row_digest`; empty for a version kept before there was one.
    map_was_fitted
        Whether cluster map and prior were fitted that night.
    graders
        Grader name to ``name/version``.
    embeddings
        SHA-256 of the embeddings of the prompts.
    answers
        By LLM key: every LLM that could be routed to, and every withdrawn one that taught the prior that night; also
        those left out, because the prior learned from them.
    sent
        What was sent to MLflow: ``tags``, ``params``, ``metrics``, and the digests of ``figures``.
    libraries
        Versions of the libraries that computed it, the digest of the routing code, the platform and the kernel of BLAS.
    """

    row_digest: str
    map_was_fitted: bool
    graders: Mapping[str, str]
    embeddings: str
    answers: Mapping[str, AnswersUsed]
    sent: Mapping[str, Mapping[str, Any]]
    libraries: Mapping[str, str]


def provenance_of(night: Night, candidate: Candidate, publication: Publication, figures: Mapping[str, Path]) -> dict:
    """Return what the candidate was made from, as the JSON that the ledger keeps."""
    keys = [*candidate.router.keys, *(key for key, _ in candidate.left_out), *candidate.taught_only]
    llms = [night.registry.llms.get(key) for key in sorted(keys)]
    prompts = [prompt for role in ROLES for prompt in night.prompt_set.with_role(role)]
    table = night.outcome_table(llms, tuple(prompts))
    uses: dict[str, Use] = dict.fromkeys(candidate.router.keys, "routed")
    uses |= dict.fromkeys(candidate.carried_over, "carried over")
    uses |= dict.fromkeys([*(key for key, _ in candidate.left_out), *candidate.taught_only], "left out")
    return {
        "map_was_fitted": candidate.map_was_fitted,
        "graders": dict(night.grader_versions),
        "embeddings": embeddings_digest(night.registry, night.prompt_set, candidate.router.embedder.key),
        "answers": {
            llm.key: asdict(AnswersUsed(uses[llm.key], night.counted_sampling(llm), answers_digest(table, column)))
            for column, llm in enumerate(llms)
        },
        "told": _sent(publication, figures),
        "libraries": libraries_now(),
    }


def refreshed_provenance(
    registry: Registry,
    parent: RouterRecord,
    keys: Sequence[str],
    publication: Publication,
    figures: Mapping[str, Path],
) -> dict[str, Any]:
    """Return what a refreshed version was made from: the vectors of the version it refreshes.

    Parameters
    ----------
    registry
        The registry to read from.
    parent
        The version that it refreshes.
    keys
        The LLMs that it keeps.
    publication, figures
        What is sent to MLflow.

    Returns
    -------
    dict
        JSON for the ledger; empty when the ledger does not say what the refreshed version was made from.
    """
    before = known_provenance(registry, parent.digest)
    if before is None:
        return {}
    prompt_set = registry.prompts.get(parent.prompt_set_digest)
    prompts = tuple(prompt for role in ROLES for prompt in prompt_set.with_role(role))
    sampling = {key: before.answers[key].sampling for key in sorted(keys)}
    table = registry.outcomes.table(list(sampling), prompts, before.graders, sampling)
    return {
        "map_was_fitted": False,
        "graders": dict(before.graders),
        "embeddings": before.embeddings,
        "answers": {
            key: asdict(AnswersUsed("carried over", used, answers_digest(table, column)))
            for column, (key, used) in enumerate(sampling.items())
        },
        "told": _sent(publication, figures),
        "libraries": libraries_now(),
    }


def _sent(publication: Publication, figures: Mapping[str, Path]) -> dict[str, Any]:
    from registry.publishing import markdown

    return {
        "tags": dict(publication.tags),
        "params": {name: str(value) for name, value in publication.params.items()},
        "metrics": dict(publication.metrics),
        "description": hashlib.sha256(markdown(publication.description).encode()).hexdigest(),
        "figures": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in figures.items()},
    }


def libraries_now() -> dict[str, str]:
    """Return the versions of the libraries that compute a router here, and the digest of the routing code."""
    from registry.publishing.version_folder import CarriedCode, routing_package

    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    code = CarriedCode.of(routing_package()).digest[:12]
    found |= {"routing code": code, "python": platform.python_version(), "machine": platform.machine()}
    return found | _blas()


def _blas() -> dict[str, str]:
    """Return what multiplies matrices here, chosen by the processor, and on how many threads: sums round by both."""
    from threadpoolctl import threadpool_info

    found = [one for one in threadpool_info() if one["user_api"] == "blas" and "numpy" in one["filepath"]]
    kernels = {f"{one['internal_api']} {one.get('architecture', '')}".strip() for one in found}
    threads = {str(one["num_threads"]) for one in found}
    return {"kernel": ", ".join(sorted(kernels)) or "unknown", "threads": ", ".join(sorted(threads)) or "unknown"}


def answers_digest(table: OutcomeTable, column: int) -> str:
    """Return the SHA-256 of one LLM's answers: scores, tokens and costs, by prompt."""
    digest = hashlib.sha256()
    for values in (table.scores, table.input_tokens, table.output_tokens, table.cost_usd):
        digest.update(np.ascontiguousarray(values[:, column], dtype="<f8").tobytes())
    return digest.hexdigest()


def embeddings_digest(registry: Registry, prompt_set: PromptSet, embedder_key: str) -> str:
    """Return the SHA-256 of the stored embeddings of a prompt set."""
    prompts = [prompt for role in EMBEDDED_ROLES for prompt in prompt_set.with_role(role)]
    block = registry.prompts.embeddings(prompts, embedder_key)
    digest = hashlib.sha256("\n".join(block.prompt_digests).encode())
    digest.update(np.ascontiguousarray(block.matrix, dtype="<f4").tobytes())
    return digest.hexdigest()


def kept_event(registry: Registry, digest: str) -> LedgerEvent:
    """Return the ledger's event of the making of a version.

    Raises
    ------
    NotFound
        The version was kept before the ledger recorded that, or the event is gone.
    """
    events = registry.ledger.events(subject=digest, event=KEPT)
    if not events:
        raise NotFound(
            f"The ledger does not say what router {digest[:12]} was made from.", hint="uniroute audit verify"
        )
    return events[0]


def read_provenance(event: LedgerEvent) -> Provenance | None:
    """Read the provenance from the event of a version's making; None when it holds only the digest of the row."""
    payload = json.loads(event.payload_json)
    found = payload["evidence"]
    if not found:
        return None
    return Provenance(
        row_digest=payload["row"],
        map_was_fitted=found["map_was_fitted"],
        graders=found["graders"],
        embeddings=found["embeddings"],
        answers={key: AnswersUsed(**one) for key, one in found["answers"].items()},
        sent=found["told"],
        libraries=found["libraries"],
    )


def known_provenance(registry: Registry, digest: str) -> Provenance | None:
    """Return what a version was made from; None when it was kept before the ledger recorded that."""
    events = registry.ledger.events(subject=digest, event=KEPT)
    return read_provenance(events[0]) if events else None


def routed_llms(registry: Registry, provenance: Provenance) -> list[LLM]:
    """Return the LLMs of the provenance in the order of the night: by key."""
    return [registry.llms.get(key) for key in sorted(provenance.answers)]
