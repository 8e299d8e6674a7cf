"""A home folder with a champion, and a challenger whose promotion was requested by hand: real answers, a real gate."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from flows.config.settings import Settings
from flows.promotion.decisions import Person, request
from flows.versions.store import publication_folder, router_folder
from flows.workspace import Workspace
from registry.outcomes import Outcome
from registry.promotions import Promotion, gate_result
from registry.prompts import Prompt, PromptSet
from registry.routers import ClusterMapRecord, RouterRecord
from registry.runs import Run
from registry.store import Registry
from routing.artifact import save_router
from routing.cluster_maps import KMeansMap
from routing.features import plain_feature_vector
from routing.router import RoutedLLM, Router
from routing.tokens import estimated_input_tokens
from tests.registry.samples import GRADERS, NOW, SAMPLING, fetch, listing, record_fetch, start_night

N_PROMPTS = 200
# Right answers out of six, and USD per million tokens.
LLMS = {"sandbox:frugal": (2, "0.5"), "sandbox:middle": (3, "2"), "sandbox:fresh": (5, "0.4")}
REQUESTED_AT = NOW + timedelta(hours=1)
BY = Person("ann", "ann")


@contextmanager
def promoted_home(
    home: Path, *, suffix: str = "", answer: str = "The answer is (A).", name: str = ""
) -> Iterator[tuple[Workspace, Promotion]]:
    """Open a home folder in which ``fresh`` was found after the champion was made, and is asked for now.

    Parameters
    ----------
    home
        Where the home folder shall be.
    suffix, answer, name
        What every prompt ends with, what every LLM says, and how LLMs are called.
    """
    with Workspace(settings_of(home)) as workspace:
        registry = workspace.registry
        run = start_night(registry, settings_json=json.dumps({"budget": {"night_usd": "20"}}))
        listed = [
            listing(key.partition(":")[2], price, endpoint="sandbox", name=name or key)
            for key, (_, price) in LLMS.items()
        ]
        record_fetch(registry, run, fetch(listed, "known"), run.as_of)
        prompt_set = registry.prompts.freeze("core", _prompts(suffix))
        embeddings = workspace.embedder.embed([prompt.text for prompt in prompt_set.prompts])
        registry.prompts.store_embeddings(workspace.embedder.id.key, prompt_set.prompts, embeddings)
        registry.outcomes.record(
            run, [_outcome(key, at, one, answer) for key in LLMS for at, one in enumerate(prompt_set.prompts)]
        )
        first, second = (_keep(workspace, run, prompt_set, list(LLMS)[:n]) for n in (2, 3))
        asked = registry.promotions.request(first, None, gate_result(True, {}), actor="night", now=NOW, run_id=run.id)
        registry.promotions.apply(asked, actor="night", reason="the first", now=NOW)
        registry.runs.finish(run, "completed", "fine", "{}", NOW)
        waiting = request(workspace, second, by=BY, reason="better", clock=lambda: REQUESTED_AT).promotion
        yield workspace, waiting


def settings_of(home: Path) -> Settings:
    """Return the settings under which it was made: a single LLM may get all prompts."""
    return Settings(home=home, embedder={"name": "hashing-256"}, gate={"max_share": 1.0})


def _prompts(suffix: str) -> list[Prompt]:
    topics = ("torque and velocity of an engine", "tort and statute of a contract", "enzymes in a membrane")
    return [
        Prompt(f"p{at}", f"Question {at} about {topics[at % 3]}?{suffix}", "ABCD"[at % 4], "choice", f"topic {at % 3}")
        for at in range(N_PROMPTS)
    ]


def _outcome(key: str, at: int, prompt: Prompt, answer: str) -> Outcome:
    right = LLMS[key][0] > (at * 5 + at // 6 + len(key)) % 6
    return Outcome(
        llm_key=key,
        prompt_digest=prompt.digest,
        grader="choice/1",
        sampling=SAMPLING,
        score=float(right),
        failure=None,
        input_tokens=100,
        output_tokens=50,
        cost_usd=Decimal(LLMS[key][1]) * 150 / 1_000_000,
        latency_s=0.5 + at / 100,
        finish_reason="length" if at % 50 == 0 else "stop",
        attempts=1,
        completion=answer,
        usage_estimated=False,
        asked_at=NOW + timedelta(minutes=1),
    )


def _keep(workspace: Workspace, run: Run, prompt_set: PromptSet, keys: list[str]) -> str:
    """Make a router of these LLMs as a night would, and store it with its evidence; return its digest."""
    registry, embedder_key = workspace.registry, workspace.embedder.id.key
    prompts = prompt_set.with_role("representative")
    embeddings = registry.prompts.embeddings(prompts, embedder_key).matrix
    map_rows = registry.prompts.embeddings(prompt_set.with_role("map"), embedder_key).matrix
    cluster_map = KMeansMap(n_clusters=3, random_state=0).fit(map_rows).fitted_
    table = registry.outcomes.table(keys, prompts, GRADERS, SAMPLING)
    assigned = cluster_map.assign(embeddings)
    llms = [
        RoutedLLM(
            key,
            float(LLMS[key][1]),
            float(LLMS[key][1]),
            plain_feature_vector(
                assigned,
                table.scores[:, at],
                table.input_tokens[:, at],
                table.output_tokens[:, at],
                n_clusters=cluster_map.n_clusters,
                n_prompts=len(prompts),
            ),
        )
        for at, key in enumerate(keys)
    ]
    router = Router(
        cluster_map,
        llms,
        embedder=workspace.embedder.id,
        cost_weight=200.0,
        calibration_weights=np.asarray(cluster_map.weights(embeddings)),
        calibration_tokens=estimated_input_tokens([prompt.text for prompt in prompts]),
    )
    _register(registry, workspace, run, prompt_set, router)
    return router.digest


def _register(registry: Registry, workspace: Workspace, run: Run, prompt_set: PromptSet, router: Router) -> None:
    fitted = router.cluster_map
    registry.routers.save_cluster_map(
        ClusterMapRecord(
            digest=fitted.digest,
            kind=fitted.kind,
            prompt_set_digest=prompt_set.digest,
            embedder_key=router.embedder.key,
            n_clusters=fitted.n_clusters,
            seed=0,
            arrays=fitted.arrays(),
        )
    )
    manifest = save_router(router, router_folder(workspace, router.digest))
    publication_folder(workspace, router.digest).mkdir(parents=True)
    registry.routers.save(
        RouterRecord(
            digest=router.digest,
            publish_key=router.digest,
            parent_digest=registry.routers.aliases().champion,
            cluster_map_digest=fitted.digest,
            prompt_set_digest=prompt_set.digest,
            embedder_key=router.embedder.key,
            run_id=run.id,
            llm_keys=router.keys,
            metrics={"score": 0.7, "cost_usd_per_1k": 0.3, "area": 0.6},
            files_json=json.dumps(dict(manifest.files), sort_keys=True),
            created_at=NOW,
        ),
        evidence={
            "map_was_fitted": True,
            "graders": {"choice": "choice/1"},
            "embeddings": "0" * 64,
            "answers": {key: {"use": "routed", "sampling": SAMPLING, "digest": "0" * 64} for key in router.keys},
            "told": {},
            "libraries": {},
        },
    )
