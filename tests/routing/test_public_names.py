import subprocess
import sys

import pytest

import routing

PROMISED = [
    "ArtifactCorrupt",
    "ArtifactError",
    "ArtifactIncompatible",
    "ArtifactTooNew",
    "BootstrapDifference",
    "ClusterMap",
    "Decision",
    "Decisions",
    "DeferralCurve",
    "Embedder",
    "EmbedderId",
    "EmbedderUnavailable",
    "Expected",
    "FORMATS",
    "FeatureVector",
    "HashingEmbedder",
    "InvalidInput",
    "InvalidProfile",
    "KMeansMap",
    "Manifest",
    "NoEligibleLLM",
    "PosteriorEstimator",
    "Qnc",
    "RoutedLLM",
    "Router",
    "RoutingError",
    "SentenceTransformerEmbedder",
    "UnirouteError",
    "ZeroRouter",
    "aiq",
    "area",
    "deferral_curve",
    "estimated_input_tokens",
    "load_embedder",
    "load_embedder_for",
    "load_router",
    "paired_bootstrap",
    "peak",
    "plain_feature_vector",
    "qnc",
    "save_router",
    "scores_at_costs",
]


def test_the_promised_names_are_these_and_sorted():
    assert routing.__all__ == PROMISED == sorted(PROMISED)
    assert dir(routing) == PROMISED


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_is_there_and_documented(name):
    value = getattr(routing, name)
    assert name == "FORMATS" or value.__doc__


def test_other_names_are_not_public():
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = routing.anything


@pytest.mark.parametrize("name", ["load_router", "Router", "Decision", "deferral_curve", "load_embedder"])
def test_routing_a_prompt_needs_numpy_only(name):
    heavy = "{'sklearn', 'scipy', 'torch', 'sentence_transformers', 'transformers'}"
    check = f"import sys, routing; routing.{name}; assert not {heavy} & set(sys.modules), sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
