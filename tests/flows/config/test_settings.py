from decimal import Decimal
from pathlib import Path

import pytest

from flows.cli.endings import exit_code_of
from flows.config.loading import find_config, load_settings, read_key
from flows.config.settings import EndpointSettings, GateSettings, Settings
from flows.errors import CredentialsMissing, PrerequisiteError
from flows.gate.gate import GateRules


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


CATALOG = '[[catalog]]\nname = "mine"\nkind = "toml"\nlocation = "llms.toml"\nendpoint = "here"\n'
ENDPOINT = '[[endpoint]]\nname = "here"\nbase_url = "http://127.0.0.1:9/v1"\n'
PROMPTS = '[prompts]\nfile = "prompts.jsonl"\n'


def test_without_a_file_the_night_runs_on_the_sandbox(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.is_sandbox
    assert settings.registry_url == f"sqlite:///{tmp_path / 'home' / 'registry.db'}"
    assert settings.mlflow_url == f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "[budget]\nnight_usd = 3\nllm_usd = 2\n")
    monkeypatch.setenv("UNIROUTE_BUDGET__NIGHT_USD", "7")
    budget = load_settings(path).budget
    assert (budget.night_usd, budget.llm_usd) == (Decimal(7), Decimal(2))


def test_paths_are_relative_to_the_settings_file(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, PROMPTS + CATALOG + ENDPOINT))
    assert settings.prompts.file == tmp_path / "prompts.jsonl"
    assert settings.catalog[0].location == str(tmp_path / "llms.toml")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[budget]\nnihgt_usd = 3\n", "night_usd"),
        ("bugdet = 3\n", "budget"),
        ('[[endpoint]]\nname = "a"\nbase_url = "http://h"\napi_key = "sk-secret"\n', "api_key_env"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(PrerequisiteError, match="There is no setting") as refused:
        load_settings(written(tmp_path, text))
    assert repr(named) in refused.value.message
    assert "sk-secret" not in refused.value.message


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIROUTE_BUDGTE__NIGHT_USD", "1")
    with pytest.raises(PrerequisiteError, match="Did you mean UNIROUTE_BUDGET"):
        load_settings()


@pytest.mark.parametrize(
    "text",
    [
        "[budget]\nnight_usd = -1\n",
        "[budget]\nnight_usd = nan\n",
        "[prompts]\nmap = 0.9\n",
        "[routing]\ncost_weight = inf\n",
        CATALOG + ENDPOINT,
        PROMPTS + CATALOG,
        PROMPTS + CATALOG + ENDPOINT + ENDPOINT,
        '[[endpoint]]\nname = "a"\nbase_url = "file:///etc/passwd"\n',
        '[[endpoint]]\nname = "a"\nbase_url = "https://user:pass@host/v1"\n',
        '[[endpoint]]\nname = "../a"\nbase_url = "https://host/v1"\n',
    ],
)
def test_values_out_of_range_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(PrerequisiteError) as refused:
        load_settings(written(tmp_path, text))
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_two_catalogs_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, PROMPTS + CATALOG + CATALOG + ENDPOINT)
    with pytest.raises(PrerequisiteError, match=r"two \[\[catalog\]\] entries are called 'mine'"):
        load_settings(path)


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(PrerequisiteError, match="not valid TOML"):
        load_settings(written(tmp_path, "[budget\n"))


def test_the_digest_changes_with_the_rules_and_not_with_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_settings().digest
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "elsewhere"))
    assert load_settings().digest == before
    monkeypatch.setenv("UNIROUTE_GATE__EPSILON", "0.03")
    assert load_settings().digest != before


def test_the_file_is_found_by_name_variable_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config(None) is None
    (tmp_path / "uniroute.toml").write_text("")
    assert find_config(None) == Path("uniroute.toml")
    monkeypatch.setenv("UNIROUTE_CONFIG", "other.toml")
    assert find_config(None) == Path("other.toml")
    assert find_config("third.toml") == Path("third.toml")


@pytest.mark.parametrize(
    "key", ["sk-one\nsk-two", "sk-one\r\nX-Injected: yes", "sk-\u201cone\u201d", "sk\u00a0one", "sk-\x00", "sk-\x7f"]
)
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    path = tmp_path / "key"
    path.write_bytes(key.encode())
    given = {"api_key_file": path}
    if "\x00" not in key:
        monkeypatch.setenv("OUR_KEY", key)
        given = {"api_key_env": "OUR_KEY"}
    for place in (given, {"api_key_file": path}):
        with pytest.raises(CredentialsMissing, match="cannot be sent") as raised:
            read_key(EndpointSettings(name="here", base_url="http://127.0.0.1:9/v1", **place))
        assert "sk" not in str(raised.value) and "one" not in str(raised.value)
        assert exit_code_of(raised.value) == 77


def test_white_space_around_a_key_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("\n  sk-one two/+=\r\n")
    key = read_key(EndpointSettings(name="here", base_url="http://127.0.0.1:9/v1", api_key_file=path))
    assert key is not None and key.get_secret_value() == "sk-one two/+="


def test_keys_of_later_releases_change_the_digest_only_where_they_are_set() -> None:
    for given in ({"llm_patience_s": 300}, {"max_hours": 12}):
        assert Settings(night=given).digest == Settings().digest
    for given in ({"llm_patience_s": 60}, {"max_hours": 0.5}):
        assert Settings(night=given).digest != Settings().digest
    assert Settings(judge={"unreadable": False}).digest == Settings().digest


def test_unreadable_answers_are_judged_only_with_a_judge(tmp_path: Path) -> None:
    complete = PROMPTS + CATALOG + ENDPOINT
    with pytest.raises(PrerequisiteError, match="unreadable = true needs llm"):
        load_settings(written(tmp_path, f"[judge]\nunreadable = true\n{complete}"))
    judge = load_settings(written(tmp_path, f'[judge]\nllm = "here:j"\nunreadable = true\n{complete}')).judge
    assert judge.unreadable


def test_a_refresh_follows_the_policy_and_two_persons_need_its_review() -> None:
    assert GateSettings().refresh_policy == "automatic"
    assert GateSettings(policy="review").refresh_policy == "review"
    assert GateSettings(policy="review", refresh="automatic").refresh_policy == "automatic"
    assert GateSettings(policy="review", two_person=True).refresh_policy == "review"
    with pytest.raises(ValueError, match='two_person needs refresh = "review"'):
        GateSettings(policy="review", two_person=True, refresh="automatic")
    digests = {GateRules.of(Settings(gate={"policy": policy})).policy_digest for policy in ("automatic", "review")}
    assert GateRules.of(Settings(gate={"refresh": "review"})).policy_digest not in digests


@pytest.mark.parametrize(
    ("name", "read_as"),
    [
        ("org/embedder", "org/embedder"),
        ("hashing-256", "hashing-256"),
        ("mine", "mine"),
        ("org/mine", "{}/org/mine"),
        ("./mine", "{}/mine"),
        ("../mine", "{}/../mine"),
        ("/somewhere/mine", "/somewhere/mine"),
    ],
)
def test_an_embedder_that_is_a_folder_is_relative_to_the_settings_file(tmp_path: Path, name: str, read_as: str) -> None:
    (tmp_path / "org" / "mine").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "uniroute.toml").write_text(f'[embedder]\nname = "{name}"\n')
    assert load_settings(tmp_path / "uniroute.toml").embedder.name == read_as.format(tmp_path)
