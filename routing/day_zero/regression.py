"""Day 0: what the facts of an LLM say about its level before its first answer.

A ridge regression of the known LLMs' overall errors on four facts that catalogs and names give away: output price, day
of release, number of parameters and whether the LLM reasons before it answers. The strength of the penalty is averaged
over by exact leave-one-out error, and so is the error of the whole procedure: every known LLM is predicted from the
others, with everything fitted anew. Where that is not clearly better than the others' mean, nothing is expected.

Organisation and family were tried as random effects beside these facts and say nothing more on recorded outcomes; a
predecessor differs from its successor mostly by date and price, which are facts already.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np
import numpy.typing as npt

from ..checks import finite_number
from ..errors import InvalidInput
from ..prompt_weights import F64, I64

# Penalties of a standardised fact, in LLMs, that are averaged.
_PENALTIES = (1 / 3, 1.0, 3.0)
# Known LLMs with facts that a regression needs.
LEAST_KNOWN = 6
# Largest error of leaving one out, relative to that of the others' mean, that counts as saying something.
LARGEST_RATIO = 0.8
# Facts further from the known LLMs' mean than this many standard deviations are not extrapolated to.
_FARTHEST = 3.0
# Smallest standard deviation of a fitted level: few LLMs can lie on a line by chance.
_LEAST_DEVIATION = 0.03
_PRICE, _SIZE = 0, 2


@dataclass(frozen=True)
class LevelPrior:
    """What is expected of one LLM's level before its first answer.

    Attributes
    ----------
    mean
        Expected overall error.
    variance
        Variance of the overall error around it, positive.

    Raises
    ------
    InvalidInput
        When the mean is not in [0, 1], the variance not in [1e-8, 1].
    """

    mean: float
    variance: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", finite_number(self.mean, "mean of a level", minimum=0, maximum=1))
        variance = finite_number(self.variance, "variance of a level", minimum=1e-8, maximum=1)
        object.__setattr__(self, "variance", variance)


@dataclass(frozen=True)
class LLMFacts:
    """What is known of an LLM without asking it. A missing fact is None, never zero.

    Attributes
    ----------
    key
        Its key; only whether two are equal matters.
    output_usd_per_mtok
        Price of its answers in USD per million tokens; a price of zero says nothing and counts as missing.
    released_on
        Day of its release.
    parameters_b
        Parameters in billions.
    reasons
        Whether it reasons before it answers.
    """

    key: str
    output_usd_per_mtok: float | None = None
    released_on: date | None = None
    parameters_b: float | None = None
    reasons: bool = False

    @property
    def row(self) -> list[float]:
        """The facts as numbers: log price, years, log parameters, reasoning; NaN where one is missing."""
        return [
            _log(self.output_usd_per_mtok),
            math.nan if self.released_on is None else self.released_on.toordinal() / 365.25,
            _log(self.parameters_b),
            float(self.reasons),
        ]


@dataclass(frozen=True, eq=False)
class KnownFacts:
    """Facts of the LLMs that a prior is learned from, as finite arrays that can be stored.

    Attributes
    ----------
    codes : (m,) int64
        One number per LLM key.
    values : (m, 4) float64
        As `LLMFacts.row`; zero where a fact is missing.
    is_known : (m, 4) int32
        One where a fact is known.
    """

    codes: I64
    values: F64
    is_known: npt.NDArray[np.int32]

    @classmethod
    def of(cls, llms: Sequence[LLMFacts]) -> Self:
        """Put the facts of LLMs into arrays."""
        rows = np.array([llm.row for llm in llms], dtype=np.float64).reshape(-1, 4)
        known = np.isfinite(rows)
        codes = np.array([_code(llm.key) for llm in llms], dtype=np.int64)
        return cls(codes, np.where(known, rows, 0.0), known.astype(np.int32))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self | None:
        """Read what `arrays` returned; None when it is not among the arrays."""
        if "facts_codes" not in arrays:
            return None
        return cls(arrays["facts_codes"], arrays["facts_values"], arrays["facts_is_known"])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the facts as arrays by name."""
        return {"facts_codes": self.codes, "facts_values": self.values, "facts_is_known": self.is_known}

    @property
    def rows(self) -> F64:
        """The facts, (m, 4), NaN where one is missing."""
        return np.where(self.is_known > 0, self.values, np.nan)

    def of_keys(self, keys: Sequence[str]) -> KnownFacts | None:
        """Return the facts of some of the LLMs, in the order of their keys; None when one is not among them."""
        at = {code: place for place, code in enumerate(self.codes.tolist())}
        places = [at.get(_code(key)) for key in keys]
        if None in places:
            return None
        return KnownFacts(self.codes[places], self.values[places], self.is_known[places])

    def include(self, llm: LLMFacts) -> bool:
        """Whether an LLM is among them."""
        return bool(np.any(self.codes == _code(llm.key)))


@dataclass(frozen=True, eq=False)
class DayZero:
    """A fitted regression of levels on facts.

    Attributes
    ----------
    mean
        Mean level of the known LLMs.
    centre, scale : (4,) float64
        Mean and standard deviation of every fact; one that does not vary says nothing.
    size_of_price : (2,) or (0,) float64
        Intercept and slope by which missing log parameters follow from the log price; empty when few have both.
    weights : (4,) float64
        Change of the level per standard deviation of a fact.
    covariance : (4, 4) float64
        Of the weights, in units of `variance`.
    variance
        Variance of a level around the regression.
    n_known
        Known LLMs behind it.
    error, mean_error
        Root mean squared error of leaving one out: of the regression, and of the others' mean.
    """

    mean: float
    centre: F64
    scale: F64
    size_of_price: F64
    weights: F64
    covariance: F64
    variance: float
    n_known: int
    error: float
    mean_error: float

    @property
    def says_something(self) -> bool:
        """Whether leaving one out shows that the facts say more than the known LLMs' mean."""
        return self.n_known >= LEAST_KNOWN and self.error < LARGEST_RATIO * self.mean_error

    @property
    def why_off(self) -> str:
        """Why nothing is expected of new LLMs, as a clause; empty when something is."""
        if self.n_known < LEAST_KNOWN:
            return f"only {self.n_known} known LLMs, {LEAST_KNOWN} are needed"
        if self.says_something:
            return ""
        return (
            f"predicted from price, release date, size and reasoning, the {self.n_known} known LLMs are off by "
            f"{self.error:.3f}, and by {self.mean_error:.3f} from their mean alone"
        )

    @classmethod
    def fit(cls, known: KnownFacts, levels: npt.ArrayLike) -> DayZero:
        """Fit the regression and measure it by leaving one LLM out at a time.

        Parameters
        ----------
        known
            Facts of m LLMs.
        levels : array-like of shape (m,)
            Their overall errors, in [0, 1].

        Raises
        ------
        InvalidInput
            When there is not one finite level per LLM.
        """
        rows, errors = known.rows, np.asarray(levels, dtype=np.float64)
        if errors.shape != (len(rows),) or not np.isfinite(errors).all():
            raise InvalidInput(f"levels must be {len(rows)} finite numbers, got shape {errors.shape}")
        n = len(errors)
        if n < LEAST_KNOWN:
            zero = np.zeros(4)
            spread = float(errors.std()) if n else 0.0
            mean = float(errors.mean()) if n else 0.5
            return cls(mean, zero, zero, np.zeros(2), zero, np.zeros((4, 4)), 1.0, n, spread, spread)
        others = [np.delete(np.arange(n), i) for i in range(n)]
        missed = [_fitted(rows[rest], errors[rest])._at(rows[i])[0] - errors[i] for i, rest in enumerate(others)]
        from_mean = (errors - errors.mean()) * n / (n - 1)
        found = _fitted(rows, errors)
        return cls(**{**vars(found), "error": _size(np.array(missed)), "mean_error": _size(from_mean)})

    def level(self, llm: LLMFacts) -> LevelPrior | None:
        """Return what is expected of an LLM's level; None when the facts say nothing, or none of its facts is known.

        Parameters
        ----------
        llm
            Its facts.
        """
        row = np.array(llm.row)
        if not self.says_something or np.isnan(row[:3]).all():
            return None
        mean, apart = self._at(row)
        # The error of leaving one out is that of a typical LLM; an unusual one is less certain. With few LLMs that
        # error is itself uncertain: the factor is that of a t distribution with the degrees of freedom that are left.
        variance = max(self.variance * apart, self.error**2) * self.n_known / (self.n_known - 4)
        return LevelPrior(min(max(mean, 0.01), 0.99), min(max(variance, _LEAST_DEVIATION**2), 0.25))

    def _at(self, row: F64) -> tuple[float, float]:
        """Return the expected level at facts, and its variance in units of `variance`."""
        filled, missing = _completed(row[None], self.size_of_price)
        z = _standardised(filled, self.centre, self.scale)[0]
        apart = 1 + 1 / self.n_known + float(z @ self.covariance @ z)
        # A missing fact may be anything that the known LLMs' facts are.
        unknown = np.flatnonzero(missing[0])
        per_unit = self.weights[unknown] ** 2 / max(self.variance, 1e-12) + np.diag(self.covariance)[unknown]
        return float(self.mean + z @ self.weights), apart + float(per_unit.sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the regression as finite arrays by name."""
        numbers = [self.mean, self.variance, float(self.n_known), self.error, self.mean_error]
        return {
            "day_zero_numbers": np.array(numbers),
            "day_zero_facts": np.array([self.centre, self.scale, self.weights]),
            "day_zero_size_of_price": self.size_of_price,
            "day_zero_covariance": self.covariance,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> DayZero | None:
        """Read what `arrays` returned; None when it is not among the arrays."""
        if "day_zero_numbers" not in arrays:
            return None
        mean, variance, n_known, error, mean_error = (float(number) for number in arrays["day_zero_numbers"])
        centre, scale, weights = arrays["day_zero_facts"]
        between, covariance = arrays["day_zero_size_of_price"], arrays["day_zero_covariance"]
        return cls(mean, centre, scale, between, weights, covariance, variance, int(n_known), error, mean_error)


def _fitted(rows: F64, levels: F64) -> DayZero:
    """Fit without measuring: the error is that of the closed form, which knows the penalties."""
    between = _size_of_price(rows)
    filled, _ = _completed(rows, between)
    # A fact that nobody has does not vary.
    known = np.isfinite(filled)
    counts = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, filled, 0).sum(axis=0) / counts
    scale = np.sqrt((np.where(known, filled - centre, 0) ** 2).sum(axis=0) / counts)
    z = _standardised(filled, centre, scale)
    n, mean = len(levels), float(levels.mean())
    z_mean = z.mean(axis=0)
    gram = (z - z_mean).T @ (z - z_mean)
    side = (z - z_mean).T @ (levels - mean)
    found = []
    for penalty in _PENALTIES:
        inverse = np.linalg.inv(gram + penalty * np.eye(4))
        weights = inverse @ side
        kept = 1 - 1 / n - np.einsum("ij,jk,ik->i", z - z_mean, inverse, z - z_mean)
        missed = (levels - mean - (z - z_mean) @ weights) / kept
        found.append((weights, inverse, float(np.mean(missed**2)), float(np.mean(missed**2 * kept))))
    losses = np.maximum([loss for _, _, loss, _ in found], 1e-12)
    shares = (losses / losses.min()) ** (-n / 2)
    shares /= shares.sum()
    weights = np.sum([share * one[0] for share, one in zip(shares, found, strict=True)], axis=0)
    covariance = np.sum([share * one[1] for share, one in zip(shares, found, strict=True)], axis=0)
    variance = float(np.sum([share * one[3] for share, one in zip(shares, found, strict=True)]))
    at_zero = mean - float(z_mean @ weights)
    return DayZero(at_zero, centre, scale, between, weights, covariance, variance, n, 0.0, 0.0)


def _size_of_price(rows: F64) -> F64:
    """Regress log parameters on the log price, shrunk to no slope by one LLM; empty when too few name their size."""
    both = np.isfinite(rows[:, [_PRICE, _SIZE]]).all(axis=1)
    if np.count_nonzero(both) < 4:
        return np.zeros(0)
    price, size = rows[both, _PRICE], rows[both, _SIZE]
    apart = price - price.mean()
    slope = float(apart @ (size - size.mean())) / (float(apart @ apart) + 1)
    return np.array([size.mean() - slope * price.mean(), slope])


def _completed(rows: F64, size_of_price: F64) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Fill in sizes that follow from prices; return the rows, and which facts remain missing."""
    filled = rows.copy()
    if size_of_price.size:
        without = np.isnan(filled[:, _SIZE])
        filled[without, _SIZE] = size_of_price[0] + size_of_price[1] * filled[without, _PRICE]
    return filled, np.isnan(filled)


def _standardised(rows: F64, centre: F64, scale: F64) -> F64:
    """Return standard deviations from the mean; a missing fact is at the mean, one that does not vary says nothing."""
    varies = scale > 1e-6
    apart = np.where(varies, (rows - centre) / np.where(varies, scale, 1), 0)
    return np.clip(np.where(np.isnan(apart), 0, apart), -_FARTHEST, _FARTHEST)


def _log(value: float | None) -> float:
    return math.log(value) if value is not None and math.isfinite(value) and value > 0 else math.nan


def _size(errors: F64) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _code(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)
