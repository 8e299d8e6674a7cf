"""A wrong key is reported with the file or the variable that set it, so that nobody searches the file in vain."""

from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.config.origin import settings_in_force
from flows.errors import PrerequisiteError

ENDPOINT = '[[endpoint]]\nname = "here"\nbase_url = "http://127.0.0.1:9/v1"\n'
NIGHT = "UNIROUTE_BUDGET__NIGHT_USD"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("written", "variables", "said"),
    [
        # In the file alone.
        ("[budget]\nnight_usd = -3\n", {}, "The setting budget.night_usd (in uniroute.toml) is refused: "),
        ("[budget]\nnigth_usd = 3\n", {}, "There is no setting budget.nigth_usd (in uniroute.toml). Did you mean"),
        # One key of which there are two kinds of values is wrong once.
        (
            "[prompts]\nask = 0\n",
            {},
            "prompts.ask (in uniroute.toml) is refused: Input should be 'auto', or greater than or equal to 1.",
        ),
        # In the environment alone, without a file and with one.
        (None, {NIGHT: "abc"}, f"The setting budget.night_usd (in the environment variable {NIGHT}) is refused: "),
        ("[budget]\nllm_usd = 3\n", {NIGHT: "abc"}, f"budget.night_usd (in the environment variable {NIGHT}) is"),
        (
            "",
            {"UNIROUTE_BUDGET__NIGTH_USD": "3"},
            "no setting budget.nigth_usd (in the environment variable UNIROUTE_B",
        ),
        ("", {"uniroute_budget__night_usd": "abc"}, "(in the environment variable uniroute_budget__night_usd)"),
        # The variable wins over a value of the file that is just as wrong.
        ("[budget]\nnight_usd = -3\n", {NIGHT: "abc"}, f"budget.night_usd (in the environment variable {NIGHT}) is"),
        # An entry of a list, and one that lacks a key.
        (ENDPOINT + "concurrency = 0\n", {}, "endpoint[0].concurrency (in uniroute.toml) is refused"),
        (
            ENDPOINT + ENDPOINT.replace("here", "there") + 'api_key = "x"\n',
            {},
            "no setting endpoint[1].api_key (in uni",
        ),
        ('[[endpoint]]\nname = "here"\n', {}, "endpoint[0].base_url (in uniroute.toml) is refused: Field required"),
        # Variables whose value is JSON.
        (
            "",
            {"UNIROUTE_BUDGET": '{"night_usd": -1}'},
            "budget.night_usd (in the environment variable UNIROUTE_BUDGET)",
        ),
        (
            ENDPOINT,
            {"UNIROUTE_ENDPOINT": '[{"name": "a", "base_url": "http://h", "concurrency": 0}]'},
            "endpoint[0].concurrency (in the environment variable UNIROUTE_ENDPOINT) is refused",
        ),
        (ENDPOINT, {"UNIROUTE_ENDPOINT": '[{"name": "a"}]'}, "endpoint[0].base_url (in the environment variable UNI"),
        ("", {"UNIROUTE_BUDGET": "5"}, "The setting budget (in the environment variable UNIROUTE_BUDGET) is refused"),
        # What is wrong with a whole section comes from everybody who gave a part of it.
        (
            "[prompts]\nmap = 0.5\n",
            {"UNIROUTE_PROMPTS__GATE": "0.3"},
            "The setting prompts (in uniroute.toml and the environment variable UNIROUTE_PROMPTS__GATE) is refused",
        ),
        ("", {"UNIROUTE_JUDGE__LLM": "x:y"}, "The settings (in uniroute.toml and the environment variable UNIROUTE_JU"),
    ],
)
def test_a_wrong_key_is_named_with_its_source(
    written: str | None, variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if written is not None:
        (tmp_path / "uniroute.toml").write_text(written)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PrerequisiteError) as refused:
        load_settings()
    assert said in refused.value.message


def test_a_mixture_is_named_key_by_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "uniroute.toml").write_text("[budget]\nllm_usd = -2\n[night]\nlease = 300\n")
    monkeypatch.setenv(NIGHT, "abc")
    with pytest.raises(PrerequisiteError) as refused:
        load_settings()
    assert "budget.llm_usd (in uniroute.toml) is refused" in refused.value.message
    assert f"budget.night_usd (in the environment variable {NIGHT}) is refused" in refused.value.message
    assert "no setting night.lease (in uniroute.toml). Did you mean 'lease_s'?" in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.hint == (
        f"Correct uniroute.toml and the environment variable {NIGHT}, then: uniroute config validate"
    )


def test_of_many_errors_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    (tmp_path / "uniroute.toml").write_text("".join(f"{key} = 1\n" for key in "abcdef"))
    with pytest.raises(PrerequisiteError, match=r"setting c \(.*\. 3 more errors follow\.$"):
        load_settings()


@pytest.mark.parametrize("value", ["{broken", "[1", "night_usd=3"])
def test_a_variable_that_should_be_json_and_is_not_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIROUTE_BUDGET", value)
    with pytest.raises(PrerequisiteError, match="variable UNIROUTE_BUDGET sets a whole section") as refused:
        load_settings()
    assert value not in refused.value.message


def test_a_misspelt_variable_is_refused_in_any_letter_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("uniroute_budgte__night_usd", "1")
    with pytest.raises(PrerequisiteError, match=r"uniroute_budgte__night_usd\. Did you mean UNIROUTE_BUDGET"):
        load_settings()


def test_a_value_of_the_command_line_is_named_as_such() -> None:
    with pytest.raises(PrerequisiteError, match=r"budget\.night_usd \(in the command line\) is refused"):
        load_settings().overridden(budget_usd=-1)


def test_a_list_of_the_environment_replaces_the_file_s_and_is_its_origin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uniroute.toml").write_text(ENDPOINT + "concurrency = 3\n[budget]\nllm_usd = 2\ncall_usd = 1\n")
    monkeypatch.setenv("UNIROUTE_ENDPOINT", '[{"name": "a", "base_url": "http://127.0.0.1/v1"}]')
    monkeypatch.setenv("UNIROUTE_BUDGET", '{"llm_usd": 4}')
    found = {one.key: (one.value, one.origin) for one in settings_in_force(None)}
    assert found["endpoint[0].name"] == ("a", "environment")
    assert found["endpoint[0].concurrency"] == (16, "default")
    assert found["budget.llm_usd"] == ("4", "environment")
    assert found["budget.call_usd"] == ("1", "uniroute.toml")
