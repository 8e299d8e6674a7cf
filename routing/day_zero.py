"""What is expected of an LLM before its first answer."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import finite_number


@dataclass(frozen=True)
class LevelPrior:
    """What is expected of one LLM's level before its first answer.

    Attributes
    ----------
    mean
        Expected overall error. A regression may leave [0, 1] a little.
    variance
        Variance of the overall error around it, positive.

    Raises
    ------
    InvalidInput
        When a number is not finite, or the variance is not positive.
    """

    mean: float
    variance: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", finite_number(self.mean, "mean of a level", minimum=-1, maximum=2))
        variance = finite_number(self.variance, "variance of a level", minimum=1e-8, maximum=1)
        object.__setattr__(self, "variance", variance)
