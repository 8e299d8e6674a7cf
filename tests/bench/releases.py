"""Measure what refits are worth over a sequence of releases: ``make bench-releases DATA=FOLDER``.

The LLMs of a folder of recorded outcomes come one after the other, by their dates of release. The earliest third
answers the map prompts, and cluster map and prior are fitted on it; later LLMs answer representative prompts alone.
Before every sixth of the later LLMs arrives, the prior is fitted anew or left as it is (*frozen*), and a router over
all LLMs so far is measured on gate prompts. *Refitted* is what ``[routing.refit]`` does: later LLMs teach by the
representative prompts that judge nothing. *All* would let them teach by all they answered, and *asked* by the map
prompts, too, if they had been asked those: what no refit without calls can reach.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from flows.bench.folder import read_folder
from flows.bench.protocol import FEW_SHARE, Split
from flows.fitting.folds import teaching
from flows.text import table
from routing.cluster_maps import one_thread
from routing.deferral import area, deferral_curve
from routing.estimator import PosteriorEstimator
from routing.later_llms import taught_by_later

F32, F64, I64 = NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]

FOUNDING, STEPS = 1 / 3, 6
WAYS = ("frozen", "refitted", "all", "asked")


@dataclass(frozen=True, eq=False)
class Releases:
    """Recorded outcomes in the order of release.

    Attributes
    ----------
    embeddings : (n, dim) float32
    texts
        Of the n prompts.
    scores, costs_usd : (n, m) float64
        Columns by date of release.
    dates
        Dates of release.
    """

    embeddings: F32
    texts: tuple[str, ...]
    scores: F64
    costs_usd: F64
    dates: tuple[str, ...]

    @classmethod
    def read(cls, data: Path, embeddings: Path | None = None) -> Releases:
        """Read a folder; embeddings from an ``.npz`` file with the array ``X``, or computed with the default."""
        import pandas as pd

        from routing.embedders import load_embedder

        folder = read_folder(data)
        released = pd.read_parquet(data / "models.parquet").set_index("model")["released"]
        dates = [str(released[name]) for name in folder.llms]
        order = np.argsort(dates, kind="stable")
        texts = tuple(prompt.text for prompt in folder.prompts)
        found = load_embedder("all-MiniLM-L6-v2").embed(texts) if embeddings is None else np.load(embeddings)["X"]
        by_date = folder.scores[:, order], folder.costs_usd[:, order]
        return cls(found, texts, *by_date, tuple(dates[place] for place in order))

    @property
    def arrivals(self) -> list[I64]:
        """The columns of the founding LLMs, then those that arrive at each step."""
        n_founding = max(2, round(FOUNDING * len(self.dates)))
        later = np.arange(n_founding, len(self.dates))
        return [np.arange(n_founding), *np.array_split(later, min(STEPS, len(later)))]

    def areas(self, n_val: int, seed: int) -> Iterator[tuple[int, Mapping[str, float]]]:
        """Yield, after each arrival that follows an earlier one, the number of LLMs and the area of each way."""
        split = Split.draw(len(self.texts), 2, n_val, seed=seed)
        founding, *later = self.arrivals
        frozen = self._fitted(split, founding, seed)
        teaches = split.few[teaching([self.texts[row] for row in split.few])]
        for step, arrived in enumerate(later[1:], start=1):
            taught_by = np.concatenate(later[:step])
            known, pool = np.concatenate([founding, taught_by]), np.arange(arrived[-1] + 1)
            ways = {
                "frozen": frozen,
                "refitted": self._taught(frozen, split, founding, taught_by, teaches),
                "all": self._taught(frozen, split, founding, taught_by, split.few),
                "asked": self._fitted(split, known, seed),
            }
            yield len(pool), {name: self._area(estimator, split, pool) for name, estimator in ways.items()}

    def _fitted(self, split: Split, llms: I64, seed: int) -> PosteriorEstimator:
        (rows, errors), few = (self._answers(part, llms) for part in (split.map, split.few))
        return PosteriorEstimator(random_state=seed).fit(rows, errors, few=few)

    def _taught(
        self, frozen: PosteriorEstimator, split: Split, founding: I64, later: I64, taught_by: I64
    ) -> PosteriorEstimator:
        return taught_by_later(frozen, self._answers(split.map, founding), self._answers(taught_by, later))

    def _answers(self, rows: I64, llms: I64) -> tuple[F32, F64]:
        return self.embeddings[rows], 1 - self.scores[np.ix_(rows, llms)]

    def _area(self, estimator: PosteriorEstimator, split: Split, llms: I64) -> float:
        psi = estimator.coefficients(*self._answers(split.few, llms))
        expected = estimator.cluster_map_.weights(self.embeddings[split.gate]) @ psi
        costs_usd = self.costs_usd[np.ix_(split.gate, llms)]
        means = np.tile(self.costs_usd[np.ix_(split.few, llms)].mean(axis=0), (len(costs_usd), 1))
        scores = self.scores[np.ix_(split.gate, llms)]
        reference = float(costs_usd.mean(axis=0).max()) or 1.0
        return area(deferral_curve(expected, means, scores, costs_usd, reference_cost_usd=reference))


def sign_test(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of a sign test; ties are left out."""
    from scipy.stats import binomtest

    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def report(found: Mapping[int, Mapping[str, NDArray[np.float64]]]) -> str:
    """Return areas along the sequence, and in how many splits each way is above the frozen prior.

    Parameters
    ----------
    found
        By number of LLMs, the areas of each way, ``(splits,)``.
    """
    sequence = {name: np.mean([areas[name] for areas in found.values()], axis=0) for name in WAYS}
    rows = []
    for label, areas in [*((f"{n} LLMs", areas) for n, areas in found.items()), ("mean", sequence)]:
        cells = [f"{areas['frozen'].mean():.4f}"]
        for name in WAYS[1:]:
            gained = areas[name] - areas["frozen"]
            share = f"{int((gained > 0).sum())}/{len(gained)}"
            cells.append(f"{areas[name].mean():.4f} ({share}, p = {sign_test(gained):.2g})")
        rows.append([label, *cells])
    return table(["RELEASED", "FROZEN", *(name.upper() for name in WAYS[1:])], rows)


def measured(releases: Releases, *, splits: int, n_val: int) -> dict[int, dict[str, F64]]:
    """Return the areas by number of LLMs and way, one per split; equal for any number of threads."""
    with one_thread():
        per_split = [dict(releases.areas(n_val, seed)) for seed in range(splits)]
    return {n: {name: np.array([one[n][name] for one in per_split]) for name in WAYS} for n in per_split[0]}


def main() -> None:
    """Measure a folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of recorded outcomes whose models.parquet has `released`")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--n-val", type=int, help="representative prompts; a tenth by default")
    parser.add_argument("--embeddings", type=Path, help=".npz with the embeddings of the prompts as X")
    given = parser.parse_args()
    releases = Releases.read(given.data, given.embeddings)
    n_val = given.n_val or round(FEW_SHARE * len(releases.texts))
    click.echo(f"{given.data.name}: {len(releases.dates)} LLMs, {given.splits} splits, {n_val} representative prompts")
    click.echo(report(measured(releases, splits=given.splits, n_val=n_val)))


if __name__ == "__main__":
    main()
