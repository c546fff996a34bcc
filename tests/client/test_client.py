"""The SDK against a real daemon, blocking and asynchronous."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.daemon import Daemon

import portico
from portico import AsyncClient, Client
from portico.wire import Cited, Delta, Finished, Usage


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.url) as client:
        yield client


@pytest.fixture
async def aclient(daemon: Daemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.url) as client:
        yield client


@pytest.fixture
def indexed(client: Client) -> Client:
    """A client of a daemon that has indexed its folder."""
    for run in client.status().startup:
        assert client.runs.wait(run).status == "completed"
    return client


def test_the_status_names_models_stores_and_apps(client: Client, daemon: Daemon) -> None:
    status = client.status()
    assert status.url == daemon.url == client.url
    assert status.home == str(daemon.home)
    assert status.apps == ("handbook",)
    assert [store.name for store in status.stores] == ["handbook"]
    assert {"echo", "fake-embedding"} <= {model.name for model in status.models}
    assert client.health()["status"] == "ok"


def test_an_answer_comes_in_pieces_with_its_passages_first(indexed: Client) -> None:
    kinds = []
    answer = indexed.ask("Which port does the Lighthouse daemon listen on?")
    for event in answer.events():
        kinds.append(type(event))
    assert kinds.index(Cited) < kinds.index(Delta)
    assert kinds[-1] is Finished
    assert answer.passages[0].filename == "port.md"
    assert "7419" in answer.passages[0].text
    assert answer.run is not None
    assert answer.run.startswith("run_")


async def test_the_async_client_returns_the_same_answer_and_passages(
    indexed: Client, aclient: AsyncClient
) -> None:
    question = "雪莲花生长在哪里?"
    reply = await aclient.ask(question, "handbook").read()
    assert reply.passages[0].filename == "gaoshan.md"
    assert reply.passages == indexed.ask(question).read().passages
    pieces = [piece async for piece in aclient.ask(question)]
    assert "".join(pieces) == reply.text


def test_history_reaches_the_model(client: Client) -> None:
    answer = client.chat(
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ],
        "echo",
    )
    assert "".join(answer) == answer.text
    assert answer.text == "three"
    assert answer.usage != Usage()


def test_an_app_is_also_a_model_and_keeps_its_citations(indexed: Client) -> None:
    reply = indexed.chat("How hot is bread baked?", "handbook").read()
    assert reply.passages[0].filename == "bread.txt"


def test_leaving_the_context_of_an_answer_cancels_it(client: Client) -> None:
    with client.ask("How hot is bread baked?") as answer:
        first = next(iter(answer))
    assert answer.text == first
    assert list(answer) == []


def test_search_returns_ranked_passages_and_the_trace_on_request(indexed: Client) -> None:
    response = indexed.search("handbook", "bread oven degrees", max_num_results=2, trace=True)
    assert response.passages[0].filename == "bread.txt"
    assert [passage.rank for passage in response.passages] == list(range(1, len(response.passages) + 1))
    assert response.trace
    assert indexed.search("handbook", "bread").trace == ()


async def test_vectors_come_in_order(client: Client, aclient: AsyncClient) -> None:
    vectors = client.embed(["a", "b"], "fake-embedding")
    assert [len(vector) for vector in vectors.data] == [64, 64]
    assert (await aclient.embed("b", "fake-embedding")).data[0] == pytest.approx(vectors.data[1])


def test_documents_are_ranked_by_how_well_they_answer(client: Client) -> None:
    client.deployments.add("ranker", "fake://", task="rerank")
    texts = ["Bread is baked at 230 degrees.", "The daemon listens on port 7419.", "Tea."]
    documents = client.rerank("which port does the daemon listen on", texts, "ranker")
    assert documents[0].index == 1 and {document.index for document in documents} == {0, 1, 2}
    scores = [document.relevance_score for document in documents]
    assert scores == sorted(scores, reverse=True) and 0 <= min(scores) <= max(scores) <= 1
    assert [result.index for result in client.rerank("port of the daemon", texts, "ranker", top_n=1)] == [1]
    with pytest.raises(portico.InvalidRequest, match="rerank"):
        client.rerank("port", texts, "echo")
    client.deployments.remove("ranker")


def test_files_that_were_attached_are_waited_for(client: Client) -> None:
    store = client.stores.add("kettle")
    client.stores.attach(store.id, client.files.add(b"Tea is made at eighty degrees.", filename="tea.txt").id)
    client.stores.attach(store.id, client.files.add(b"%PDF-1.7 broken", filename="broken.pdf").id)
    store_states: list[portico.Store] = []
    ready = client.stores.wait("kettle", timeout=60, progress=store_states.append)
    assert (ready.file_counts.completed, ready.file_counts.failed) == (1, 1)
    assert store_states[-1] == ready
    assert "eighty" in client.search("kettle", "tea").passages[0].text
    client.stores.remove("kettle")


def test_a_store_is_made_filled_listed_and_removed(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "tea.txt"
    path.write_text("Green tea is brewed at eighty degrees.", encoding="utf-8")
    store = client.stores.add("drinks", description="What to drink")
    file = client.files.add(path)
    memory = client.files.add(b"Coffee.", filename="coffee.txt")
    assert client.stores.attach(store.id, file.id, attributes={"year": 2026}).attributes == {"year": 2026}
    assert [item.filename for item in client.stores.files("drinks")] == ["tea.txt"]
    assert client.files.content(memory.id) == b"Coffee."
    assert {item.id for item in client.files.list()} >= {file.id, memory.id}
    client.stores.detach(store.id, file.id)
    assert len(client.stores.files(store.id)) == 0
    client.files.remove(file.id)
    client.files.remove(memory.id)
    client.stores.remove("drinks")
    with pytest.raises(portico.NotFound, match="drinks"):
        client.stores.get("drinks")


def test_the_next_page_starts_after_the_given_file_id(client: Client) -> None:
    file_ids = [client.files.add(b"text", filename=f"{n}.txt").id for n in range(3)]
    first = client.files.list(limit=2)
    next_page = client.files.list(limit=2, after=first.last_id)
    assert first.has_more
    assert {item.id for item in (*first, *next_page)} >= set(file_ids)
    for file_id in file_ids:
        client.files.remove(file_id)


def test_a_run_can_be_followed_from_any_event(indexed: Client) -> None:
    run = indexed.status().startup[0]
    events = list(indexed.runs.events(run))
    assert isinstance(events[-1].event, Finished)
    assert list(indexed.runs.events(run, after=events[0].seq)) == events[1:]
    assert indexed.runs.get(run).ended
    assert run in [item.id for item in indexed.runs.list(200)]


def test_a_run_is_waited_for_until_it_has_ended(client: Client) -> None:
    run = client.stores.sync("handbook")
    finished_run = client.runs.wait(run)
    assert (finished_run.id, finished_run.ended) == (run, True)
    with pytest.raises(portico.NotFound):
        client.runs.wait("run_none")


def test_models_are_added_loaded_aliased_and_removed(client: Client) -> None:
    deployment = client.deployments.add("second", "fake://", aliases=("spare",))
    assert (deployment.state, deployment.aliases) == ("cold", ("spare",))
    loaded_deployment = client.deployments.load("second")
    assert loaded_deployment.state == "ready"
    assert loaded_deployment.memory_bytes
    client.models.alias("other", "second")
    assert client.chat("hi", "other").read().text == "hi"
    assert {"second", "spare", "other", "handbook"} <= {model.id for model in client.models.list()}
    assert client.deployments.unload("second").state == "cold"
    assert isinstance(client.deployments.logs("second"), list)
    client.deployments.remove("second")
    with pytest.raises(portico.NotFound):
        client.deployments.get("second")


def test_keys_limit_what_a_client_may_do(client: Client, daemon: Daemon) -> None:
    created_key = client.keys.add("reader", ["models:read"])
    assert created_key.key not in repr(client.keys.list())
    with Client(daemon.url, created_key.key) as reader:
        assert reader.models.list() is not None
        with pytest.raises(portico.Forbidden, match="admin"):
            reader.settings()
        client.keys.revoke(created_key.id)
        with pytest.raises(portico.Unauthenticated):
            reader.models.list()


def test_tools_are_listed_and_called(indexed: Client) -> None:
    assert "search" in [tool.name for tool in indexed.tools.list()]
    result = indexed.tools.call("search", {"store": "handbook", "query": "bread"})
    assert "230" in result.text
    assert not result.is_error
    with pytest.raises(portico.NotFound, match="nowhere"):
        indexed.tools.call("search", {"store": "nowhere", "query": "bread"})


def test_settings_and_usage_are_readable(client: Client) -> None:
    client.chat("hi", "echo").read()
    assert {"home", "port"} <= {setting.name for setting in client.settings()}
    while not any(row["name"] == "echo" for row in client.usage()):
        pass  # a call is counted after its answer


def test_unknown_models_apps_and_runs_raise_not_found(client: Client) -> None:
    with pytest.raises(portico.NotFound):
        client.chat("hi", "nobody").read()
    with pytest.raises(portico.NotFound):
        client.ask("hi", "nobody").read()
    with pytest.raises(portico.NotFound):
        client.runs.get("run_none")
    with pytest.raises(portico.InvalidRequest):
        client.search("handbook", "")
