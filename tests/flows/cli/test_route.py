"""What `uniroute route` decides for a text."""

from collections.abc import Iterator

import pytest

from flows.cli.route import decide
from flows.workspace import Workspace
from registry.store import Registry
from tests.fakes.served import served_home


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    import mlflow

    folder = tmp_path_factory.mktemp("route")
    Registry.open(f"sqlite:///{folder / 'registry.db'}").close()
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_registered_models()
    with served_home(folder / "home", folder / "registry.db", folder / "mlflow.db") as workspace:
        yield workspace


def test_a_prompt_costs_its_own_tokens(served: Workspace) -> None:
    record = served.registry.routers.get("champion")
    short, long = (decide(served, record, "word " * n, candidates="middle") for n in (20, 2000))
    assert short.llm == long.llm == "sandbox:middle"
    # Five bytes a word, four bytes a token, 10 USD per million tokens; the tokens of the answer stay the same.
    assert long.expected_cost_usd - short.expected_cost_usd == pytest.approx(1980 * 5 / 4 * 10 / 1e6)


def test_a_long_prompt_goes_to_a_cheaper_llm_than_a_short_one_like_it(served: Workspace) -> None:
    record = served.registry.routers.get("champion")
    short, long = (decide(served, record, "word " * n, cost_weight=10.0) for n in (1, 20_000))
    assert (short.llm, long.llm) == ("sandbox:middle", "sandbox:frugal")


def test_under_a_budget_prompts_of_any_length_count_as_long_as_in_profiling(served: Workspace) -> None:
    record = served.registry.routers.get("champion")
    # Frugal costs 0.3 USD per 1 000 prompts of the profile's length and middle 3.
    for n in (1, 20_000):
        assert decide(served, record, "word " * n, max_cost_usd=0.5).llm == "sandbox:frugal"
