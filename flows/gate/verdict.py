"""The verdict of the gate: better or not worse (promote), worse (reject), or undecided, and what follows from it.

The comparison with the champion ends in one of three ways. The lower bound at the level that is spent lies at or above
minus epsilon: the challenger is shown to be better or not worse. The upper bound at `REJECT_LEVEL` lies below minus
epsilon: it is shown to be worse. Neither: the gate prompts cannot tell. Any other check that fails rejects, so that
undecided always means that nothing but evidence is lacking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from flows.gate.power import Power
from flows.text import counted
from registry.promotion_records import PROMOTE, REJECT, REVIEW, UNDECIDED
from routing.strict_json import canonical_json

if TYPE_CHECKING:
    from flows.config.settings import Settings

SHOWN_ONLY: Final = "shown only"

REJECT_LEVEL: Final = 0.025
"""Chance that a challenger which is just good enough is said to be worse. The champion stays, so nothing is spent."""

LEAST_SAVING: Final = 0.01
"""Share by which an undecided challenger must be cheaper for ``[gate] undecided = "promote_if_cheaper"``."""


@dataclass(frozen=True)
class GateCheck:
    """One condition of the gate, with the value found and the threshold.

    Attributes
    ----------
    name, value, threshold
        The condition, what was found, and what is asked.
    passed
        Whether it holds.
    is_undecided
        Whether the evidence shows neither that it holds nor that it does not; then `passed` is False.
    remedy
        What would change the result: a setting with its present value, a command, or a number of prompts. Empty where
        nothing has to change.
    """

    name: str
    value: str
    threshold: str
    passed: bool
    is_undecided: bool = False
    remedy: str = ""

    @property
    def outcome(self) -> str:
        """The result in a word."""
        if self.passed:
            return "passed"
        return "UNDECIDED" if self.is_undecided else "FAILED"

    @property
    def order(self) -> int:
        """Place among other checks where those that stand in the way come first."""
        return 2 if self.passed else int(self.is_undecided)


@dataclass(frozen=True)
class GateRules:
    """The thresholds of the gate.

    Attributes
    ----------
    epsilon
        How much score, in [0, 1], the lower bound may fall below the champion's at the champion's cost.
    max_cost_increase
        How much more expensive than the champion, as a share, the challenger may be at its own operating point.
    max_share
        Share of the gate prompts that no LLM may exceed, unless it already does under the champion.
    min_coverage
        Share of the gate prompts that every LLM must have a score for.
    resamples, seed
        For the paired bootstrap.
    policy_digest
        SHA-256 of the settings that these come from, including who may decide.
    undecided
        What becomes of an undecided challenger: the setting ``[gate] undecided``.
    """

    epsilon: float
    max_cost_increase: float
    max_share: float
    min_coverage: float
    resamples: int
    seed: int
    policy_digest: str = ""
    undecided: str = REVIEW

    @classmethod
    def of(cls, settings: Settings) -> GateRules:
        """Take the thresholds from the settings."""
        wanted, routing = settings.gate, settings.routing
        # By alias: the digest of a policy keeps the names that its settings had when they were first stored.
        gate = wanted.model_dump(mode="json", by_alias=True, exclude=set(wanted.unset_additions()))
        content = {"gate": gate, "min_coverage": routing.min_coverage, "seed": routing.seed}
        return cls(
            epsilon=wanted.epsilon,
            max_cost_increase=wanted.max_cost_increase,
            max_share=wanted.max_share,
            min_coverage=routing.min_coverage,
            resamples=wanted.resamples,
            seed=routing.seed,
            policy_digest=hashlib.sha256(canonical_json(content).encode()).hexdigest(),
            undecided=wanted.undecided,
        )


def verdict_of(checks: Sequence[GateCheck]) -> str:
    """Return ``promote``, ``reject`` or ``undecided``: a check that failed outweighs one that is undecided."""
    if all(check.passed for check in checks):
        return PROMOTE
    return UNDECIDED if all(check.passed or check.is_undecided for check in checks) else REJECT


def decision_of(verdict: str, rules: GateRules, *, is_cheaper_and_no_worse: bool) -> str:
    """Return what follows from a verdict under the settings: ``promote``, ``reject`` or ``review``.

    Parameters
    ----------
    verdict
        From `verdict_of`.
    rules
        The thresholds.
    is_cheaper_and_no_worse
        Whether the challenger costs less by at least `LEAST_SAVING` and scores, as measured, no more than epsilon below
        the champion.
    """
    if verdict != UNDECIDED:
        return verdict
    if rules.undecided == "promote_if_cheaper":
        return PROMOTE if is_cheaper_and_no_worse else REVIEW
    return rules.undecided


def stored_checks(gate: Mapping[str, Any] | None) -> tuple[GateCheck, ...]:
    """Return the checks of a stored gate result; those of earlier releases have neither verdict nor remedy."""
    return _CHECKS.validate_python((gate or {}).get("checks", ()))


def check_text(check: GateCheck) -> str:
    """Return a check as one line: what was found, what is asked, and what would change a result that is not passed."""
    line = f"{check.name}: {check.value} ({check.threshold})"
    return f"{line}; to change that: {check.remedy}" if check.remedy and not check.passed else line


def failed_text(gate: Mapping[str, Any] | None) -> str:
    """Return the checks of a stored gate result that are not passed, as `check_text` does; empty without any."""
    return "; ".join(check_text(check) for check in stored_checks(gate) if not check.passed)


def undecided_sentence(gate: Mapping[str, Any] | None) -> str:
    """Return why a stored gate result is undecided and what would decide it; empty when it is decided.

    Parameters
    ----------
    gate
        As `flows.gate.gate.gate_as_json` returned it.
    """
    if not gate or gate.get("verdict") != UNDECIDED:
        return ""
    found = Power(**gate["power"])
    shows = (
        f"{counted(found.n_prompts, found.judging)} can show a difference of {found.visible_difference:.3f} in score"
    )
    epsilon = gate["rules"]["epsilon"]
    if found.prompts_needed is None:
        decides = "no number of gate prompts would decide it while the difference is what it is"
    else:
        decides = f"about {found.prompts_needed:,} would decide it"
    return f"the gate cannot decide: {shows}, [gate] epsilon asks for {epsilon:g}; {decides}"


_CHECKS = TypeAdapter(tuple[GateCheck, ...])
