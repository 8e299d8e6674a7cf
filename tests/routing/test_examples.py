import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["baselines", "cluster_maps", "deferral", "features", "router"])
def test_the_examples_in_the_documentation_are_correct(name):
    found = doctest.testmod(importlib.import_module(f"routing.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
