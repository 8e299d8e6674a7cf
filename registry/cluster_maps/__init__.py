"""Cluster maps and feature vectors as they are stored: arrays, and what they were derived from."""

from registry.cluster_maps.maps import (
    REFITTED,
    ClusterMapRecord,
    ClusterMaps,
    FitSettings,
    FittedMap,
    RefitRecord,
)
from registry.cluster_maps.vectors import StoredVector, VectorFields, vector_digest

__all__ = [
    "REFITTED",
    "ClusterMapRecord",
    "ClusterMaps",
    "FitSettings",
    "FittedMap",
    "RefitRecord",
    "StoredVector",
    "VectorFields",
    "vector_digest",
]
