"""Faults of settings: a typing mistake must never be ignored."""

import pytest

from flows.cli import main
from flows.cli.endings import ExitCode
from flows.config.loading import load_settings
from flows.errors import PrerequisiteError


@pytest.mark.parametrize(
    ("written", "said", "nearest"),
    [
        ("[budget]\nnight_usb = 5", "budget.night_usb", "night_usd"),
        ("[bugdet]\nnight_usd = 5", "bugdet", "budget"),
        ("[refit]\nnew_llms = 3", "refit", "routing.refit"),
        ("[routing]\nn_cluster = 5", "routing.n_cluster", "n_clusters"),
        ('[[endpoint]]\nname = "a"\nbase_url = "https://a/v1"\napi_key_enf = "KEY"', "api_key_enf", "api_key_env"),
    ],
)
def test_f106_a_misspelt_key_of_the_file_is_refused_with_the_nearest_name(tmp_path, written, said, nearest):
    (tmp_path / "uniroute.toml").write_text(written)
    with pytest.raises(PrerequisiteError) as caught:
        load_settings(tmp_path / "uniroute.toml")
    assert said in caught.value.message
    assert f"Did you mean '{nearest}'?" in caught.value.message


def test_f106_a_misspelt_variable_stops_the_command_with_the_nearest_name(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("UNIROUTE_BUGDET__NIGHT_USD", "5")
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as stopped:
        main(["night", "run"])
    said = capsys.readouterr().err
    assert stopped.value.code == ExitCode.CONFIGURATION
    assert "UNIROUTE_BUGDET__NIGHT_USD" in said
    assert "Did you mean UNIROUTE_BUDGET?" in said
    assert not (tmp_path / "home").exists(), "nothing was started"


@pytest.mark.parametrize("value", ["-5", "0", "nan", "inf", "'a lot'"])
def test_f106_an_invalid_budget_is_refused(tmp_path, value):
    (tmp_path / "uniroute.toml").write_text(f"[budget]\nnight_usd = {value}")
    with pytest.raises(PrerequisiteError, match=r"budget\.night_usd"):
        load_settings(tmp_path / "uniroute.toml")


@pytest.mark.parametrize("content", ["endpoint = 1", "catalog = 'x'", "x = " + "[" * 20_000, "home = " + "{a=" * 5_000])
def test_a_file_of_the_wrong_shape_is_refused_and_not_a_bug(tmp_path, content):
    file = tmp_path / "uniroute.toml"
    file.write_text(content)
    with pytest.raises(PrerequisiteError, match=r"uniroute\.toml"):
        load_settings(file)
