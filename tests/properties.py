"""How many cases property tests draw: 25, or with ``UNIROUTE_TEST_PROPERTIES=full`` as many as each asks for."""

import os

from hypothesis import settings

IS_FULL = os.environ.get("UNIROUTE_TEST_PROPERTIES") == "full"
FEW = 25


def examples(number: int, **more: object) -> settings:
    """Ask for a number of cases; `more` are other settings of Hypothesis."""
    return settings(max_examples=number if IS_FULL else min(number, FEW), deadline=None, **more)


# Machines are shared: how long one example takes says nothing.
PROFILE = "uniroute"
settings.register_profile(PROFILE, examples(100))
