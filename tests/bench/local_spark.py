"""A local Spark that stays on loopback, and a file of prompts routed with it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession


@contextmanager
def local_spark(cores: int, *, batch_rows: int) -> Iterator[SparkSession]:
    """Start Spark in a JVM of its own, which ends with this process.

    Parameters
    ----------
    cores
        Number of Python workers that route at the same time.
    batch_rows
        Maximum number of rows that a worker gets at a time.
    """
    # Both must be set before the JVM starts: its workers would look for `python3` on the path.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
        from pyspark.sql import SparkSession

        settings = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.execution.arrow.maxRecordsPerBatch": str(batch_rows),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        session = SparkSession.builder.master(f"local[{cores}]").config(map=settings).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        try:
            yield session
        finally:
            session.stop()


def route_with_spark(session: SparkSession, route: Callable[[str], Column], source: Path, target: Path) -> None:
    """Route the column `prompt` of a Parquet file into a folder of such files; all other columns are carried through.

    Parameters
    ----------
    session
        The Spark session.
    route
        Returns the column of decisions for a column of prompts.
    source
        The file.
    target
        The folder; replaced if it exists.
    """
    # A small file would be one partition, for one core.
    prompts = session.read.parquet(str(source)).repartition(session.sparkContext.defaultParallelism)
    routed = prompts.withColumn("routed", route("prompt")).select("*", "routed.*").drop("routed")
    routed.write.mode("overwrite").parquet(str(target))
