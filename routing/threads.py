"""One thread for sums whose last bits matter: BLAS adds in another order for another number of threads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[object]:
    """Keep the numerical libraries to one thread within the context: what is computed may go into digests.

    The libraries of this process are looked up once, at the first call: that alone takes ten milliseconds.
    """
    return _controller().limit(limits=1)


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
