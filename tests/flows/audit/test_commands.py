"""The commands of auditors: what they print, how they end, and what they refuse."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from flows.config.sources import CONFIG_NAME
from flows.versions.store import publication_folder, router_folder
from tests.flows.audit.damage import changed_cell, flipped

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def ask(audited, monkeypatch, capsys):
    """Run a command at the audited home; return exit code, standard output and standard error."""
    monkeypatch.chdir(audited.home)
    # Not a function in place of load_settings: modules that are imported meanwhile would keep it for ever.
    monkeypatch.setenv("UNIROUTE_CONFIG", str(audited.home.with_name(CONFIG_NAME)))

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return run


def data_of(out, schema):
    found = json.loads(out)
    assert found["schema"] == f"uniroute.{schema}/1"
    return found["data"]


def test_the_log_lists_the_ledger_and_filters_it(ask):
    code, out, _ = ask("audit")
    assert (code, "router:promotion:applied" in out, "gate passed" in out) == (0, True, True)
    rows = data_of(ask("audit", "log", "--subject", "2", "--event", "router:promotion:", "--json")[1], "audit.log")
    assert [row["event"] for row in rows] == ["router:promotion:requested", "router:promotion:applied"]
    assert rows[1]["payload"]["aliases"]["previous"][1] == rows[1]["payload"]["expected_champion"]
    assert len(data_of(ask("audit", "log", "--limit", "3", "--json")[1], "audit.log")) == 3
    assert data_of(ask("audit", "log", "--since", "2024-09-02", "--json")[1], "audit.log") == []


def test_verify_finds_everything_intact_and_says_so(ask):
    code, out, _ = ask("audit", "verify")
    *findings, covers, verdict = out.splitlines()
    assert (code, verdict) == (0, "nothing has changed")
    assert all(line.startswith("intact") for line in findings)
    assert re.match(r"covers \d+ events, 2 router versions, and of 2 nights the run summaries, charges, prices", covers)


DAMAGES = [
    ("ledger", "actor", "number = 3", "ledger"),
    ("ledger_head", "hash", "name = 'ledger'", "ledger"),
    ("promotion", "requested_by", "id = 2", "aliases and promotions"),
    ("promotion", "gate_json", "id = 2", "aliases and promotions"),
    ("router", "files_json", "mlflow_version = 1", "rows of router versions"),
    ("router_metric", "value", "name = 'area'", "rows of router versions"),
]


@pytest.mark.parametrize(("table", "column", "where", "subject"), DAMAGES)
def test_verify_names_the_row_that_was_changed(audited, ask, table, column, where, subject):
    with changed_cell(audited.home / "registry.db", table, column, where):
        code, out, _ = ask("audit", "verify", "--json")
    changed = [one["subject"] for one in data_of(out, "audit.verify")["findings"] if one["state"] == "changed"]
    assert (code, subject in changed) == (5, True)


def test_verify_finds_a_ledger_that_was_shortened_together_with_its_note(audited, ask):
    file = audited.home / "registry.db"
    last = audited.registry.ledger.events(limit=2)
    with changed_cell(file, "ledger_head", "number", "name = 'ledger'", last[0].number):
        code, out, _ = ask("audit", "verify")
        assert (code, f"event {last[0].number} is the last, another one is" in out) == (5, True)
    with changed_cell(file, "ledger", "previous_hash", "number = 1", "f" * 64):
        assert ask("audit", "verify")[0] == 5


@pytest.mark.parametrize(
    ("name", "subject"),
    [("review.html", "reports"), ("publication.json", "publications"), ("deferral_curve.png", "publications")],
)
def test_verify_finds_a_changed_report_figure_or_text_to_be_published(audited, ask, name, subject):
    path = publication_folder(audited, audited.registry.routers.aliases().champion) / name
    with flipped(path, place=path.stat().st_size // 2):
        code, out, _ = ask("audit", "verify", "--json")
    changed = [one["subject"] for one in data_of(out, "audit.verify")["findings"] if one["state"] == "changed"]
    assert (code, changed[0]) == (5, subject)


def test_verify_finds_a_changed_router_folder(audited, ask):
    folder = router_folder(audited, audited.registry.routers.aliases().previous)
    with flipped(folder / "arrays.npz"):
        code, out, _ = ask("audit", "verify")
    assert (code, "arrays.npz" in out) == (5, True)


def test_verify_goes_on_when_mlflow_does_not_answer(ask, monkeypatch):
    from registry.errors import PublishIncomplete
    from registry.publishing import RouterPublisher

    def silent(*_arguments, **_options):
        raise PublishIncomplete("MLflow is down")

    monkeypatch.setattr(RouterPublisher, "noted_ledger_heads", silent)
    code, out, _ = ask("audit", "verify")
    assert (code, out.count("unreachable"), "nothing that could be reached has changed" in out) == (75, 1, True)
    monkeypatch.setattr(RouterPublisher, "download_version", silent)
    code, out, _ = ask("router", "verify", "2")
    assert (code, "MLflow is down" in out, "computed again: identical" in out) == (75, True, True)


@pytest.mark.parametrize(
    "command", [("show", "2"), ("diff", "1", "2"), ("explain", "2", "Which river?"), ("export", "2", "out")]
)
def test_a_version_that_is_neither_here_nor_within_reach_is_asked_for_later(ask, monkeypatch, tmp_path, command):
    from registry.errors import PublishIncomplete
    from registry.publishing import RouterPublisher

    def silent(*_arguments, **_options):
        raise PublishIncomplete("MLflow is down", hint="start it")

    monkeypatch.setattr("flows.versions.store.router_folder", lambda _workspace, digest: tmp_path / "nowhere" / digest)
    monkeypatch.setattr(RouterPublisher, "download_version", silent)
    code, out, err = ask("router", *command)
    assert (code, out, err.splitlines()) == (75, "", ["error: MLflow is down. Nothing was changed.", "next:  start it"])


def test_verify_makes_no_registry_where_none_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "none"))
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "verify"])
    assert (stopped.value.code, list(tmp_path.iterdir())) == (2, [])
    assert "there is no registry" in capsys.readouterr().err


def test_an_export_verifies_with_the_readme_s_ten_lines_of_python(ask, audited, tmp_path):
    readme = (ROOT / "registry" / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(import hashlib, json, sys\n.*?)```", readme, re.DOTALL)
    out = tmp_path / "ledger.jsonl"
    exported = data_of(ask("audit", "export", "--out", str(out), "--json")[1], "audit.export")
    assert exported["n_events"] == audited.registry.ledger.count()

    def verify(text):
        return subprocess.run([sys.executable, "-c", script], input=text, capture_output=True, text=True).returncode

    text = out.read_text(encoding="utf-8")
    assert verify(text) == 0
    middle = text.index('"actor": "night"', len(text) // 2) + len('"actor": "n')
    assert verify(f"{text[:middle]}I{text[middle + 1 :]}") == 1, "one changed letter"
    assert verify("".join(text.splitlines(keepends=True)[:-1])) == 1, "the last event cut off"
    part = ask("audit", "export", "--since", audited.registry.ledger.events()[3].moment)[1]
    assert len(part.splitlines()) == audited.registry.ledger.count() - 3 + 1
    assert verify(part) == 0
    nothing = ask("audit", "export", "--since", "2030-01-01")[1]
    assert (len(nothing.splitlines()), verify(nothing)) == (1, 0)


def test_an_export_that_would_not_verify_is_not_made(audited, ask, tmp_path):
    with changed_cell(audited.home / "registry.db", "ledger", "actor", "number = 3"):
        code, out, err = ask("audit", "export")
    assert (code, out, "event 3 was changed" in err) == (5, "", True)
    assert ask("audit", "export", "--out", str(tmp_path / "no" / "folder"))[0] == 78


def test_verify_compares_with_a_head_and_an_export_that_were_kept(ask, audited, tmp_path):
    kept = tmp_path / "kept.jsonl"
    head = data_of(ask("audit", "export", "--out", str(kept), "--json")[1], "audit.export")["ledger_head"]
    found = data_of(ask("audit", "verify", "--head", head.upper(), "--against", str(kept), "--json")[1], "audit.verify")
    said = {one["subject"]: one["said"] for one in found["findings"]}
    n_events = audited.registry.ledger.count()
    assert found["verdict"] == "intact"
    assert said["earlier head"] == f"{head[:12]} is event {n_events} of {n_events}"
    assert f"{n_events} events of kept.jsonl, with the digests of 2 nights" in said["earlier export"]
    code, out, _ = ask("audit", "verify", "--head", "f" * 64)
    assert (code, "ffffffffffff is not part of the chain" in out) == (5, True)


def test_verify_refuses_a_head_or_an_export_that_is_none(ask, audited, tmp_path):
    kept = tmp_path / "kept.jsonl"
    ask("audit", "export", "--out", str(kept))
    whole = kept.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    assert ask("audit", "verify", "--head", "abc")[0] == 2
    assert ask("audit", "verify", "--against", str(tmp_path / "none"))[0] == 2
    for other in ("", "{}\n", "[1]\n", "\x00", '{"schema": "uniroute.audit.export/2"}\n', "[" * 100_000):
        kept.write_text(other, encoding="utf-8")
        code, out, err = ask("audit", "verify", "--against", str(kept))
        assert (code, out, "is not an export of a ledger" in err) == (2, "", True), other[:20]
    kept.write_bytes(b"\xff\xfe")
    assert ask("audit", "verify", "--against", str(kept))[0] == 2
    third = whole.index('"reason": "', whole.index('"number": 3')) + len('"reason": "')
    for other in (
        f"{whole[:third]}x{whole[third:]}",
        "".join(lines[:-1]),
        "".join(lines[:2] + lines[3:]),
        whole + "{}\n",
    ):
        kept.write_text(other, encoding="utf-8")
        code, out, err = ask("audit", "verify", "--against", str(kept))
        assert (code, out, "kept.jsonl itself was changed" in err) == (5, "", True)


def test_verify_says_what_is_unknown_and_what_is_not_under_a_digest_yet(ask, audited):
    file = audited.home / "registry.db"
    with changed_cell(file, "llm", "seal", "seal > 0", 0):
        code, out, _ = ask("audit", "verify")
        assert (
            code,
            "1 row removed" in out,
            out.splitlines()[-2].endswith("; not 1 row written or replaced since the last night ended"),
        ) == (5, True, True)


def test_router_at_says_who_allowed_it_and_on_what_evidence(ask, audited):
    champion = audited.registry.routers.get("champion")
    since = next(
        one
        for one in audited.registry.ledger.events(event="router:promotion:applied")
        if one.subject == champion.digest
    )
    code, out, _ = ask("router", "at", since.moment, "--json")
    (served,) = data_of(out, "router.at")["served"]
    assert (code, served["version"], served["until"], served["actor"]) == (0, 2, None, "night")
    evidence = served["evidence"]
    assert evidence["llms"] == list(champion.llm_keys)
    assert evidence["run"] == audited.registry.runs.get(champion.run_id).key
    assert evidence["gate_checks"] and evidence["gate_passed"]
    assert evidence["metrics"] == dict(champion.metrics)
    text = ask("router", "at", since.moment)[1]
    assert all(str(part) in text for part in (champion.digest, champion.prompt_set_digest, "gate passed", "fake:good"))
    both = data_of(ask("router", "at", since.moment[:10], "--json")[1], "router.at")["served"]
    assert [one["version"] for one in both] == [1, 2], "a day names every router that served in it"


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2024-08-31", "the first became champion at 2024-09-01"),
        ("0001-01-01", "the first became champion at"),
        ("2024-09-01T09:00", "has no time zone"),
        ("0001-01-01T00:00+14:00", "is out of range"),
        ("soon", "is neither a date nor a moment"),
        ("2024-02-30", "is neither a date nor a moment"),
        ("", "is neither a date nor a moment"),
        ("2024-09-01T25:00Z", "is neither a date nor a moment"),
        ("9999-12-31", "is in the future"),
        ("2999-01-01", "is in the future"),
    ],
)
def test_router_at_refuses_what_it_cannot_answer(ask, moment, said):
    code, out, err = ask("router", "at", "--", moment)
    assert (code, out, said in err) == (2, "", True), err
    assert "next:" in err


def test_history_names_every_change_of_the_champion(ask):
    rows = data_of(ask("router", "history", "--json")[1], "router.history")
    assert [(row["version"], row["gate_passed"], row["kind"]) for row in rows] == [
        (1, True, "promotion"),
        (2, True, "promotion"),
    ]
    assert rows[0]["until"] == rows[1]["since"]
    assert (rows[0]["replaced"], rows[1]["replaced"]) == (None, rows[0]["digest"])
    assert "gate passed, policy automatic" in ask("router", "history", "--limit", "1")[1]


def test_diff_shows_differences_only(ask):
    found = data_of(ask("router", "diff", "1", "2", "--json")[1], "router.diff")["differences"]
    assert found["llms"] == {"in": ["fake:good"]}
    assert found["routes"]["changed"] > 0
    assert not {"prices", "made from", "settings", "router"} & set(found)
    assert "fake:good" in ask("router", "diff", "previous", "champion")[1]
    assert ask("router", "diff", "2", "2")[1] == "version 2 and version 2 do not differ.\n"
    assert ask("router", "diff", "2", "9")[0] == 2


def test_router_verify_says_identical(ask):
    code, out, _ = ask("router", "verify", "2", "--json")
    found = data_of(out, "router.verify")
    assert (code, found["verdict"], found["rebuilt"], found["asked_again"]) == (0, "intact", "identical", [])
    assert (
        ask("router", "verify", "1")[1].splitlines()[-1] == "version 1: nothing has changed; computed again: identical"
    )


def test_explain_adds_up_and_names_the_term_that_decided(ask, audited):
    prompt = "Question 77 about rivers and lakes: A, B, C or D?"
    found = data_of(ask("router", "explain", "2", prompt, "--json")[1], "router.explain")
    for one in found["contenders"]:
        assert one["total"] == pytest.approx(1 - one["expected_score"] + 20 * one["expected_cost_usd"])
    winner, second, *_ = found["contenders"]
    assert (winner["llm"], winner["total"] <= second["total"]) == ("fake:good", True)
    assert (found["because"], found["is_far"]) == ("score", False)
    similarities = [one["similarity"] for one in found["nearest"]]
    assert similarities == sorted(similarities, reverse=True)
    assert all("rivers" in one["text"] for one in found["nearest"])
    cheap = data_of(ask("router", "explain", "2", prompt, "--cost-weight", "1e9", "--json")[1], "router.explain")
    assert (cheap["contenders"][0]["llm"], cheap["because"]) == ("fake:weak", "cost")


def test_explain_warns_of_a_prompt_unlike_all_others_and_refuses_none(ask):
    code, out, err = ask("router", "explain", "champion", "zzz \x1b[31m qqq", "--json")
    assert (code, json.loads(out)["data"]["is_far"], "far from every representative prompt" in err) == (0, True, True)
    assert json.loads(out)["warnings"]
    assert ask("router", "explain", "champion", "  ")[0] == 2
    assert ask("router", "explain", "9", "text")[0] == 2
