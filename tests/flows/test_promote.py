"""The form that decides promotions in Prefect: the same functions, the same refusals."""

from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.promote import promote
from flows.workspace import Workspace
from registry.errors import StalePromotion


def test_the_form_decides_as_the_command_does(contest_folder: Path) -> None:
    config = str(contest_folder / "uniroute.toml")
    state = promote.fn(2, "approve", "looks right", "bob", config)
    assert (state.is_completed(), state.message) == (True, "promotion 2 is applied")
    with Workspace(load_settings(config)) as workspace:
        decided = workspace.registry.promotions.get(2)
    assert (decided.decided_by, decided.reason) == ("bob", "looks right")
    with pytest.raises(StalePromotion, match="is applied"):
        promote.fn(2, "reject", "too late", "bob", config)


def test_prefect_offers_a_form_with_the_four_fields() -> None:
    fields = promote.parameters.properties
    assert {"promotion_id", "decision", "reason", "actor"} == set(promote.parameters.required)
    assert fields["decision"]["enum"] == ["approve", "reject"]
