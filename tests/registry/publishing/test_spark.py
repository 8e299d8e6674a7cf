"""The recipe for Spark in registry/publishing/README.md, run as it stands on a real local Spark.

It is run without anything of this repository.
"""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main
from tests.fakes.served import served_home
from tests.registry.publishing.samples import PROMPTS, Consumer, recipe

MISSING = [
    part
    for part, found in {
        "pyspark": importlib.util.find_spec("pyspark"),
        "Java": shutil.which("java") or os.environ.get("JAVA_HOME"),
    }.items()
    if not found
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"a local Spark needs {' and '.join(MISSING)}"),
]

ROWS = 3000
# Small batches of Arrow, so that Spark splits the prompts differently from any other caller.
SPARK_DEFAULTS = """
spark.master local[2]
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.ui.enabled false
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
spark.sql.execution.arrow.maxRecordsPerBatch 400
"""
MORE = """
import json

try:
    spark.sql("select * from values ('a'), (null) as t(prompt)").coalesce(1).select(route("prompt")).collect()
except Exception as error:
    refused = str(error)
print(json.dumps({"refused": refused, "plan": routed._jdf.queryExecution().executedPlan().toString()}))
"""


@dataclass(frozen=True)
class Routed:
    """The same prompts as three ways routed them, in their order, and what else Spark printed."""

    spark: pd.DataFrame
    pyfunc: pd.DataFrame
    file: pd.DataFrame
    said: dict[str, str]


def write_prompts(path: Path) -> list[str]:
    """Write texts of many lengths and kinds, beside other columns."""
    random = np.random.default_rng(0)
    words = np.array([*" ".join(PROMPTS).split(), *(f"word{number}" for number in range(200))])
    texts = ["", "\x00", "a\u2028b", "😀" * 1000, "word " * 20_000, *PROMPTS]
    texts += [" ".join(words[random.integers(0, len(words), n)]) for n in random.integers(1, 800, ROWS - len(texts))]
    table = pa.table({"id": pa.array(range(ROWS), pa.int32()), "prompt": texts, "team": ["x", None] * (ROWS // 2)})
    pq.write_table(table, path, row_group_size=1000)
    return texts


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory, migrated: Path, template: Path) -> Routed:
    import mlflow

    folder = tmp_path_factory.mktemp("spark")
    with served_home(folder / "home", migrated, template) as workspace:
        home = workspace.home
    url = f"sqlite:///{home / 'mlflow.db'}"
    consumer = Consumer.at(folder / "consumer", url)
    texts = write_prompts(consumer.folder / "prompts.parquet")
    said = run_on_spark(consumer, folder / "conf")

    former = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(url)
    loaded = mlflow.pyfunc.load_model("models:/uniroute@champion")
    mlflow.set_tracking_uri(former)
    target = folder / "routed.parquet"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UNIROUTE_HOME", str(home))
        patched.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
        options = ["--input", str(consumer.folder / "prompts.parquet"), "--output", str(target), "--cost-weight", "20"]
        with pytest.raises(SystemExit) as ended:
            main(["route", *options, "--chunk", "1100"])
    assert ended.value.code == 0
    return Routed(
        spark=pd.read_parquet(consumer.folder / "routed.parquet").sort_values("id", ignore_index=True),
        pyfunc=loaded.predict(pd.DataFrame({"prompt": texts}), params={"cost_weight": 20.0}),
        file=pd.read_parquet(target),
        said=said,
    )


def run_on_spark(consumer: Consumer, conf: Path) -> dict[str, str]:
    """Run the recipe and a little more in the consumer's folder, with a Spark that stays on loopback."""
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text(SPARK_DEFAULTS)
    consumer.environment.update(SPARK_CONF_DIR=str(conf), SPARK_LOCAL_IP="127.0.0.1")
    return consumer.run(recipe("spark_udf") + MORE, timeout_s=500)


def test_every_decision_on_spark_is_that_of_the_loaded_version_to_the_last_bit(routed: Routed) -> None:
    assert list(routed.spark.columns) == ["id", "prompt", "team", *routed.pyfunc.columns]
    assert len(set(routed.pyfunc["llm"])) > 1 and len(set(routed.pyfunc["cluster"])) > 1
    assert set(routed.spark["router_version"]) == {"uniroute/2"}
    for name in routed.pyfunc.columns:
        assert routed.spark[name].tolist() == routed.pyfunc[name].tolist(), name


def test_every_decision_on_spark_is_that_of_the_command_line_on_the_same_file(routed: Routed) -> None:
    for name in ("id", "prompt", "llm", "cluster", "router_digest"):
        assert routed.spark[name].tolist() == routed.file[name].tolist(), name
    assert routed.spark["team"].isna().tolist() == routed.file["team"].isna().tolist()
    # The command line adds up whole chunks in float32, a version each prompt in float64.
    for name in ("expected_score", "standard_error", "expected_cost_usd"):
        np.testing.assert_allclose(routed.spark[name], routed.file[name], rtol=1e-6)


def test_a_prompt_that_is_null_is_refused_on_spark_in_one_line(routed: Routed) -> None:
    assert routed.said["refused"].endswith("uniroute: row 1 of the column prompt is not text but null")


def test_each_prompt_is_routed_once_however_many_columns_are_taken(routed: Routed) -> None:
    assert routed.said["plan"].count("ArrowEvalPython") == 1
