"""Gathers the inputs of a promotion report from registry and router folders, as they were at the request.

New LLMs are described by what is known of them: price, answers, latency, hidden-prompt gap and drift.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.errors import PrerequisiteError
from flows.gate.answers import Answers, embeddings_of
from flows.gate.evidence import gather
from flows.gate.measure import GateOutcomes
from flows.gate.verdict import stored_checks, undecided_sentence
from flows.gate.worth import Worth
from flows.night.context import PROFILED_ROLES
from flows.night.epochs import Drifts
from flows.profiling.contamination import contamination_p_value
from flows.reports.numbers import NORMAL_95
from flows.reports.promotion.evidence import Version
from flows.reports.promotion.particulars import Gap, NewLLM, NightSpend
from flows.reports.promotion.review_inputs import Contender, ReviewInputs
from flows.reports.readability import readability_sentence
from flows.text import llm_name
from flows.versions.store import load_version
from flows.workspace import SANDBOX, Workspace
from registry.promotion_records import REFRESH
from registry.prompts import Prompt
from registry.routers import RouterRecord
from registry.store import Registry
from routing.baselines import ZeroRouter
from routing.decisions import RoutedLLM
from routing.errors import named
from routing.router import Router

_KNOWN_ROLES = ("map", "representative", "gate")
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "matplotlib", "jinja2")
_TREND = 10
_FRESH = timedelta(days=7)
# For promotions requested before the gate stored its rules.
_MIN_COVERAGE = 0.95


@dataclass(frozen=True)
class Subject:
    """The challenger, the champion it is compared with, and the gate's result.

    Attributes
    ----------
    router_digest, champion_digest
        The challenger, and the champion it was compared with; None before the first.
    gate
        The result of `flows.gate.gate.gate_as_json`, as stored with the promotion.
    at
        Time of the request: later records do not count. None means now.
    """

    router_digest: str
    champion_digest: str | None
    gate: Mapping[str, Any]
    at: datetime | None = None


class Gathering:
    """Reads the inputs of a subject's report.

    Parameters
    ----------
    workspace
        Registry and router folders.
    subject
        The challenger and the champion it is compared with.

    Raises
    ------
    NotFound
        The ledger does not say which answers the challenger was made from.
    """

    def __init__(self, workspace: Workspace, subject: Subject) -> None:
        self._workspace, self._registry, self._subject = workspace, workspace.registry, subject
        self._record = self._registry.routers.get(subject.router_digest)
        self._run = self._registry.runs.get(self._record.run_id)
        self.answers = Answers.of_version(
            self._registry, self._record.digest, subject.champion_digest, until=subject.at
        )

    def inputs(self) -> ReviewInputs:
        """Read all inputs.

        Raises
        ------
        PrerequisiteError
            No gate prompt has a score from every LLM, so there is nothing to compare.
        """
        subject, answers = self._subject, self.answers
        challenger, champion = self._contender(self._record), None
        if subject.champion_digest is not None:
            champion = self._contender(self._registry.routers.get(subject.champion_digest))
        gate_prompts, outcomes = self._gate_outcomes(challenger.router, champion.router if champion else None)
        known = answers.prompt_set.with_role(*_KNOWN_ROLES)
        before = (champion or challenger).router
        return ReviewInputs(
            challenger=challenger,
            champion=champion,
            passed=bool(subject.gate.get("passed")),
            checks=stored_checks(subject.gate),
            metrics=dict(subject.gate.get("metrics", {})),
            worth=Worth.of_data(subject.gate.get("worth")),
            outcomes=outcomes,
            gate_prompts=gate_prompts,
            known_prompts=known,
            known_embeddings=embeddings_of(self._registry, known, challenger.router),
            champion_embeddings=(
                embeddings_of(self._registry, known, before) if before.embedder != challenger.router.embedder else None
            ),
            zero_router=self._zero_router(challenger.router.keys),
            completions=self._completions,
            new_llms=tuple(
                newcomer(self._registry, answers, llm, self._run.as_of)
                for llm in challenger.router.llms
                if llm.key not in before.keys
            ),
            spend=self._spend(),
            trend=self._trend(),
            stale_prices=self._stale_prices(challenger.router.keys),
            readability=answers.readability(outcomes.keys, gate_prompts),
            graders=tuple(sorted(Counter(answers.graders[prompt.grader] for prompt in gate_prompts).items())),
            is_recorded=all(key.startswith(f"{SANDBOX}:") for key in outcomes.keys),
            facts=self._facts(),
            refresh=_refresh_sentence(subject.gate),
            undecided=undecided_sentence(subject.gate),
        )

    def _contender(self, record: RouterRecord) -> Contender:
        as_of = self._registry.runs.get(record.run_id).as_of
        return Contender(load_version(self._workspace, record.digest), record.number, record.created_at, as_of)

    def _gate_outcomes(self, challenger: Router, champion: Router | None) -> tuple[tuple[Prompt, ...], GateOutcomes]:
        """Return the outcomes as the gate gathers them, with their prompts."""
        rules = self._subject.gate.get("rules") or {}
        outcomes = gather(
            self.answers,
            challenger,
            champion,
            on=self._run.as_of,
            min_coverage=float(rules.get("min_coverage", _MIN_COVERAGE)),
        ).outcomes
        if not len(outcomes.embeddings):
            raise PrerequisiteError(
                "No gate prompt has a score from every LLM of both routers.",
                unchanged="No report was written.",
                hint="See what is missing: uniroute llm list",
            )
        prompts = self.answers.prompt_set.with_role("gate")
        table = self.answers.table(outcomes.keys, prompts)
        complete = (np.isfinite(table.scores) & np.isfinite(table.cost_usd)).all(axis=1)
        return tuple(prompt for prompt, kept in zip(prompts, complete, strict=True) if kept), outcomes

    def _zero_router(self, keys: tuple[str, ...]) -> ZeroRouter | None:
        table = self.answers.table(keys, self.answers.prompt_set.with_role("representative"))
        complete = (np.isfinite(table.scores) & np.isfinite(table.cost_usd)).all(axis=1)
        complete &= self.answers.is_uniform(keys).all(axis=1)
        return ZeroRouter.fit(table.scores[complete], table.cost_usd[complete], keys) if complete.any() else None

    def _completions(self, llm_key: str, prompts: Sequence[Prompt]) -> Mapping[str, str]:
        answers = self.answers
        sampling = answers.sampling.get(llm_key, "")
        return self._registry.outcomes.completions(llm_key, prompts, answers.graders, sampling)

    def _spend(self) -> NightSpend:
        spend = self._registry.outcomes.spend(self._run)
        ceiling = json.loads(self._run.settings_json).get("budget", {}).get("night_usd")
        return NightSpend(
            spend.total_usd,
            spend.calls,
            tuple((one.purpose, one.calls, one.cost_usd) for one in spend.by_purpose),
            None if ceiling is None else type(spend.total_usd)(str(ceiling)),
        )

    def _trend(self) -> tuple[Version, ...]:
        """Return the last routers up to this one, the oldest first, and which of them had served by then."""
        at = self._subject.at
        served = {
            one.router_digest
            for one in self._registry.promotions.list(status="applied")
            if at is None or (one.applied_at is not None and one.applied_at < at)
        }
        records = [one for one in self._registry.routers.list() if one.number <= self._record.number][:_TREND]
        return tuple(
            Version(
                one.number,
                one.digest,
                one.created_at,
                len(one.llm_keys),
                one.metrics.get("score"),
                _per_prompt(one.metrics.get("cost_usd_per_1k")),
                one.metrics.get("area"),
                one.digest in served and one.digest != self._record.digest,
            )
            for one in reversed(records)
        )

    def _stale_prices(self, keys: Sequence[str]) -> tuple[str, ...]:
        oldest = self._run.as_of - _FRESH
        return tuple(key for key in keys if self._registry.llms.get(key).last_seen_on < oldest)

    def _facts(self) -> tuple[tuple[str, str], ...]:
        record, run, subject, answers = self._record, self._run, self._subject, self.answers
        roles = Counter(member.role for member in answers.prompt_set.members)
        samplings = sorted({answers.sampling[key] for key in record.llm_keys if key in answers.sampling})
        rules = subject.gate.get("rules") or {}
        facts = (
            ("challenger", record.digest),
            ("champion", subject.champion_digest or "none"),
            ("prompt set", f"{answers.prompt_set.name}, {answers.prompt_set.digest}"),
            ("prompts by role", ", ".join(f"{role} {count}" for role, count in sorted(roles.items()))),
            ("embedder", record.embedder_key),
            ("cluster map", record.cluster_map_digest),
            ("graders", ", ".join(sorted(set(answers.graders.values())))),
            ("sampling", ", ".join(samplings)),
            ("night", f"{run.key} (run {run.id})"),
            ("settings", run.settings_hash),
            ("gate policy", str(rules.get("policy_digest", ""))),
            ("files of the challenger", record.files_json),
            ("software", ", ".join(f"{name} {version(name)}" for name in ("uniroute", *_LIBRARIES))),
        )
        return tuple((name, content) for name, content in facts if content)


def _refresh_sentence(gate: Mapping[str, Any]) -> str:
    """Return what a refresh changed, from the stored result of its checks; empty for a challenger."""
    if REFRESH not in gate:
        return ""
    found = gate[REFRESH]
    parts = []
    if found["dropped"]:
        gone = [f"{llm_name(one['llm_key'])} ({one['reason']})" for one in found["dropped"]]
        parts.append(f"It leaves out {named(gone)}, which got {found['dead_share']:.1%} of the representative prompts.")
    if found["repriced"]:
        parts.append(
            f"It counts with the prices in force of {named(llm_name(one['llm_key']) for one in found['repriced'])}."
        )
    return " ".join(parts)


def _per_prompt(per_1k: float | None) -> float | None:
    return None if per_1k is None else per_1k / 1000


def newcomer(registry: Registry, answers: Answers, llm: RoutedLLM, as_of: date) -> NewLLM:
    """Read what is known of a new LLM; its share is set later.

    Parameters
    ----------
    registry
        The registry to read from.
    answers
        The answers that count.
    llm
        The LLM as in the challenger.
    as_of
        Day of the night; later prices do not count.
    """
    listed = registry.llms.get(llm.key)
    drawn = answers.uniform([llm.key])[llm.key]
    prompts = (*drawn, *answers.prompt_set.with_role(*PROFILED_ROLES[1:]))
    facts = registry.outcomes.facts(
        llm.key, prompts, answers.graders, answers.sampling.get(llm.key, ""), until=answers.until
    )
    read = answers.readability([llm.key], prompts)
    known, hidden = (
        answers.table([llm.key], some).scores[:, 0] for some in (drawn, answers.prompt_set.with_role("hidden"))
    )
    price = next((one for one in reversed(registry.llms.price_history(llm.key)) if one.since <= as_of), None)
    drift = Drifts(registry, until=answers.until).of(llm.key)
    others = tuple(name for name in facts.served_as if name not in (listed.llm_id, listed.canonical_id))
    return NewLLM(
        key=llm.key,
        name=listed.name,
        released_on=listed.released_at.date() if listed.released_at is not None else None,
        input_usd_per_mtok=llm.input_usd_per_mtok,
        output_usd_per_mtok=llm.output_usd_per_mtok,
        catalog=price.catalog if price is not None else listed.catalog,
        price_since=price.since if price is not None else None,
        n_asked=len(prompts),
        n_scored=facts.n_scored,
        failures=facts.failures,
        n_cut=facts.n_cut,
        unreadable=readability_sentence(read[llm.key]),
        latency_p50_s=_percentile(facts.latencies_s, 0.5),
        latency_p95_s=_percentile(facts.latencies_s, 0.95),
        served_as=others,
        gap=hidden_gap(known, hidden),
        drift=drift.reason if drift is not None and drift.is_open else "",
        share=0.0,
    )


def hidden_gap(known: NDArray[np.float64], hidden: NDArray[np.float64]) -> Gap | None:
    """Compare the scores on representative and on hidden prompts; None when one of the two has none.

    Parameters
    ----------
    known, hidden
        Scores in [0, 1], NaN where there is none.
    """
    known, hidden = known[np.isfinite(known)], hidden[np.isfinite(hidden)]
    if not len(known) or not len(hidden):
        return None
    mean = float(known.mean() - hidden.mean())
    # One pseudo-answer of one half on each side keeps an LLM that is always right from an interval of zero width.
    variances = (
        (rate := (values.sum() + 0.5) / (len(values) + 1)) * (1 - rate) / len(values) for values in (known, hidden)
    )
    width = NORMAL_95 * math.sqrt(sum(map(float, variances)))
    return Gap(mean, mean - width, mean + width, contamination_p_value(known, hidden), len(known), len(hidden))


def _percentile(ascending: tuple[float, ...], share: float) -> float | None:
    return float(np.quantile(ascending, share)) if ascending else None
