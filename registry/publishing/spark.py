"""A published router as a function over a column of Spark, as consumers create it with MLflow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from registry.publishing.connection import open_client

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession


def spark_router(session: SparkSession, name: str, alias: str, *, tracking_url: str) -> Callable[[str], Column]:
    """Return a function that routes a column of prompts on Spark.

    Parameters
    ----------
    session
        The Spark session; its executors need Python with the packages that the version requires.
    name, alias
        The registered router, and the alias whose version is taken now; it does not follow later.
    tracking_url
        Where MLflow is.

    Returns
    -------
    Callable
        From the name of a column of texts to a column of structs with the columns that a version answers with.

    Raises
    ------
    PublishIncomplete
        If MLflow cannot be reached.
    MlflowException
        If there is no such version.
    """
    open_client(tracking_url)
    with warnings.catch_warnings():
        # MLflow warns about its own type hints when it is imported, and Spark about pandas 3, which tests use.
        warnings.filterwarnings("ignore", message="(?s).*(inferred as AnyType|not yet fully support pandas)")
        import mlflow.pyfunc

        former = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(tracking_url)
        try:
            return mlflow.pyfunc.spark_udf(session, f"models:/{name}@{alias}", env_manager="local")
        finally:
            mlflow.set_tracking_uri(former)
