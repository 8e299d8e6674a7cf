"""Router folder -> MLflow version, idempotent by publish key; and the code that consumers run when they load one.

The only place that imports MLflow, and only inside functions: importing this package is cheap.
"""

from __future__ import annotations

from registry.publishing.markdown import markdown, one_line
from registry.publishing.publisher import RouterPublisher
from registry.publishing.read import HEAD_TAG, VersionDescription
from registry.publishing.request import ALIASES, DownloadedVersion, PublishedVersion, PublishRequest, is_lookalike

__all__ = [
    "ALIASES",
    "HEAD_TAG",
    "DownloadedVersion",
    "PublishRequest",
    "PublishedVersion",
    "RouterPublisher",
    "VersionDescription",
    "is_lookalike",
    "markdown",
    "one_line",
]
