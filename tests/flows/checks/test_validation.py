"""Validating settings finds price files that a night could not use."""

import json
from pathlib import Path

import pytest

from flows.checks.validation import validate
from flows.config.loading import load_settings
from flows.errors import CredentialsMissing
from flows.findings import Finding, worst
from tests.fakes.endpoint import FakeEndpoint

_SETTINGS = """
home = "home"
[prompts]
file = "prompts.jsonl"
[embedder]
name = "hashing-256"
[[catalog]]
name = "ours"
kind = "toml"
location = "llms.toml"
endpoint = "fake"
include = {include}
{more}
[[endpoint]]
name = "fake"
base_url = "{base_url}"
"""
_MAP = """
[[catalog]]
name = "map"
kind = "litellm"
location = "map.json"
endpoint = "fake"
"""
SOUND = '[[llm]]\nid = "sound"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n'
UNPRICED = '[[llm]]\nid = "bare"\n'


def findings(folder: Path, llms: str, *, include: tuple[str, ...] = (), more: str = "", url: str = "") -> list[Finding]:
    """Validate settings with a price file; with a URL also what the endpoint lists there."""
    settle(folder, llms, include=include, more=more, url=url)
    found = validate(load_settings(folder / "uniroute.toml"), connect=bool(url))
    return [one for one in found if one.subject.startswith("catalog")]


def settle(folder: Path, llms: str, *, include: tuple[str, ...] = (), more: str = "", url: str = "") -> None:
    """Write settings, prompts and a price file."""
    text = _SETTINGS.format(include=list(include), more=more, base_url=url or "http://127.0.0.1:9/v1")
    (folder / "uniroute.toml").write_text(text)
    (folder / "llms.toml").write_text(llms)
    prompts = [
        {"prompt_id": f"p{n}", "text": f"Question {n}?", "reference": "ABCD"[n % 4], "grader": "choice"}
        for n in range(100)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))


@pytest.mark.parametrize(
    ("llms", "include", "said"),
    [
        (SOUND, (), ""),
        (SOUND + UNPRICED, (), "no usable price for bare (price missing)"),
        (SOUND + UNPRICED, ("sound",), ""),
        (SOUND.replace("= 1\n", "= 0.000001\n"), (), "no usable price for sound (implausible input price"),
        (SOUND + '[[llm]]\nid = "odd"\npirce = 1\n', (), "1 row cannot be read; row 2: unknown key 'pirce'"),
        (SOUND, ("other-*",), "include and exclude leave out every id"),
        ("[[llm]", (), "it is not TOML"),
        ("", (), "it is empty"),
    ],
)
def test_a_broken_price_file_is_refused_without_a_connection(
    tmp_path: Path, llms: str, include: tuple[str, ...], said: str
) -> None:
    (found,) = findings(tmp_path, llms, include=include)
    assert found.severity == ("refused" if said else "ok")
    assert said in found.text


def test_a_missing_key_is_one_finding_and_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY_OF_OTHER", raising=False)
    other = '[[endpoint]]\nname = "other"\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = "KEY_OF_OTHER"\n'
    settle(tmp_path, SOUND + UNPRICED, more=other)
    found = {one.subject: one for one in validate(load_settings(tmp_path / "uniroute.toml"), connect=False)}
    assert list(found) == ["prompts", "catalog ours", "endpoint other"]
    assert "no usable price for bare" in found["catalog ours"].text
    assert isinstance(found["endpoint other"].error, CredentialsMissing)
    assert "KEY_OF_OTHER" in found["endpoint other"].text


def test_a_price_that_another_catalog_has_is_not_missing(tmp_path: Path) -> None:
    row = {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    (tmp_path / "map.json").write_text(json.dumps({"bare": row}))
    assert worst(findings(tmp_path, SOUND + UNPRICED, more=_MAP)) == "ok"


def test_a_price_file_with_an_id_that_its_endpoint_does_not_list_is_refused(tmp_path: Path) -> None:
    listed = {"data": [{"id": "sound"}]}
    misspelt = SOUND.replace('"sound"', '"suond"')
    with FakeEndpoint(documents={"/v1/models": listed}) as fake:
        (found,) = findings(tmp_path, SOUND, url=fake.base_url)
        assert (found.severity, found.text) == ("ok", "1 LLM")
        (found,) = findings(tmp_path, SOUND + misspelt, url=fake.base_url)
    assert found.severity == "refused"
    assert "its endpoint does not list suond" in found.text
