"""Estimators of feature vectors as arrays, so that a later night computes the vector of a new LLM without refitting.

Three kinds: `kmeans` and `learned_map`, the paper's plain means for a hard and for a learned cluster map, and
`posterior`, the default. An estimator that is read back computes the same vectors, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from .day_zero import DayZero, KnownFacts, LevelPrior
from .errors import ArtifactCorrupt
from .estimator import PosteriorEstimator
from .features import FeatureVector, plain_feature_vector
from .posterior.calibration import NOT_CALIBRATED, Calibration
from .posterior.choice import Choice, Lessons
from .posterior.feature_space import FeatureSpace
from .posterior.fitted import FittedPosterior
from .posterior.inference import LEVEL_VARIANCE, Prior, Shrinkage
from .prompt_weights import ClusterMap

Kind = Literal["kmeans", "learned_map", "posterior"]

ASKED = "n_clusters_asked"
"""The array of a learned map that holds how many clusters the settings asked for; 0 when simulation chose."""

_MAP, _START = "map_", "start_"
_SPACE = ("n_resolution_columns", "shown_start")


class PreparedPrompts(Protocol):
    """Prompts that LLMs were asked, prepared for their vectors: `PosteriorPrompts` or `PlainPrompts`."""

    def vector(
        self,
        scored: npt.NDArray[np.bool_],
        scores: npt.ArrayLike,
        input_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        *,
        n_prompts: int,
        estimated_tokens: npt.ArrayLike | None = None,
        level: LevelPrior | None = None,
    ) -> FeatureVector:
        """Return the vector of one LLM from the scores and tokens of the prompts it has a score for."""
        ...


@dataclass(frozen=True, eq=False)
class PlainEstimator:
    """Estimate plain cluster means, as UniRoute defines them (section 5.1), on a hard cluster map.

    Attributes
    ----------
    cluster_map_
        The fitted map.
    """

    cluster_map_: ClusterMap

    def prepared(self, X: npt.ArrayLike) -> PlainPrompts:
        """Assign prompts to clusters, once for all vectors.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        return PlainPrompts(self.cluster_map_.assign(X), self.cluster_map_.n_clusters)


@dataclass(frozen=True, eq=False)
class LearnedEstimator:
    """Estimate plain cluster means for a learned map, as UniRoute defines them (section 5.2).

    Attributes
    ----------
    cluster_map_
        The learned map, which weighs clusters.
    start
        The hard map that it was learned from: the same clusters, in which answers are averaged.
    n_training_llms_
        Number of LLMs whose answers it was learned from.
    n_clusters_asked
        Number of clusters that the settings asked for; 0 when simulation chose it.
    """

    cluster_map_: ClusterMap
    start: ClusterMap
    n_training_llms_: int
    n_clusters_asked: int

    def prepared(self, X: npt.ArrayLike) -> PlainPrompts:
        """Assign prompts to clusters, once for all vectors.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        return PlainPrompts(self.start.assign(X), self.start.n_clusters)


Estimator = PlainEstimator | LearnedEstimator | PosteriorEstimator


def kind_of(estimator: Estimator) -> Kind:
    """Return the kind under which an estimator is stored."""
    if isinstance(estimator, PlainEstimator):
        return "kmeans"
    return "learned_map" if isinstance(estimator, LearnedEstimator) else "posterior"


@dataclass(frozen=True, eq=False)
class PlainPrompts:
    """Prompts that LLMs were asked, by cluster.

    Attributes
    ----------
    clusters : (n,) int64
        Cluster of every prompt.
    n_clusters
        Number of clusters of the map.
    """

    clusters: npt.NDArray[np.int64]
    n_clusters: int

    def vector(
        self,
        scored: npt.NDArray[np.bool_],
        scores: npt.ArrayLike,
        input_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        *,
        n_prompts: int,
        estimated_tokens: npt.ArrayLike | None = None,
        level: LevelPrior | None = None,
    ) -> FeatureVector:
        """Return the mean error of one LLM per cluster; see `plain_feature_vector`.

        Parameters
        ----------
        scored : (n,) bool
            Which of the prompts it has a score for; N of them.
        scores, input_tokens, output_tokens : array-like of shape (N,)
            Its scores in [0, 1], tokens of the prompts and of its answers.
        n_prompts
            Prompts it was asked, at least N.
        estimated_tokens : array-like of shape (N,), optional
            Input tokens as `estimated_input_tokens` returns them.
        level
            Ignored: a mean has no prior.
        """
        return plain_feature_vector(
            self.clusters[scored],
            scores,
            input_tokens,
            output_tokens,
            n_clusters=self.n_clusters,
            n_prompts=n_prompts,
            estimated_tokens=estimated_tokens,
        )


def estimator_arrays(estimator: Estimator) -> dict[str, np.ndarray]:
    """Return everything that a fitted estimator needs, as finite arrays by name.

    Parameters
    ----------
    estimator
        A fitted estimator.
    """
    arrays = {f"{_MAP}{name}": values for name, values in estimator.cluster_map_.arrays().items()}
    if isinstance(estimator, PlainEstimator):
        return arrays
    if isinstance(estimator, LearnedEstimator):
        numbers = ("n_training_llms", estimator.n_training_llms_), (ASKED, estimator.n_clusters_asked)
        arrays |= {f"{_START}{name}": values for name, values in estimator.start.arrays().items()}
        return arrays | {name: np.array([number], dtype=np.int64) for name, number in numbers}
    fitted, chosen = estimator._fitted, estimator.choice_.shrinkages
    if estimator.facts_ is not None and estimator.day_zero_ is not None:
        arrays |= estimator.facts_.arrays() | estimator.day_zero_.arrays()
    kept = {"overall": fitted.overall, "asked": estimator.asked_}
    arrays |= {name: values for name, values in kept.items() if values is not None}
    priors = dict(sorted(fitted.lessons.priors.items()))
    return arrays | {
        "space": np.array([getattr(fitted.space, name) for name in _SPACE], dtype=np.int64),
        "contrast": np.array([estimator.choice_.contrast]),
        "shrinkages": np.array([[s.variance, s.profile_scale, float(s.n_directions)] for s in chosen]),
        "prior_of_scale": np.array(list(priors), dtype=np.float64),
        "prior_means": np.array([prior.mean for prior in priors.values()]),
        **_stored_directions(fitted, priors),
        "prior_scales": np.array([prior.scales for prior in priors.values()]),
        "shown": fitted.shown,
        "n_training_llms": np.array([estimator.n_training_llms_], dtype=np.int64),
    }


def _stored_directions(fitted: FittedPosterior, priors: Mapping[float, Prior]) -> dict[str, np.ndarray]:
    """Return what estimators of earlier releases have less of: one direction, and no difficulties."""
    directions = np.array([prior.directions for prior in priors.values()])
    if directions.shape[2] == 1:
        return {"prior_directions": directions[:, :, 0]}
    variances = np.array([prior.variances for prior in priors.values()])
    factors = fitted.choice.calibration
    return {
        "prior_directions": directions,
        "prior_variances": variances,
        "items": fitted.lessons.items,
        "calibration": np.array([factors.level, factors.clusters]),
    }


def arrays_digest(kind: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the identity of a stored estimator: SHA-256 over its kind and arrays.

    Parameters
    ----------
    kind
        As `kind_of` returns it.
    arrays
        As `estimator_arrays` returns them.
    """
    summary = hashlib.sha256(kind.encode())
    for name, values in sorted(arrays.items()):
        summary.update(f"\n{name} {values.dtype.str} {values.shape}\n".encode())
        summary.update(np.ascontiguousarray(values).tobytes())
    return summary.hexdigest()


def read_estimator(kind: str, arrays: Mapping[str, np.ndarray]) -> Estimator:
    """Rebuild an estimator from its arrays.

    Parameters
    ----------
    kind
        As `kind_of` returned it.
    arrays
        As `estimator_arrays` returned them.

    Raises
    ------
    ArtifactCorrupt
        When the kind is unknown or an array is missing.
    """
    try:
        cluster_map = _read_map(kind, _MAP, arrays)
        if kind == "kmeans":
            return PlainEstimator(cluster_map)
        if kind == "learned_map":
            numbers = (int(arrays[name][0]) for name in ("n_training_llms", ASKED))
            return LearnedEstimator(cluster_map, _read_map("kmeans", _START, arrays), *numbers)
        if kind != "posterior":
            raise ArtifactCorrupt(f"no estimator is called {kind!r}")
        return _read_posterior(cluster_map, arrays)
    except KeyError as error:
        raise ArtifactCorrupt(f"the stored {kind} estimator lacks {error}") from None


def _read_map(kind: str, prefix: str, arrays: Mapping[str, np.ndarray]) -> ClusterMap:
    return ClusterMap.from_arrays(
        kind, {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    )


def _read_posterior(cluster_map: ClusterMap, arrays: Mapping[str, np.ndarray]) -> PosteriorEstimator:
    estimator = PosteriorEstimator()
    shrinkages = tuple(Shrinkage(float(v), float(s), int(q)) for v, s, q in arrays["shrinkages"])
    calibration = Calibration(*map(float, arrays["calibration"])) if "calibration" in arrays else NOT_CALIBRATED
    estimator.choice_ = Choice(float(arrays["contrast"][0]), shrinkages, {}, calibration)
    estimator.cluster_map_ = cluster_map
    estimator.n_training_llms_ = int(arrays["n_training_llms"][0])
    space = FeatureSpace(cluster_map, **{name: int(value) for name, value in zip(_SPACE, arrays["space"], strict=True)})
    scales = arrays["prior_scales"]
    items = arrays.get("items", np.zeros((0, 0), dtype=np.float32))
    directions = arrays["prior_directions"]
    if directions.ndim == 2:
        directions, variances = directions[:, :, None], np.zeros_like(scales)
        variances[:, 0] = LEVEL_VARIANCE
    else:
        variances = arrays["prior_variances"]
    rows = zip(arrays["prior_means"], directions, scales, variances, strict=True)
    priors = {float(scale): Prior(*row) for scale, row in zip(arrays["prior_of_scale"], rows, strict=True)}
    overall = arrays.get("overall")
    estimator._fitted = FittedPosterior(space, estimator.choice_, Lessons(priors, items), arrays["shown"], overall)
    estimator.asked_ = arrays.get("asked")
    estimator.facts_, estimator.day_zero_ = KnownFacts.from_arrays(arrays), DayZero.from_arrays(arrays)
    return estimator
