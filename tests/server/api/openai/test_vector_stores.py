"""``/v1/vector_stores`` through a real daemon and the official client."""

from collections.abc import Iterator

import httpx
import openai
import pytest
from tests.daemon import Daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{daemon.url}/v1", api_key="unused", _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def file_ids(client: openai.OpenAI) -> list[str]:
    texts = {
        "tides.md": "# Tides\n\nSpring tides follow the full moon.\n",
        "高山.txt": "雪莲花生长在海拔四千米以上的高山。",
        "fees.csv": "boat,fee\nSwallow,40\nAmazon,35\n",
    }
    return [
        client.files.create(file=(name, text.encode()), purpose="assistants").id
        for name, text in texts.items()
    ]


def error(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text
    details: dict[str, object] = response.json()["error"]
    return details


@pytest.mark.slow
@pytest.mark.conformance("OpenAI", "Vector stores", "openai")
def test_the_official_client_creates_searches_updates_and_deletes_a_store(
    client: openai.OpenAI, file_ids: list[str]
) -> None:
    store = client.vector_stores.create(
        name="Almanac",
        file_ids=file_ids[:1],
        metadata={"team": "pilots"},
        expires_after={"anchor": "last_active_at", "days": 7},
    )
    assert store.metadata == {"team": "pilots"}
    assert store.expires_at is not None
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=file_ids[1:])
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    done = client.vector_stores.files.poll(file_ids[0], vector_store_id=store.id)
    assert (done.status, done.last_error) == ("completed", None)
    stored_store = client.vector_stores.retrieve(store.id)
    assert (stored_store.status, stored_store.file_counts.completed, stored_store.usage_bytes > 0) == (
        "completed",
        3,
        True,
    )

    page = client.vector_stores.search(store.id, query="When are spring tides?", max_num_results=2)
    assert page.data[0].filename == "tides.md"
    assert page.data[0].content[0].text.endswith("Spring tides follow the full moon.")
    assert 0 <= page.data[-1].score <= page.data[0].score <= 1
    hits = client.vector_stores.search(store.id, query=["雪莲花在哪里生长", "Which boat pays 35?"])
    assert {hit.filename for hit in hits.data[:2]} == {"高山.txt", "fees.csv"}

    assert {row.id for row in client.vector_stores.files.list(store.id, limit=1)} == set(file_ids)
    assert len(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id).data) == 2
    text = client.vector_stores.files.content(file_ids[1], vector_store_id=store.id)
    assert [piece.text for piece in text] == ["雪莲花生长在海拔四千米以上的高山。"]

    assert client.vector_stores.files.delete(file_ids[0], vector_store_id=store.id).deleted
    assert "tides.md" not in {
        hit.filename for hit in client.vector_stores.search(store.id, query="spring tides").data
    }
    renamed = client.vector_stores.update(store.id, name="Pilots' almanac", metadata=None)
    assert (renamed.name, renamed.metadata) == ("Pilots' almanac", {})
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)
    assert client.files.retrieve(file_ids[1]).id == file_ids[1]


@pytest.mark.slow
@pytest.mark.conformance("OpenAI", "Vector stores: filters", "openai")
def test_search_filters_by_attributes(client: openai.OpenAI, file_ids: list[str]) -> None:
    store = client.vector_stores.create(name="filtered")
    for year, file_id in enumerate(file_ids, start=2024):
        client.vector_stores.files.create_and_poll(
            file_id, vector_store_id=store.id, attributes={"year": year, "draft": False}
        )
    late = client.vector_stores.search(
        store.id, query="tides fee 雪莲花", filters={"type": "gte", "key": "year", "value": 2025}
    )
    assert {hit.filename for hit in late.data} == {"高山.txt", "fees.csv"}
    assert late.data[0].attributes is not None
    assert late.data[0].attributes["draft"] is False
    client.vector_stores.files.update(file_ids[0], vector_store_id=store.id, attributes={"year": 2030})
    later = client.vector_stores.search(
        store.id, query="tides", filters={"type": "gt", "key": "year", "value": 2029}
    )
    assert [hit.filename for hit in later.data] == ["tides.md"]


def test_a_static_chunking_strategy_is_kept_and_shown(client: openai.OpenAI, file_ids: list[str]) -> None:
    store = client.vector_stores.create(name="chunked")
    row = client.vector_stores.files.create_and_poll(
        file_ids[0],
        vector_store_id=store.id,
        chunking_strategy={
            "type": "static",
            "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
        },
    )
    assert row.status == "completed"
    assert row.chunking_strategy is not None
    assert row.chunking_strategy.to_dict() == {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
    }


def test_a_file_that_cannot_be_read_says_why(client: openai.OpenAI) -> None:
    bad = client.files.create(file=("cut.pdf", b"%PDF-1.7 and no more"), purpose="assistants")
    store = client.vector_stores.create(name="bad")
    row = client.vector_stores.files.create_and_poll(bad.id, vector_store_id=store.id)
    assert row.status == "failed"
    assert row.last_error is not None
    assert row.last_error.code == "invalid_file"
    assert row.last_error.message.startswith("cut.pdf is not a complete PDF")
    assert [item.id for item in client.vector_stores.files.list(store.id, filter="failed")] == [bad.id]
    assert client.vector_stores.retrieve(store.id).file_counts.failed == 1


def test_stores_are_listed_in_pages(client: openai.OpenAI) -> None:
    store_ids = [client.vector_stores.create(name=f"page {i}").id for i in range(4)]
    assert [row.id for row in client.vector_stores.list(limit=2)][:4] == store_ids[::-1]
    rising = client.vector_stores.list(limit=3, order="asc", after=store_ids[0])
    assert [row.id for row in rising.data] == store_ids[1:4]
    page_before = client.vector_stores.list(limit=1, order="asc", before=store_ids[2])
    assert [row.id for row in page_before.data] == [store_ids[1]]


def test_the_store_of_a_folder_is_a_vector_store_too(client: openai.OpenAI) -> None:
    [store] = [row for row in client.vector_stores.list(limit=100) if row.name == "handbook"]
    hit = client.vector_stores.search("handbook", query="Which port does the Lighthouse listen on?").data[0]
    assert hit.filename == "port.md"
    assert hit.to_dict()["place"]["label"] == "line 1 · Ports"  # type: ignore[index]
    with pytest.raises(openai.ConflictError) as error:
        client.vector_stores.files.delete(hit.file_id, vector_store_id=store.id)
    assert error.value.code == "mirrored_file"
    assert client.files.content(hit.file_id).text.startswith("# Ports")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"metadata": {"a": 1}}, "metadata.a"),
        ("", {"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ("", {"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ("", {"embedding_model": "nothing"}, "embedding_model"),
        ("", {"file_ids": ["file-none"]}, "file_id"),
        (
            "",
            {"chunking_strategy": {"type": "static", "static": {"chunk_overlap_tokens": 10**12}}},
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ("/handbook/search", {}, "query"),
        ("/handbook/search", {"query": "x", "max_num_results": 51}, "max_num_results"),
        ("/handbook/search", {"query": []}, "query"),
        (
            "/handbook/search",
            {"query": "x", "filters": {"type": "like", "key": "a", "value": 1}},
            "filters.type",
        ),
        ("/handbook/search", {"query": "x", "ranking_options": {"ranker": "best"}}, "ranking_options.ranker"),
        (
            "/handbook/search",
            {"query": "x", "ranking_options": {"score_threshold": 2}},
            "ranking_options.score_threshold",
        ),
        ("/handbook/file_batches", {}, "file_ids"),
        ("/handbook/file_batches", {"file_ids": []}, "file_ids"),
        ("/handbook/files", {"file_id": "file-none"}, "file_id"),
    ],
)
def test_invalid_requests_are_refused_with_the_parameter(
    daemon: Daemon, path: str, body: dict[str, object], param: str
) -> None:
    response = httpx.post(f"{daemon.url}/v1/vector_stores{path}", json=body)
    details = error(response, response.status_code)
    assert response.status_code in (400, 404)
    assert details["param"] == param


def test_a_refused_create_request_leaves_no_store(daemon: Daemon, client: openai.OpenAI) -> None:
    count_before = len(client.vector_stores.list(limit=100).data)
    error(httpx.post(f"{daemon.url}/v1/vector_stores", json={"name": "x", "file_ids": ["file-none"]}), 404)
    assert len(client.vector_stores.list(limit=100).data) == count_before


def test_an_unknown_store_is_a_404_with_the_nearest_name(daemon: Daemon) -> None:
    details = error(httpx.get(f"{daemon.url}/v1/vector_stores/handbok"), 404)
    assert "Did you mean 'handbook'?" in str(details["message"])
