"""Two people promote at once, or one by a comparison that is out of date: the champion is moved once, and all know."""

import pytest

from flows.cli.outcome import ExitCode, exit_code_of
from registry.errors import StalePromotion
from tests.registry.samples import NOW, save_routers
from tests.registry.test_promotions import PASSED, WORDS, promote

PROMOTE = """
import sys
from datetime import UTC, datetime
from registry.errors import StalePromotion
from registry.promotions import gate_result
from registry.store import Registry
with Registry.open(sys.argv[1]) as registry:
    champion = registry.routers.aliases().champion
    print("looked", flush=True)
    sys.stdin.readline()
    now = datetime.now(UTC)
    try:
        asked = registry.promotions.request(sys.argv[2], champion, gate_result(True, {}), actor="me", now=now)
        registry.promotions.apply(asked, actor="me", reason="better", now=now)
        print("promoted")
    except StalePromotion as error:
        print("stale", error.message)
"""


@pytest.fixture
def routers(registry, night):
    return save_routers(registry, night)


def test_f83_of_two_promotions_at_once_one_is_done_and_the_other_is_stale(registry, routers, url, in_child):
    """Both saw the same champion before either moved it."""
    promote(registry, routers[0])
    before = registry.ledger.count()
    children = [in_child(PROMOTE, url, digest) for digest in routers[1:]]
    assert [child.stdout.readline() for child in children] == ["looked\n"] * 2
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    said = {digest: child.communicate()[0] for digest, child in zip(routers[1:], children, strict=True)}
    (winner,) = (digest for digest, text in said.items() if text == "promoted\n")
    (loser,) = (text for digest, text in said.items() if digest != winner)
    assert loser.startswith("stale ")
    aliases = registry.routers.aliases()
    assert (aliases.champion, aliases.previous) == (winner, routers[0])
    applied = registry.ledger.events(event="router:promotion:applied")
    assert [event.subject for event in applied if event.number > before] == [winner]
    assert registry.ledger.verify().is_intact


def test_f83_a_review_of_a_router_against_a_former_champion_is_refused_with_the_present_one(registry, routers):
    promote(registry, routers[0])
    reviewed = registry.promotions.request(routers[1], routers[0], PASSED, actor="night", now=NOW)
    seen = registry.promotions.get(reviewed.id)
    promote(registry, routers[2])
    with pytest.raises(StalePromotion) as refused:
        registry.promotions.apply(seen, now=NOW, **WORDS)
    assert exit_code_of(refused.value) == ExitCode.REFUSED
    assert registry.routers.aliases().champion == routers[2]
    with pytest.raises(StalePromotion, match=f"the champion now is router {routers[2][:12]}"):
        registry.promotions.request(routers[1], routers[0], PASSED, actor="ann", now=NOW)
