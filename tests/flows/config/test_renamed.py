"""Renamed settings: the old key works for one release, with a warning; what is stored of a night's settings stays."""

import json
import warnings
from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.config.origin import settings_in_force
from flows.config.settings import Settings
from flows.errors import PrerequisiteError, RenamedSetting

ENDPOINT = '[[endpoint]]\nname = "here"\nbase_url = "http://127.0.0.1:9/v1"\n'
RENAMED = [
    ("[gate]\nfalse_promotions = 0.01\n", "UNIROUTE_GATE__FALSE_PROMOTIONS", "0.01", "gate.false_promotion_rate"),
    ("[fan_out]\nstart_within_s = 7\n", "UNIROUTE_FAN_OUT__START_WITHIN_S", "7", "fan_out.worker_start_timeout_s"),
    (
        ENDPOINT + 'may_serve = ["b"]\n',
        "UNIROUTE_ENDPOINT",
        '[{"name": "here", "base_url": "http://127.0.0.1:9/v1", "may_serve": ["b"]}]',
        "endpoint[0].accepted_names",
    ),
]
VALUES = {"gate": 0.01, "fan_out": 7.0, "endpoint[0]": ["b"]}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))


def value_and_origin(key: str) -> tuple[object, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedSetting)
        return next((one.value, one.origin) for one in settings_in_force(None) if one.key == key)


@pytest.mark.parametrize(("written", "variable", "value", "key"), RENAMED, ids=lambda one: str(one)[:20])
def test_an_old_key_works_in_the_file_and_is_warned_of(
    written: str, variable: str, value: str, key: str, tmp_path: Path
) -> None:
    (tmp_path / "uniroute.toml").write_text(written)
    section, _, new = key.rpartition(".")
    with pytest.warns(RenamedSetting, match=rf"\(in uniroute\.toml\) is now called {new};"):
        load_settings()
    assert value_and_origin(key) == (VALUES[section], "uniroute.toml")


@pytest.mark.parametrize(("written", "variable", "value", "key"), RENAMED, ids=lambda one: str(one)[:20])
def test_an_old_key_works_in_the_environment_and_is_warned_of(
    written: str, variable: str, value: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    section, _, new = key.rpartition(".")
    with pytest.warns(RenamedSetting, match=rf"\(in the environment variable {variable}\) is now called {new};"):
        load_settings()
    assert value_and_origin(key) == (VALUES[section], "environment")


def test_new_keys_are_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "uniroute.toml").write_text(
        "[gate]\nfalse_promotion_rate = 0.01\n" + ENDPOINT + 'accepted_names = ["b"]'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = load_settings()
    assert settings.gate.false_promotion_rate == 0.01
    assert settings.endpoint[0].accepted_names == ("b",)


@pytest.mark.parametrize(
    ("written", "variables", "sources"),
    [
        ("[gate]\nfalse_promotions = 0.01\nfalse_promotion_rate = 0.01\n", {}, "uniroute.toml"),
        (
            "[gate]\nfalse_promotions = 0.01\nepsilon = 0.1\n",
            {"UNIROUTE_GATE__FALSE_PROMOTION_RATE": "0.01", "UNIROUTE_GATE__RESAMPLES": "500"},
            "uniroute.toml and the environment variable UNIROUTE_GATE__FALSE_PROMOTION_RATE",
        ),
    ],
)
def test_both_keys_at_once_are_an_error_that_names_both_sources(
    written: str, variables: dict[str, str], sources: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uniroute.toml").write_text(written)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PrerequisiteError) as refused:
        load_settings()
    assert (
        f"(in {sources}) is refused: false_promotions is the old name of false_promotion_rate" in refused.value.message
    )


def test_a_wrong_value_under_an_old_key_is_named_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIROUTE_GATE__FALSE_PROMOTIONS", "7")
    with pytest.raises(PrerequisiteError, match="in the environment variable UNIROUTE_GATE__FALSE_PROMOTIONS"):
        load_settings()


# What release 0.1.0 computed and stored, before the keys were renamed.
DEFAULT_DIGEST = "54212b7b361ba70b95bbe0aba04fd7f7040c9bbf371ae3b9a413e8dfc1750b73"
CHOSEN_DIGEST = "369502a6f7ca688763a812916651e9e3e7701360eb60585ffd6012b2d6fdf458"
STORED = (
    '{"budget":{"call_usd":"0.50","llm_usd":"12","night_usd":"7.5"},"catalog":[{"endpoint":"open","exclude":[],"free":[]'
    ',"include":["a/*"],"kind":"openrouter","location":"https://openrouter.ai/api/v1/models","name":"open","provider":""'
    '}],"embedder":{"name":"all-MiniLM-L6-v2"},"endpoint":[{"allow_insecure":false,"api_key_env":"K","api_key_file":null'
    ',"base_url":"https://openrouter.ai/api/v1","concurrency":16,"max_attempts":4,"max_response_bytes":4194304,'
    '"max_tokens":2048,"may_serve":["a/*","b"],"name":"open","requests_per_second":2.5,"temperature":0.0,"timeout_s":60'
    '.0},{"allow_insecure":false,"api_key_env":"","api_key_file":null,"base_url":"http://127.0.0.1:9/v1","concurrency":'
    '16,"max_attempts":4,"max_response_bytes":4194304,"max_tokens":2048,"may_serve":[],"name":"plain",'
    '"requests_per_second":null,"temperature":0.0,"timeout_s":60.0}],"gate":{"epsilon":0.02,"false_promotions":0.01,'
    '"max_cost_increase":0.25,"max_share":1.0,"policy":"review","resamples":2000,"two_person":true},"judge":{"llm":'
    '"open:x/y"},"night":{"batch_size":100,"canary_prompts":20,"lease_s":300,"max_new":50,"stop_grace_s":20.0},"prompts'
    '":{"gate":0.24,"hidden":0.06,"map":0.6,"name":"ours","representative":0.1,"seed":0},"routing":{"cost_weight":20.0,'
    '"method":"posterior","min_coverage":0.95,"n_clusters":10,"seed":0}}'
)


def test_the_digest_of_unchanged_settings_is_that_of_the_last_release() -> None:
    assert Settings().digest == DEFAULT_DIGEST


def test_settings_that_were_stored_load_and_hash_as_they_did(tmp_path: Path) -> None:
    content = json.loads(STORED)
    content["prompts"]["file"] = "/where/it/was.jsonl"
    settings = Settings(**content)
    assert settings.canonical() == STORED
    assert settings.digest == CHOSEN_DIGEST
    assert settings.endpoint[0].accepted_names == ("a/*", "b")
    assert settings.gate.false_promotion_rate == 0.01


def test_settings_under_new_keys_hash_as_under_the_old_ones(tmp_path: Path) -> None:
    """A promotion that waits was tested under settings whose keys were renamed meanwhile."""
    new = STORED.replace("may_serve", "accepted_names").replace("false_promotions", "false_promotion_rate")
    content = json.loads(new)
    content["prompts"]["file"] = "/where/it/was.jsonl"
    assert Settings(**content).digest == CHOSEN_DIGEST
