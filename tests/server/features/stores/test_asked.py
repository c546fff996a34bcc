"""The work of chat models in a search: rewriting the question, choosing stores, judging passages; all traced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

CONFIGURATION = """
models:
  - name: clerk
    source: "fake://"
    aliases: [default]
    parameters:
      script:
        - {match: "Collections:.*Question: .*loaf", content: "The answer is in 2."}
        - {match: "Collections:.*Question: .*nonsense", content: "None of these, sorry."}
        - {match: "Collections:.*Question: .*lamp", content: "1, 2"}
        - {match: "^comment se nomme ceci", content: "<think>A lamp?</think>  \\"Fresnel lens\\" "}
        - {match: "^when it breaks", error: {status: 500, message: "The lamp went out."}}
        - {match: "Passage: .*Fresnel", content: '{"grade": 9}'}
        - {match: "Passage: .*", content: '{"grade": 1}'}
        - {match: "^why in this one", content: "1. Why lamps?\\n2. Why lenses?\\n2. Why lenses?"}
stores:
  - {name: lamps, app: false, embedding_model: "", description: "How lighthouses are lit"}
  - {name: bakery, app: false, embedding_model: "", description: "Bread and cake"}
"""

FILES = {
    "lamps": "The Fresnel lens bends the light of a small lamp into a beam.",
    "bakery": "A loaf has one crust. The lamp over the oven is red.",
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("asked")
    configuration = home / "asked.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration)) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")
        for name, text in FILES.items():
            store = next(item for item in client.vector_stores.list() if item.name == name)
            client.vector_stores.files.upload_and_poll(
                vector_store_id=store.id, file=(f"{name}.txt", text.encode()), poll_interval_ms=50
            )
        yield running


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=60) as client:
        yield client


def vector_search(daemon: Daemon, query: str, *, rewrite: bool) -> Any:
    client = openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0)
    store = next(item for item in client.vector_stores.list() if item.name == "lamps")
    by_words: Any = {"ranker": "lexical"}
    return client.vector_stores.search(store.id, query=query, rewrite_query=rewrite, ranking_options=by_words)


def search(http: httpx.Client, query: str, *stores: str, **options: Any) -> dict[str, Any]:
    body = {"query": query, "stores": list(stores), "trace": True, **options}
    page: dict[str, Any] = http.post("/api/search", json=body).json()
    return page


def stage(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in found["trace"] if item["name"].endswith(name))


@pytest.mark.slow
def test_a_rewritten_query_replaces_the_question_and_is_reported(daemon: Daemon) -> None:
    page = vector_search(daemon, "comment se nomme ceci", rewrite=True)
    assert page.search_query == ["Fresnel lens"]
    assert page.data[0].filename == "lamps.txt"
    plain = vector_search(daemon, "comment se nomme ceci", rewrite=False)
    assert plain.search_query == ["comment se nomme ceci"]
    assert plain.data == []


def test_a_failed_rewrite_falls_back_to_the_original_question(daemon: Daemon, http: httpx.Client) -> None:
    page = vector_search(daemon, "when it breaks the beam", rewrite=True)
    assert page.search_query == ["when it breaks the beam"]
    assert page.data[0].filename == "lamps.txt"
    response = search(http, "when it breaks the beam", "lamps", rewrite="replace")
    assert "the original question: " in stage(response, "replace")["note"]
    assert "The lamp went out." in stage(response, "replace")["note"]


def test_the_trace_reports_the_rewritten_queries(http: httpx.Client) -> None:
    response = search(http, "comment se nomme ceci", "lamps", rewrite="replace")
    assert stage(response, "replace")["note"] == "Fresnel lens"
    response = search(http, "why in this one", "lamps", rewrite="decompose")
    assert stage(response, "decompose")["note"] == "Why lamps? | Why lenses?"


def test_an_unknown_rewrite_model_is_refused_with_404(http: httpx.Client) -> None:
    body = {"query": "lamp", "rewrite": "hyde", "writer": "nobody"}
    answer = http.post("/api/stores/lamps/search", json=body)
    assert answer.status_code == 404
    assert "'nobody'" in answer.json()["error"]["message"]


def test_a_question_goes_to_the_stores_that_the_model_chooses(http: httpx.Client) -> None:
    response = search(http, "lamp of the loaf", "lamps", "bakery", route=True)
    assert {passage["store"] for passage in response["data"]} == {"bakery"}
    assert response["trace"][0]["name"] == "route"
    assert response["trace"][0]["note"] == "bakery"
    second_response = search(http, "where is the lamp", "lamps", "bakery", route=True)
    assert {passage["store"] for passage in second_response["data"]} == {"lamps", "bakery"}


@pytest.mark.parametrize(
    ("options", "why"),
    [({}, "named none"), ({"writer": "nobody"}, "'nobody'")],
    ids=["a model that names none", "a model that is not there"],
)
def test_all_stores_are_searched_if_routing_gives_no_choice(
    http: httpx.Client, options: dict[str, Any], why: str
) -> None:
    response = search(http, "nonsense of a lamp", "lamps", "bakery", route=True, **options)
    assert {passage["store"] for passage in response["data"]} == {"lamps", "bakery"}
    assert response["trace"][0]["note"].startswith("all stores: ")
    assert why in response["trace"][0]["note"]


def test_a_chat_model_reranks_passages_across_stores(http: httpx.Client) -> None:
    response = search(http, "red lamp", "bakery", "lamps", reranker="clerk")
    assert [(passage["store"], passage["score"]) for passage in response["data"]] == [
        ("lamps", 0.9),
        ("bakery", 0.1),
    ]
    judged = [item for item in response["trace"] if item["name"].endswith("rerank")]
    assert [item["note"] for item in judged] == ["clerk", "clerk"]
    assert all(item["candidates"] for item in judged)
