"""In which order new LLMs are asked the representative prompts, and how many of them.

The uniform draw that every order begins with depends on each prompt by itself, and an order of an earlier prompt set is
carried over: after a change of some prompts an LLM is asked those, and few others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from registry.prompts.prompt_orders import PromptOrderRecord

if TYPE_CHECKING:
    from flows.config.settings import Settings
    from registry.prompts import Prompt, PromptSet
    from routing.posterior.prompt_choice import PromptOrder

DRAWN = "random"
_ROLE = "representative"
_ASKED_UNSIMULATED = 100
"""How many prompts an LLM is asked while too few LLMs are known to simulate what more would be worth."""
_WORTH = 0.008
"""Loss against asking all prompts, in errors per prompt, below which more answers are not worth their price.

``ask = "auto"`` asks the smallest simulated number of answers that loses no more, all prompts if none does. The value
is a choice: two fifths of the difference in score that the gate takes for none (``[gate] epsilon``, 0.02), so that what
is saved cannot be seen at the gate; on the recorded answers that were tried, about a hundred answers get there."""
_LEAST_SHARED = 0.5
"""Share of the prompts that an order of another prompt set must know to be carried over."""


def choose(
    prompt_set: PromptSet, embeddings: NDArray[np.float32], errors: NDArray[np.float64], settings: Settings
) -> PromptOrderRecord:
    """Choose the order of a prompt set by simulation on known LLMs.

    Parameters
    ----------
    prompt_set
        The prompts.
    embeddings
        Of its N representative prompts, ``(N, dim)``.
    errors
        Of the known LLMs on them, ``(N, m)``; NaN where there is no answer.
    settings
        Whose ``[prompts]`` count.
    """
    from routing.posterior.prompt_choice import choose_order

    prompts, seed = prompt_set.with_role(_ROLE), settings.prompts.seed
    uniform = drawn(prompts, seed)
    found = choose_order(embeddings, errors, n_asked=_n_simulated(len(prompts), settings), seed=seed, uniform=uniform)
    return PromptOrderRecord(
        prompt_set_digest=prompt_set.digest,
        role=_ROLE,
        strategy=found.strategy,
        prompt_digests=tuple(prompts[row].digest for row in found.order),
        n_random=found.n_random,
        # Also where the settings say another number: they may leave it to the order later.
        n_asked=_worth_asking(found, min(_ASKED_UNSIMULATED, len(prompts))),
        n_known=errors.shape[1],
        seed=seed,
        losses={
            "by_strategy": dict(found.losses),
            "by_n": {str(n): loss for n, loss in found.expected_loss_by_n.items()},
        },
    )


def drawn(prompts: Sequence[Prompt], seed: int) -> NDArray[np.int64]:
    """Return a uniform permutation of prompts that a prompt more or less changes in one place, ``(N,)``."""
    keys = [hashlib.sha256(f"{_ROLE}:{seed}:{one.digest}".encode()).hexdigest() for one in prompts]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def carried_over(earlier: PromptOrderRecord, prompt_set: PromptSet) -> PromptOrderRecord | None:
    """Return the order of an earlier prompt set for another one; None if they share too few prompts.

    Parameters
    ----------
    earlier
        An order of representative prompts.
    prompt_set
        The other prompt set. Its own draw comes first, what was chosen earlier next, and new prompts last.
    """
    prompts = prompt_set.with_role(_ROLE)
    uniform = [prompts[row].digest for row in drawn(prompts, earlier.seed)]
    known = set(earlier.prompt_digests)
    if sum(digest in known for digest in uniform) < _LEAST_SHARED * len(uniform):
        return None
    n_random = min(earlier.n_random, len(uniform))
    first, among = uniform[:n_random], set(uniform[n_random:])
    chosen = [digest for digest in earlier.prompt_digests if digest in among]
    by_n = {n: loss for n, loss in earlier.losses.get("by_n", {}).items() if int(n) < len(uniform)}
    return replace(
        earlier,
        prompt_set_digest=prompt_set.digest,
        prompt_digests=(*first, *chosen, *(digest for digest in uniform[n_random:] if digest not in known)),
        n_random=n_random,
        n_asked=min(earlier.n_asked, len(uniform)),
        losses={**earlier.losses, "by_n": by_n | {str(len(uniform)): 0.0} if by_n else {}},
        run_id=None,
    )


def is_good(stored: PromptOrderRecord, n_known: int, settings: Settings) -> bool:
    """Whether an order is still that of new LLMs when so many LLMs are known: many more may know better."""
    # Imported here, as above: commands that only show orders need no scikit-learn, which takes a second.
    from routing.posterior.prompt_choice import FEWEST_KNOWN

    if stored.n_random > _n_simulated(len(stored.prompt_digests), settings):
        return False
    return n_known < (FEWEST_KNOWN if stored.n_known < FEWEST_KNOWN else 2 * stored.n_known)


def n_asked_of(order: PromptOrderRecord, settings: Settings) -> int:
    """Return how many of the first prompts of an order an LLM is asked under some settings."""
    if order.role != _ROLE:
        return order.n_asked
    if asks_all(settings):
        return len(order.prompt_digests)
    wanted = settings.prompts.ask
    n = order.n_asked if wanted == "auto" else wanted
    return min(max(n, order.n_random, settings.routing.min_answers), len(order.prompt_digests))


def asks_all(settings: Settings) -> bool:
    """Whether every LLM is asked all representative prompts: plain means need answers in every cluster."""
    return settings.routing.method != "posterior" and settings.prompts.ask == "auto"


def asked_and_drawn(n: int, settings: Settings) -> tuple[int, int]:
    """Return how many of n representative prompts a new LLM is asked, and how many of those are drawn uniformly.

    With ``ask = "auto"``, while too few LLMs are known to simulate how many are worth their price.
    """
    from routing.posterior.prompt_choice import n_drawn

    wanted, is_plain = settings.prompts.ask, settings.routing.method != "posterior"
    if asks_all(settings) or (wanted != "auto" and wanted >= n):
        return n, n
    n_asked = _n_simulated(n, settings)
    asked = min(max(n_asked, settings.routing.min_answers), n)
    return asked, asked if is_plain else n_drawn(n, n_asked)


def _n_simulated(n: int, settings: Settings) -> int:
    """Return for how many answers an order of n prompts is simulated."""
    wanted = settings.prompts.ask
    # A third is left to choose among, also where there are few.
    return min(_ASKED_UNSIMULATED, max(2 * n // 3, 1)) if wanted == "auto" else wanted


def _worth_asking(found: PromptOrder, unsimulated: int) -> int:
    """Return the fewest answers whose expected loss against asking all is not worth more answers."""
    enough = [n for n, loss in sorted(found.expected_loss_by_n.items()) if loss <= _WORTH and n >= found.n_random]
    return enough[0] if enough else unsimulated
