"""A night finds aliases moved in MLflow by hand, reports them once, and leaves them alone until doctor --repair."""

from flows.checks.doctor import examine
from flows.versions.mlflow_sync import DRIFTED, REPAIRED, VANISHED
from tests.fakes.nights import FIRST, SECOND, Clock, answered_home, run_night


def test_a_night_leaves_an_alias_that_was_moved_by_hand_and_a_deleted_champion_to_doctor(tmp_path, migrated, template):
    clock = Clock()
    with answered_home(tmp_path / "home", migrated, template) as workspace:
        publisher, events = workspace.publisher, workspace.registry.ledger.events
        run_night(workspace, FIRST, ("weak", "fair"), clock)
        publisher.set_alias("uniroute", "previous", 1)
        night = run_night(workspace, SECOND, ("weak", "fair", "good"), clock)
        assert night.promotion == "promoted"
        assert night.alias_drifts == (), "by hand to where the night moves it anyway"
        publisher.set_alias("uniroute", "champion", 1)
        again = run_night(workspace, SECOND, ("weak", "fair", "good"), clock)
        assert again.is_unchanged
        assert again.alias_drifts == ("champion points to version 1, it should be version 2",)
        later = run_night(workspace, SECOND.replace(day=2), ("weak", "fair", "good", "late"), clock)
        assert (later.version, later.promotion) == (3, "promoted")
        assert later.alias_drifts == ("champion points to version 1, it should be version 3",)
        assert publisher.aliases("uniroute") == {"champion": 1, "challenger": 3, "previous": 2}
        assert len(events(event=DRIFTED)) == 2, "once for each thing that was found"
        assert {one.severity for one in examine(workspace, repair=True, clock=clock)} <= {"ok"}
        assert publisher.aliases("uniroute") == {"champion": 3, "challenger": 3, "previous": 2}
        assert len(events(event=REPAIRED)) == 1
        publisher.client.delete_model_version("uniroute", "3")
        gone = run_night(workspace, SECOND.replace(day=2), ("weak", "fair", "good", "late"), clock)
        assert [drift.partition(" is gone")[0] for drift in gone.alias_drifts] == ["champion", "challenger"]
        found = {one.subject: one for one in examine(workspace, repair=False, clock=clock) if one.severity != "ok"}
        assert set(found) == {"mlflow version 3", "aliases"}
        assert {one.next_step for one in found.values()} == {"uniroute doctor --repair"}
        assert {one.severity for one in examine(workspace, repair=True, clock=clock)} <= {"ok"}
        assert publisher.aliases("uniroute") == {"champion": 4, "challenger": 4, "previous": 2}
        assert len(events(event=VANISHED)) == 1
        assert workspace.registry.ledger.verify().is_intact
