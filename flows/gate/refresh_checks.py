"""The checks of a refresh: that it is sound; what it changes is measured and shown, without a statistical test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flows.gate.floors import guesses
from flows.gate.gate import GateResult
from flows.gate.measure import GateOutcomes, RouterMeasure, measure
from flows.gate.refresh import Refresh
from flows.gate.verdict import SHOWN_ONLY, GateCheck, GateRules
from flows.gate.worth import against_champion, worth_of


def refresh_checks(
    found: Refresh, measured: RouterMeasure | None = None, *, guess: float = 0.0
) -> tuple[GateCheck, ...]:
    """Return the conditions of a refresh.

    Parameters
    ----------
    found
        The refresh; something is left to serve.
    measured
        How the refreshed router does on gate prompts; None where there are no answers to measure with.
    guess
        Mean score of a blind guess on these prompts, as far as it is known.
    """
    assert found.router is not None, "only what is left to serve is checked"
    errors, costs_usd = found.router.expected_on_calibration()
    is_finite = bool(np.isfinite(errors).all() and np.isfinite(costs_usd).all())
    n, m = errors.shape
    remedy = "no setting: a night that promotes a challenger, or uniroute llm include LLM --reason TEXT"
    serving = f"{m} of {len(found.champion.keys)}"
    checks = [
        GateCheck(
            "finite expected errors and costs",
            f"{m} LLMs on {n} representative prompts",
            "all",
            is_finite,
            remedy="no setting: check the prices (uniroute llm list)",
        ),
        GateCheck("LLMs that can still serve", serving, "at least 1", m >= 1, remedy=remedy),
    ]
    if measured is not None:
        least = f"above {guess:.4f}, what a guess scores" if guess else "above 0"
        checks.append(
            GateCheck("score on gate prompts", f"{measured.score:.4f}", least, measured.score > guess, remedy=remedy)
        )
    key, share = max(measured.shares if measured is not None else found.traffic, key=lambda one: one[1])
    prompts = "gate" if measured is not None else "representative"
    return (
        *checks,
        GateCheck(f"largest share of the {prompts} prompts", f"{share:.1%} ({key})", SHOWN_ONLY, True),
        GateCheck("prompts that went to LLMs that cannot serve", f"{found.dead_share:.1%}", SHOWN_ONLY, True),
        GateCheck("expected cost of the same choices", found.cost_text, SHOWN_ONLY, True),
    )


def judge_refresh(found: Refresh, outcomes: GateOutcomes, rules: GateRules) -> GateResult:
    """Judge a refresh: it claims nothing new about any LLM, so it only has to be sound.

    Parameters
    ----------
    found
        The refresh; something is left to serve.
    outcomes
        The recorded outcomes of the LLMs of champion and refreshed router on gate prompts; at least one prompt.
    rules
        The thresholds, none of which is applied.
    """
    assert found.router is not None, "only what is left to serve is judged"
    after = measure(found.router, outcomes)
    before = measure(found.champion, outcomes)
    changed = float(np.mean([one != other for one, other in zip(after.chosen, before.chosen, strict=True)]))
    guess = guesses(outcomes)
    checks = refresh_checks(found, after, guess=0.0 if guess is None else float(guess.mean()))
    worth = replace(
        worth_of(found.router, after, outcomes, resamples=rules.resamples, seed=rules.seed),
        champion=against_champion(after, before, resamples=rules.resamples, seed=rules.seed),
    )
    return GateResult(checks, after, before, None, None, outcomes, rules, worth, route_change=changed)
