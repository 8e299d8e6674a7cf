"""What dates and cost weights would do to `make demo`: ``make bench-demo``.

Only map and representative prompts are read, never the gate prompts on which the figures of the demo are measured.
Their answers judge each other: in each of five folds, map and vectors are estimated without the prompts of the fold,
and LLMs that were released after the first night are known by their answers to representative prompts only and by what
their facts let one expect of their level, as in a night. The cost weight at which routing costs closest to half of what
the best single LLM costs is named; that of the demo is chosen by what its second router expects of the map prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from flows.cli.demo import FIRST_NIGHT, LATER_NIGHT, SECOND_NIGHT
from flows.config.loading import SANDBOX_COST_WEIGHT
from flows.config.settings import Settings
from flows.graders import grader
from flows.sandbox.recording import RecordedAnswer, RecordedLLM, read_answers, read_llms
from flows.text import table
from flows.workspace import Workspace
from registry.prompts import Prompt
from routing.day_zero import KnownFacts, LLMFacts
from routing.day_zero.names import parameters_in_name, reasons_by_name
from routing.embedding import EmbedderId
from routing.estimator import PosteriorEstimator
from routing.router import RoutedLLM, Router
from routing.tokens import estimated_input_tokens

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WANTED_COST = 0.5
COST_WEIGHTS = (2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 30, 50, 100)
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Recorded:
    """The recorded answers to the prompts that choices may be made on.

    Attributes
    ----------
    llms
        The LLMs, one per column.
    is_map
        ``(n,)``, whether a prompt is a map prompt; the others are representative.
    categories, estimated_tokens
        ``(n,)``, by prompt.
    embeddings
        ``(n, dim)`` float32, by `embedder`.
    embedder
        The demo's.
    scores, costs_usd, input_tokens, output_tokens
        ``(n, m)``; the scores are those of the grader that the night uses.
    """

    llms: tuple[RecordedLLM, ...]
    is_map: NDArray[np.bool_]
    categories: NDArray[np.str_]
    estimated_tokens: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    embedder: EmbedderId
    scores: F64
    costs_usd: F64
    input_tokens: F64
    output_tokens: F64

    def released_by(self, night: str) -> list[int]:
        """Return the columns of the LLMs that a night finds."""
        return [column for column, llm in enumerate(self.llms) if llm.released_at.date() <= date.fromisoformat(night)]


def read() -> Recorded:
    """Read the recording, without its gate and hidden prompts; embeddings are taken from the demo's home folder."""
    llms = read_llms()
    with Workspace(Settings()) as workspace:
        found, embedder = workspace.prompt_set, workspace.embedder
        prompts = found.with_role("map", "representative")
        embeddings = _embeddings(workspace, prompts)
    answers, choice = read_answers(), grader("choice")

    def table_of(value: Callable[[Prompt, RecordedAnswer], float]) -> F64:
        return np.array([[value(one, answers[llm.llm_id][one.prompt_id]) for llm in llms] for one in prompts])

    tokens = (
        table_of(lambda _, answer: answer.input_tokens),
        table_of(lambda _, answer: max(answer.output_tokens, 1)),
    )
    prices = [[float(llm.input_usd_per_mtok), float(llm.output_usd_per_mtok)] for llm in llms]
    return Recorded(
        llms=llms,
        is_map=np.array([found.roles[one.digest] == "map" for one in prompts]),
        categories=np.array([one.category for one in prompts]),
        estimated_tokens=estimated_input_tokens([one.text for one in prompts]),
        embeddings=embeddings,
        embedder=embedder.id,
        scores=table_of(lambda one, answer: choice.grade(answer.text, one.reference, one.text).score),
        costs_usd=sum(count * price for count, price in zip(tokens, np.array(prices).T / 1e6, strict=True)),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
    )


def _embeddings(workspace: Workspace, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
    embedder = workspace.embedder
    stored = workspace.registry.prompts.embeddings(prompts, embedder.id.key)
    if len(stored.prompt_digests) < len(prompts):
        return embedder.embed([one.text for one in prompts])
    rows = {digest: row for row, digest in enumerate(stored.prompt_digests)}
    return stored.matrix[[rows[one.digest] for one in prompts]]


def expected_out_of_fold(data: Recorded, first: str, second: str) -> tuple[F64, F64]:
    """Return the errors and USD ``(n, m)`` that the second night's router expects of prompts that it has never seen."""
    pool, known = data.released_by(second), set(data.released_by(first))
    errors, costs_usd = np.zeros((2, len(data.scores), len(pool)))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    for seen, unseen in folds.split(data.embeddings, data.categories):
        found = _router(data, seen, pool, known).expected(
            data.embeddings[unseen], input_tokens=data.estimated_tokens[unseen]
        )
        errors[unseen], costs_usd[unseen] = found.errors, found.costs_usd
    return errors, costs_usd


def _router(data: Recorded, rows: I64, pool: Sequence[int], known: set[int]) -> Router:
    of_map, few = rows[data.is_map[rows]], rows[~data.is_map[rows]]
    errors = 1 - data.scores[:, sorted(known)]
    estimator = PosteriorEstimator(random_state=Settings().routing.seed)
    facts = KnownFacts.of([_facts(data.llms[column]) for column in sorted(known)])
    estimator.fit(data.embeddings[of_map], errors[of_map], few=(data.embeddings[few], errors[few]), facts=facts)
    routed = []
    for column in pool:
        asked = np.concatenate([few, of_map]) if column in known else few
        places = np.where(np.arange(len(asked)) < len(few), np.arange(len(asked)), -1)
        vector = estimator.vector(
            data.embeddings[asked],
            data.scores[asked, column],
            data.input_tokens[asked, column],
            data.output_tokens[asked, column],
            n_prompts=len(asked),
            estimated_tokens=data.estimated_tokens[asked],
            places=places,
            level=estimator.level_prior(_facts(data.llms[column])),
        )
        llm = data.llms[column]
        # Routers sort their LLMs by key: numbers keep the order of the columns.
        routed.append(RoutedLLM(f"{column:03d}", float(llm.input_usd_per_mtok), float(llm.output_usd_per_mtok), vector))
    weights = estimator.cluster_map_.exact_weights(data.embeddings[few])
    return Router(
        estimator.cluster_map_, tuple(routed), embedder=data.embedder, cost_weight=0.0, calibration_weights=weights
    )


def _facts(llm: RecordedLLM) -> LLMFacts:
    price, size = float(llm.output_usd_per_mtok), parameters_in_name(llm.llm_id)
    return LLMFacts(llm.llm_id, price, llm.released_at.date(), size, reasons_by_name(llm.llm_id))


def _rows(data: Recorded, pool: Sequence[int], errors: F64, costs_usd: F64) -> Iterator[tuple[float, list[object]]]:
    """Yield, by cost weight, what routing costs as a share of the best single LLM, and a row of the table."""
    scores, spent = data.scores[:, pool], data.costs_usd[:, pool]
    best = int(scores.mean(axis=0).argmax())
    for weight in COST_WEIGHTS:
        chosen = np.argmin(errors + weight * costs_usd, axis=1)[:, None]
        score, usd = (np.take_along_axis(found, chosen, axis=1)[:, 0] for found in (scores, spent))
        paid_for = [place for place in range(len(pool)) if spent[:, place].mean() <= usd.mean() * (1 + 1e-9)]
        single = max(paid_for, key=lambda place: scores[:, place].mean(), default=best)
        busiest, count = max(zip(*np.unique(chosen, return_counts=True), strict=True), key=lambda pair: pair[1])
        cost = usd.mean() / spent[:, best].mean()
        yield (
            cost,
            [
                weight,
                f"{score.mean():.4f}",
                f"{1000 * usd.mean():.4f}",
                f"{cost - 1:+.0%}",
                _interval(score - scores[:, best]),
                _interval(score - scores[:, single]),
                data.llms[pool[single]].llm_id,
                f"{data.llms[pool[busiest]].llm_id} {count / len(chosen):.0%}",
            ],
        )


def _interval(difference: F64) -> str:
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    return f"{100 * difference.mean():+.1f} \N{PLUS-MINUS SIGN} {100 * half:.1f}"


@click.command()
def main() -> None:
    """Print what routing is worth by cost weight, for the second night of the demo and for a later one."""
    data = read()
    headers = ["COST WEIGHT", "SCORE", "USD/1000", "COST", "POINTS", "AT ITS COST", "AGAINST", "BUSIEST"]
    click.echo(f"{len(data.scores):,} map and representative prompts, {_FOLDS} folds; no gate prompt is read.")
    for second in (SECOND_NIGHT, LATER_NIGHT):
        pool = data.released_by(second)
        rows = list(_rows(data, pool, *expected_out_of_fold(data, FIRST_NIGHT, second)))
        click.echo(f"\n{len(pool)} LLMs as of {second}; COST and POINTS against the best of them:\n")
        click.echo(table(headers, [row for _, row in rows], right=range(6)))
        if second == SECOND_NIGHT:
            _, (weight, *_) = min(rows, key=lambda row: abs(row[0] - WANTED_COST))
            click.echo(
                f"\nClosest to {WANTED_COST:.0%} of what it costs: {weight}. The demo's: {SANDBOX_COST_WEIGHT:g}."
            )


if __name__ == "__main__":
    main()
