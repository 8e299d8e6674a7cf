"""The settings in force, where they come from, and whether a night would start with them."""

import json
from pathlib import Path

import jsonschema
import pytest

from flows.config.loading import load_settings
from tests.commands import Uniroute

PROMPTS = "".join(
    json.dumps({"prompt_id": f"p{n}", "text": f"question {n}", "reference": "ABCD"[n % 4], "grader": "choice"}) + "\n"
    for n in range(200)
)
FILE = """
[prompts]
file = "prompts.jsonl"
[budget]
night_usd = 3
llm_usd = 2
[mlflow]
tracking_url = "https://me:hunter2@mlflow.example/path?token=s3cret&x=1"
[[catalog]]
name = "mine"
kind = "toml"
location = "llms.toml"
endpoint = "here"
[[endpoint]]
name = "here"
base_url = "http://127.0.0.1:9/v1"
"""


@pytest.fixture
def written(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "prompts.jsonl").write_text(PROMPTS)
    (tmp_path / "llms.toml").write_text(
        '[[llm]]\nid = "small"\nreleased = 2024-01-01\ninput_usd_per_mtok = 0.1\noutput_usd_per_mtok = 0.2\n'
    )
    path = tmp_path / "uniroute.toml"
    path.write_text(FILE)
    return path


def test_every_setting_is_shown_with_its_origin(
    written: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIROUTE_BUDGET__LLM_USD", "1.5")
    data = uniroute("config", "show", "--json").data
    found = {row["key"]: (row["value"], row["origin"]) for row in data["settings"]}
    assert found["budget.night_usd"] == ("3", "uniroute.toml")
    assert found["budget.llm_usd"] == ("1.5", "environment")
    assert found["budget.call_usd"] == ("0.50", "default")
    assert found["home"][1] == "environment"
    assert found["endpoint[0].base_url"] == ("http://127.0.0.1:9/v1", "uniroute.toml")
    assert found["endpoint[0].concurrency"] == (16, "default")
    assert data["settings_hash"] == load_settings().digest
    text = uniroute("config", "--origin").out
    assert "ORIGIN" in text
    assert "budget.llm_usd" in text


def test_no_password_and_no_access_key_is_shown(written: Path, uniroute: Uniroute) -> None:
    for said in (uniroute("config").out, uniroute("config", "--json").out):
        assert "https://me:***@mlflow.example/path?token=***&x=1" in said
        assert "hunter2" not in said
        assert "s3cret" not in said


def test_an_unknown_key_is_refused_with_the_nearest_one(written: Path, uniroute: Uniroute) -> None:
    written.write_text("[budget]\nnigth_usd = 3\n")
    refused = uniroute("config", "validate", "--json")
    assert refused.code == 78
    error = json.loads(refused.out)["error"]
    assert (error["kind"], error["exit_code"]) == ("configuration", 78)
    assert "'night_usd'" in error["message"]


def test_valid_settings_are_called_valid_and_leave_no_trace(written: Path, uniroute: Uniroute, tmp_path: Path) -> None:
    before = (tmp_path / "home" / "registry.db").read_bytes()
    found = uniroute("config", "validate")
    assert found.code == 0
    assert "200 prompts: 120 map" in found.out
    assert (tmp_path / "home" / "registry.db").read_bytes() == before


def test_a_part_that_does_not_answer_is_named_when_everything_is_asked(
    written: Path, uniroute: Uniroute, tmp_path: Path
) -> None:
    written.write_text(FILE.replace(FILE[FILE.index("[mlflow]") : FILE.index("[[catalog]]")], ""))
    found = uniroute("config", "validate", "--connect", "--json")
    parts = {row["part"]: row for row in found.data["parts"]}
    assert found.code == 75
    assert not found.data["is_valid"]
    assert [name for name, row in parts.items() if not row["is_fine"]] == ["endpoint here"]
    assert parts["endpoint here"]["finding"].startswith("endpoint here at http")
    assert parts["catalog mine"]["finding"] == "1 LLM"
    assert "champion is version 2" in parts["mlflow"]["finding"]


def test_the_schema_accepts_the_file_and_refuses_a_misspelt_key(written: Path, uniroute: Uniroute) -> None:
    import tomllib

    schema = json.loads(uniroute("config", "schema").out)
    assert schema == uniroute("config", "schema", "--json").data
    content = tomllib.loads(FILE)
    jsonschema.validate(content, schema)
    content["budget"]["nigth_usd"] = 3
    with pytest.raises(jsonschema.ValidationError, match="nigth_usd"):
        jsonschema.validate(content, schema)


@pytest.mark.filterwarnings("default::flows.errors.RenamedSetting")
def test_a_renamed_setting_is_a_warning_for_people_and_machines(written: Path, uniroute: Uniroute) -> None:
    written.write_text(FILE + "[gate]\nfalse_promotions = 0.01\n")
    said = uniroute("config", "show", "--json")
    (warning,) = json.loads(said.out)["warnings"]
    assert warning.startswith("The setting gate.false_promotions (in uniroute.toml) is now called false_promotion_rate")
    assert warning in said.err
    found = {row["key"]: row["value"] for row in said.data["settings"]}
    assert found["gate.false_promotion_rate"] == 0.01
