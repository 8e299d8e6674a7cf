"""The same inputs give the same router and the same decisions in any process and for any number of threads."""

import os
import subprocess
import sys

import pytest

CHILD = """
import hashlib
import numpy as np
from routing import ClusterMap, EmbedderId, KMeansMap, PosteriorEstimator, RoutedLLM, Router, plain_feature_vector

rng = np.random.default_rng(0)
rows = rng.standard_normal((3000, 64)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
fitted = KMeansMap(n_clusters=12).fit(rows).fitted_
centres = fitted.matrix
summary = []
for cluster_map in (fitted, ClusterMap.soft(centres, 8.0)):
    clusters = cluster_map.assign(rows[:600])
    llms = []
    for j in range(9):
        # The last three LLMs repeat the first three under other keys: every one of their prompts is a tie.
        answers = np.random.default_rng(j % 6)
        vector = plain_feature_vector(
            clusters, answers.integers(0, 2, 600), answers.integers(1, 99, 600), answers.integers(1, 99, 600),
            n_clusters=cluster_map.n_clusters, n_prompts=600,
        )
        llms.append(RoutedLLM(f"llm-{j}", 0.1 * (j % 6), 0.3 * (j % 6), vector))
    router = Router(
        cluster_map, llms, embedder=EmbedderId("fake", "1", 64), cost_weight=200.0,
        calibration_weights=cluster_map.exact_weights(rows[:600]).astype(np.float32),
    )
    # Prompts halfway between two centres are where rounding decides.
    midpoints = np.concatenate([centres + np.roll(centres, shift, axis=0) for shift in range(1, 12)])
    asked = np.vstack([rows, midpoints / np.linalg.norm(midpoints, axis=1, keepdims=True)])
    chosen = router.route(asked).llm_index
    assert chosen.max() < 6, "a tie went to the later key"
    singles = [router.keys.index(router.decide(row).llm) for row in asked[::37]]
    assert singles == chosen[::37].tolist()
    tokens = np.random.default_rng(1).uniform(0, 5000, len(asked))
    by_tokens = router.route(asked, input_tokens=tokens).llm_index
    assert by_tokens.max() < 6 and (by_tokens != chosen).any()
    singles = [router.keys.index(router.decide(asked[i], input_tokens=tokens[i]).llm) for i in range(0, len(asked), 37)]
    assert singles == by_tokens[::37].tolist()
    summary += [router.digest, *(hashlib.sha256(found.tobytes()).hexdigest() for found in (chosen, by_tokens))]

# The default: a posterior with holes in its labels, fitted from scratch.
answers = np.random.default_rng(2).random((1000, 6))
errors = (answers < 0.3 + 0.3 * (rows[:1000, :6] > 0)).astype(float)
errors[::50, 1] = np.nan
estimator = PosteriorEstimator().fit(rows[:1000], errors, few=(rows[1000:1200], errors[:200]))
llms = []
for j in range(6):
    scored = np.isfinite(errors[:200, j])
    tokens = np.full(scored.sum(), 50.0)
    vector = estimator.vector(
        rows[1000:1200][scored], 1 - errors[:200, j][scored], tokens, tokens, n_prompts=200
    )
    llms.append(RoutedLLM(f"llm-{j}", 0.1 * j, 0.3 * j, vector))
router = Router(
    estimator.cluster_map_, llms, embedder=EmbedderId("fake", "1", 64), cost_weight=200.0,
    calibration_weights=estimator.cluster_map_.exact_weights(rows[:50]).astype(np.float32),
)
chosen = router.route(rows).llm_index
assert [router.keys.index(router.decide(row).llm) for row in rows[::37]] == chosen[::37].tolist()
summary += [router.digest, hashlib.sha256(chosen.tobytes()).hexdigest()]
print(" ".join(summary))
"""


def child(threads: int, seed: str) -> str:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def one_thread() -> str:
    return child(1, "0")


@pytest.mark.parametrize(("threads", "seed"), [(2, "2"), (7, "4")])
def test_threads_and_processes_change_neither_digest_nor_decision(one_thread, threads, seed):
    assert child(threads, seed) == one_thread
