"""What keys vouch for: versions and heads of the ledger, keys that follow one another, and a history written anew."""

import json
import sqlite3
import sys
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from flows.audit.signatures import heads_finding, versions_finding
from flows.audit.verification import verify_everything
from flows.audit.version_check import verify_version
from flows.audit.version_folders import folders_finding
from flows.checks import doctor
from flows.cli.endings import exit_code_of
from flows.config.sections import SigningKeySettings, SigningSettings
from flows.errors import PrerequisiteError
from flows.findings import worst
from flows.versions.client_package import write_client_package
from flows.versions.mlflow_sync import follow
from flows.versions.signing import require_signing, sign
from flows.workspace import Workspace
from registry.db.columns import text_bytes
from registry.ledger.events import _hash
from registry.publishing.client import RouterClient
from registry.publishing.read import HEAD_TAG
from registry.publishing.trust import FOLDER_STATEMENT, TRUST_FILE, PublicKey, Trust, Untrusted
from registry.routers import BUILT, FOUND, KEPT
from tests.fakes.nights import FIRST, SECOND, Clock, answered_home, run_night
from tests.homes import copied_home

NOW = datetime(2026, 12, 1, 2, 0, tzinfo=UTC)
SINCE = date(2024, 8, 1)


class KeyPair:
    """Two files."""

    def __init__(self, folder, name):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.private, self.public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
        self.private.write_bytes(key.private_bytes(*formats))
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, public))

    def settings(self, settings, *, require=False, **validity):
        listed = (*settings.signing_key, SigningKeySettings(file=self.public, **validity))
        signing = SigningSettings(private_key=self.private, require=require)
        return settings.model_copy(update={"signing": signing, "signing_key": listed})


@pytest.fixture
def pair(tmp_path):
    return KeyPair(tmp_path, "first")


@pytest.fixture
def home(audited, two_nights, tmp_path, pair):
    """A copy of the audited home whose settings name a key pair; what it has is not signed."""
    folder = copied_home(two_nights, tmp_path / "home")
    settings = pair.settings(audited.settings.model_copy(update={"home": folder}), since=SINCE)
    with Workspace(settings) as workspace:
        yield workspace


def with_settings(workspace, **signing):
    """Open the same home under other rules."""
    update = {"signing": workspace.settings.signing.model_copy(update=signing)}
    return Workspace(workspace.settings.model_copy(update=update))


def sign_version(workspace, name, now=NOW):
    """Record a version's folder as the night does that signs it."""
    record = workspace.registry.routers.get(name)
    known = workspace.registry.routers.known_folder(record)
    signature = sign(workspace.settings, FOLDER_STATEMENT, {"digest": known.digest, "router": record.digest}, now)
    workspace.registry.routers.note_built(
        record.digest, known.files, known.digest, signature=signature, actor="publisher", now=now
    )
    return record, signature


def test_without_a_key_nothing_is_said_of_signatures(audited):
    assert (versions_finding(audited, audited.registry.routers.list()), heads_finding(audited)) == (None, None)


def test_versions_that_are_not_signed_are_named_and_count_as_changed_where_signatures_are_required(home):
    records = home.registry.routers.list()
    assert versions_finding(home, records).text == "0 versions signed; not signed: 2, 1"
    sign_version(home, "v2")
    found = versions_finding(home, records)
    assert (found.severity, found.text) == ("attention", "1 version signed; not signed: 1")
    with with_settings(home, require=True) as strict:
        found = versions_finding(strict, records)
        assert (found.severity, found.text) == ("damaged", "version 1: it is not signed")
        sign_version(home, "v1")
        assert versions_finding(strict, records).severity == "ok"
    later = home.settings.model_copy(
        update={
            "signing": SigningSettings(require=True),
            "signing_key": (home.settings.signing_key[0].model_copy(update={"since": date(2026, 1, 1)}),),
        }
    )
    with Workspace(later) as workspace:
        assert versions_finding(workspace, records).severity == "ok", "what is signed counts, whenever it was made"


def test_a_signature_of_another_key_another_version_or_another_folder_does_not_count(home, pair, tmp_path):
    record, signature = sign_version(home, "v2")
    digest = home.registry.routers.known_folder(record).digest
    trust = Trust(keys=(PublicKey(pair.public.read_text()),))
    assert trust.signed_folder(signature, record.digest) == digest
    other = Trust(keys=(PublicKey(KeyPair(tmp_path, "other").public.read_text()),))
    forged = json.loads(signature)
    forged["statement"] = forged["statement"].replace(digest, "f" * 64)
    refused = {
        "not signed": (trust, None, record.digest),
        "a key that is not trusted": (other, signature, record.digest),
        "signed as router": (trust, signature, "0" * 64),
        "its signature does not hold": (trust, json.dumps(forged), record.digest),
        "cannot be read": (trust, "[" * 5000, record.digest),
    }
    for said, (judge, text, router) in refused.items():
        with pytest.raises(Untrusted, match=said):
            judge.signed_folder(text, router)


def test_an_earlier_key_counts_for_what_it_signed_while_it_was_in_use(home, pair, tmp_path):
    sign_version(home, "v1", NOW)
    second = KeyPair(tmp_path, "second")
    ended = home.settings.signing_key[0].model_copy(update={"until": date(2026, 12, 2)})
    settings = second.settings(home.settings.model_copy(update={"signing_key": (ended,)}), since=date(2026, 12, 2))
    day_after = NOW + timedelta(days=1)
    with Workspace(settings) as rotated:
        sign_version(rotated, "v2", day_after)
        assert versions_finding(rotated, home.registry.routers.list()).severity == "ok"
        require_signing(settings, day_after)
        with pytest.raises(PrerequisiteError, match="when that key was not in use"):
            require_signing(settings, NOW)
    sign_version(home, "v2", day_after)
    with Workspace(settings) as rotated:
        found = versions_finding(rotated, home.registry.routers.list())
        assert (found.severity, "when that key was not in use" in found.text) == ("damaged", True)


def test_the_client_follows_what_is_signed(home, tmp_path):
    written = write_client_package(home, tmp_path / "client", ())
    assert (written.trust.digests, len(written.trust.keys)) == ((), 1)
    assert Trust.read(written.package / "trust.json") == written.trust
    pinned = write_client_package(home, tmp_path / "client", ("champion",))
    assert pinned.trust.digests == (home.registry.routers.get("champion").folder_digest,)
    (tmp_path / "other" / "uniroute_client").mkdir(parents=True)
    with pytest.raises(PrerequisiteError, match="not a client that was written before"):
        write_client_package(home, tmp_path / "other", ())


@contextmanager
def put_back(file, statement):
    """Change the signed heads for a while."""
    with sqlite3.connect(file, isolation_level=None) as connection:
        kept = connection.execute("SELECT * FROM signed_head").fetchall()
        connection.execute(statement)
        yield
        connection.execute("DELETE FROM signed_head")
        connection.executemany("INSERT INTO signed_head VALUES (?, ?, ?, ?)", kept)
    connection.close()


@contextmanager
def signed_tag_of(workspace, version, instead):
    """Put another signature in MLflow's tag of a version, or none, for a while."""
    client, name = workspace.publisher.client, workspace.settings.mlflow.router_name
    kept = client.get_model_version(name, version).tags["signature"]
    if instead is None:
        client.delete_model_version_tag(name, version, "signature")
    else:
        client.set_model_version_tag(name, version, "signature", instead)
    yield
    client.set_model_version_tag(name, version, "signature", kept)


def test_nights_sign_and_a_client_that_knows_only_the_key_follows_them(migrated, template, tmp_path, pair):
    clock, other = Clock(), KeyPair(tmp_path, "other")
    with answered_home(tmp_path / "home", migrated, template) as unsigned:
        settings = pair.settings(unsigned.settings, require=True)
    with Workspace(settings) as workspace:
        require_signing(settings, clock())
        run_night(workspace, FIRST, ("weak", "fair"), clock)
        package = write_client_package(workspace, tmp_path / "service", ()).package
        assert "PRIVATE" not in "".join(file.read_text() for file in package.iterdir())
        trust = Trust.read(package / TRUST_FILE)
        with RouterClient(tracking_url=settings.mlflow_url, trust=trust, every_s=3600.0) as client:
            assert (client.status().version, client.status().compared_with) == (1, "signature")
            assert run_night(workspace, SECOND, ("weak", "fair", "good"), clock).version == 2
            of_first = workspace.publisher.client.get_model_version("uniroute", 1).tags["signature"]
            record = workspace.registry.routers.get("champion")
            facts = {"digest": record.folder_digest, "router": record.digest}
            forged = sign(other.settings(settings), FOLDER_STATEMENT, facts, clock())
            for instead, said in (
                (None, "it is not signed"),
                (of_first, "it is signed as router"),
                (forged, "a key that is not trusted"),
            ):
                with signed_tag_of(workspace, 2, instead):
                    status = client.check()
                    assert (status.version, said in status.last_error) == (1, True), status.last_error
            assert (client.check().version, client.status().digest) == (2, record.digest)
            assert set(client.predict(["Question 5 about lakes"])["router_digest"]) == {record.digest}
        found = {one.subject: one for one in verify_everything(workspace).findings}
        assert found["signatures of versions"].text == "2 versions signed"
        n_events = workspace.registry.ledger.count()
        assert found["signed ledger heads"].text.endswith(f"of {n_events} events")
        assert worst(list(found.values())) == "ok"
        assert {one.severity for one in verify_version(workspace, record).findings} == {"ok"}
        assert (
            workspace.publisher.signed_ledger_head("uniroute")
            == workspace.registry.signed_heads.list()[-1].signature_json
        )


def rewrite(workspace, change):
    """Change events and hash the whole ledger anew, here and in MLflow's tags, as somebody who knows how."""
    name = workspace.settings.mlflow.router_name
    connection = sqlite3.connect(workspace.home / "registry.db")
    with connection:
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'ledger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        previous, number = "0" * 64, 0
        for event in workspace.registry.ledger.events():
            number, words = event.number, [event.event, event.subject, event.actor, event.reason, event.payload_json]
            words = change(words)
            digest = _hash(number, event.at, *words, previous)
            cells = [*words[:3], text_bytes(words[3]), words[4], previous, digest, number]
            connection.execute(
                "UPDATE ledger SET event = ?, subject = ?, actor = ?, reason = ?, payload_json = ?, previous_hash = ?,"
                " hash = ? WHERE number = ?",
                cells,
            )
            previous = digest
        connection.execute("UPDATE ledger_head SET number = ?, hash = ?", [number, previous])
    connection.close()
    client = workspace.publisher.client
    client.set_registered_model_tag(name, HEAD_TAG, f"{number}:{previous}")
    for version in client.search_model_versions(f"name = '{name}'"):
        client.delete_model_version_tag(name, version.version, HEAD_TAG)


def by_somebody_else(words):
    return [*words[:2], "ann", *words[3:]] if words[0] == KEPT else words


def test_a_history_that_was_written_anew_is_found_by_its_signed_heads_and_by_nothing_else(home, audited):
    assert heads_finding(home).severity == "attention"
    assert follow(home, lambda: NOW) == ""
    assert heads_finding(home).text.startswith("1 head, for ")
    for cell in ("number = number + 1", f"hash = '{'0' * 64}'", "signed_at = '2024-08-02 00:00:00.000000'"):
        with put_back(home.home / "registry.db", f"UPDATE signed_head SET {cell}"):
            assert heads_finding(home).severity == "damaged", cell
    rewrite(home, by_somebody_else)
    found = {one.subject: one for one in verify_everything(home).findings}
    assert found["ledger"].severity == found["ledger heads noted in MLflow"].severity == "ok"
    assert "is no longer part of the chain" in found["signed ledger heads"].text
    with sqlite3.connect(home.home / "registry.db") as connection:
        connection.execute("DELETE FROM signed_head")
    connection.close()
    assert heads_finding(home).severity == "damaged", "MLflow has the last one, too"
    home.publisher.client.delete_registered_model_tag("uniroute", "ledger_head_signed")
    assert heads_finding(home).severity == "attention"
    with with_settings(home, require=True) as strict:
        assert "no signed head covers events 1 to" in heads_finding(strict).text
    with Workspace(audited.settings.model_copy(update={"home": home.home})) as without_a_key:
        assert worst(verify_everything(without_a_key).findings) == "ok"


def as_of_an_earlier_release(words):
    return ["router:version:other", *words[1:]] if words[0] == BUILT else words


def test_versions_of_an_earlier_release_are_unknown_until_doctor_keeps_their_digests(home):
    before = home.registry.routers.get("champion")
    rewrite(home, as_of_an_earlier_release)
    with sqlite3.connect(home.home / "registry.db") as connection:
        connection.execute("UPDATE router SET folder_digest = NULL")
    connection.close()
    assert folders_finding(home, home.registry.routers.list()).text.startswith("versions 2, 1: published before")
    list(doctor._unknown_folders(home, True, lambda: NOW))
    after = home.registry.routers.get("champion")
    assert (after.folder_digest, after.row_digest()) == (before.folder_digest, before.row_digest())
    assert folders_finding(home, home.registry.routers.list()).severity == "ok"
    assert [one.actor for one in home.registry.ledger.events(event=FOUND)] == ["doctor", "doctor"]
    with sqlite3.connect(home.home / "registry.db") as connection:
        connection.execute("UPDATE router SET folder_digest = NULL WHERE mlflow_version = 2")
    connection.close()
    found = folders_finding(home, [home.registry.routers.get("champion")])
    assert (found.severity, "is not one that the ledger knows" in found.text) == ("damaged", True)


def test_a_night_that_cannot_sign_says_so_before_it_calls_anything(home, tmp_path, monkeypatch):
    missing = home.settings.model_copy(update={"signing": SigningSettings(private_key=tmp_path / "none.pem")})
    garbled = tmp_path / "garbled.pem"
    garbled.write_text("-----BEGIN EC PRIVATE KEY-----\nCANARY\n-----END EC PRIVATE KEY-----\n")
    stranger = home.settings.model_copy(
        update={"signing": SigningSettings(private_key=KeyPair(tmp_path, "stranger").private)}
    )
    unused = home.settings.model_copy(update={"signing": SigningSettings(require=True)})
    cases = {
        "none.pem cannot be read": missing,
        "garbled.pem cannot be used": missing.model_copy(update={"signing": SigningSettings(private_key=garbled)}),
        "a key that is not trusted": stranger,
        "no private key is": unused,
    }
    for said, settings in cases.items():
        with pytest.raises(PrerequisiteError, match=said) as refused:
            require_signing(settings, NOW)
        assert (exit_code_of(refused.value), "CANARY" in str(refused.value)) == (78, False)
    require_signing(home.settings, NOW)
    for name in [one for one in sys.modules if one.partition(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(PrerequisiteError, match="the library model-signing is not installed") as refused:
        require_signing(home.settings, NOW)
    assert "uniroute[signing]" in refused.value.hint
    sign_less = heads_finding(home), versions_finding(home, home.registry.routers.list())
    assert {one.severity for one in sign_less} == {"attention"}
