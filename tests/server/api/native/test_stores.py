"""``/api/stores`` through a real daemon."""

import signal
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.readers import documents

from portico.client import Client


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=60) as client:
        yield client


def follow(http: httpx.Client, run: str) -> list[str]:
    """Return the types of a run's events up to its end."""
    with http.stream("GET", f"/api/runs/{run}/events") as events:
        return [line.partition(": ")[2] for line in events.iter_lines() if line.startswith("event: ")]


def test_the_folder_given_at_startup_becomes_a_store(http: httpx.Client, docs: Path) -> None:
    store = http.get("/api/stores/handbook").json()
    assert store["folder"] == str(docs)
    assert store["app"] is True
    assert store["id"].startswith("vs_")
    assert store in http.get("/api/stores").json()["data"]


def test_a_folder_added_as_a_store_is_indexed_searched_synced_and_removed(
    http: httpx.Client, tmp_path: Path
) -> None:
    folder = tmp_path / "ships"
    folder.mkdir()
    (folder / "log.txt").write_text("The Swallow sailed on a Tuesday.")
    store = http.post("/api/stores", json={"name": "ships", "folder": str(folder)}).json()
    assert (store["name"], store["app"]) == ("ships", True)
    assert "ships" in [row["id"] for row in http.get("/v1/models").json()["data"]]
    assert follow(http, http.post("/api/stores/ships/sync").json()["run"])[-1] == "finished"
    (folder / "second.md").write_text("# Crew\n\nThe Amazon has a crew of two.\n")
    assert follow(http, http.post("/api/stores/ships/sync").json()["run"])[-1] == "finished"
    files = http.get("/api/stores/ships/files").json()["data"]
    assert [(row["filename"], row["status"]) for row in files] == [
        ("log.txt", "completed"),
        ("second.md", "completed"),
    ]
    answer = http.post("/api/stores/ships/search", json={"query": "crew of the Amazon", "trace": True}).json()
    best = answer["data"][0]
    assert (best["filename"], best["rank"], best["place"]["heading"]) == ("second.md", 1, ["Crew"])
    assert {"lexical", "fuse"} <= {stage["name"] for stage in answer["trace"]}
    assert http.delete("/api/stores/ships").json() == {"id": store["id"], "deleted": True}
    assert http.get("/api/stores/ships").status_code == 404
    assert (folder / "log.txt").is_file()


def picture(data: bytes) -> tuple[int, int, set[tuple[int, int, int]]]:
    """Return width, height and colours of a PNG with three bytes per pixel and no filters."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    at = data.index(b"IDAT")
    [length] = struct.unpack(">I", data[at - 4 : at])
    rows = zlib.decompress(data[at + 4 : at + 4 + length])
    step = 1 + 3 * width
    dots = b"".join(rows[row * step + 1 : (row + 1) * step] for row in range(height))
    return width, height, set(zip(dots[::3], dots[1::3], dots[2::3], strict=True))


def test_a_page_of_a_pdf_is_drawn_with_the_passage_marked(http: httpx.Client, tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    folder.mkdir()
    text = "The rent of the flat\nis 840 euros a month.\nNothing more."
    (folder / "lease.pdf").write_bytes(documents.pdf("A first page.", text))
    (folder / "note.md").write_text("No pages here.")
    http.post("/api/stores", json={"name": "leases", "folder": str(folder)}).raise_for_status()
    assert follow(http, http.post("/api/stores/leases/sync").json()["run"])[-1] == "finished"
    ids = {row["filename"]: row["id"] for row in http.get("/api/stores/leases/files").json()["data"]}
    path = f"/api/stores/leases/files/{ids['lease.pdf']}/page"
    marked_response = http.post(path, json={"page": 2, "passage": "rent of the flat is 840 euros"})
    assert marked_response.headers["content-type"] == "image/png"
    width, height, colours = picture(marked_response.content)
    assert (255, 224, 70) in colours and max(width, height) <= 1600
    for plain in ({"page": 2}, {"page": 1, "passage": "rent of the flat is 840 euros"}):
        assert (255, 224, 70) not in picture(http.post(path, json=plain).content)[2]
    for body, param in (
        ({"page": 3}, "page"),
        ({"page": 0}, "page"),
        ({"page": 1, "passage": "x" * 20_001}, "passage"),
        ({"page": 1, "dpi": 600}, "dpi"),
    ):
        response = http.post(path, json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    note_response = http.post(f"/api/stores/leases/files/{ids['note.md']}/page", json={"page": 1})
    assert note_response.json()["error"]["code"] == "no_pages"
    with Client(str(http.base_url)) as client:
        assert client.stores.page("leases", ids["lease.pdf"], 1).startswith(b"\x89PNG")
    http.delete("/api/stores/leases")


def test_the_chunks_of_a_file_are_listed_by_group_with_positions(http: httpx.Client, tmp_path: Path) -> None:
    folder = tmp_path / "tides"
    folder.mkdir()
    text = "".join(f"# Part {n}\n\nThe tide of day {n} \U0001d11e is high.\n\n" for n in range(40))
    (folder / "tide.md").write_text(text, encoding="utf-8")
    http.post("/api/stores", json={"name": "tides", "folder": str(folder)}).raise_for_status()
    assert follow(http, http.post("/api/stores/tides/sync").json()["run"])[-1] == "finished"
    [file] = http.get("/api/stores/tides/files").json()["data"]
    path = f"/api/stores/tides/files/{file['id']}/chunks"
    chunk_list = http.get(path).json()
    assert [chunk["number"] for chunk in chunk_list["data"]] == list(range(len(chunk_list["data"])))
    assert not chunk_list["has_more"] and len(chunk_list["data"]) > 1
    for chunk in chunk_list["data"]:
        assert text[chunk["place"]["start"] : chunk["place"]["end"]] == chunk["text"]
    first = http.get(path, params={"limit": 1}).json()
    assert first["has_more"] and first["data"] == chunk_list["data"][:1]
    remaining_chunks = http.get(path, params={"after": 0}).json()["data"]
    assert remaining_chunks == chunk_list["data"][1:]
    strategy = {"type": "sentence", "size": 60, "overlap": 20}
    group = http.post(
        "/api/stores/tides/groups", json={"name": "small", "chunking_strategy": strategy}
    ).json()
    assert follow(http, group["run"])[-1] == "finished"
    small = http.get(path, params={"group": "small", "limit": 1_000}).json()["data"]
    assert len(small) > len(chunk_list["data"]) and all(len(chunk["text"]) <= 60 for chunk in small)
    for query, status, param in (
        ({"group": "smal"}, 404, "group"),
        ({"limit": 0}, 400, "limit"),
        ({"limit": 1_001}, 400, "limit"),
        ({"after": -2}, 400, "after"),
    ):
        response = http.get(path, params=query)
        assert (response.status_code, response.json()["error"]["param"]) == (status, param), query
    assert http.get("/api/stores/tides/files/file-nobody/chunks").json()["error"]["code"] == "file_not_found"
    with Client(str(http.base_url)) as client:
        page = client.stores.chunks("tides", file["id"], group="small", after=2, limit=2)
        assert ([chunk.number for chunk in page], page.has_more) == ([3, 4], True)
    http.delete("/api/stores/tides")


def test_the_skipped_files_of_a_store_are_listed_with_reasons(http: httpx.Client, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"\x00\x01")
    (folder / "b.dat").write_bytes(b"\x00\x02")
    (folder / "empty").touch()
    http.post("/api/stores", json={"name": "photos", "folder": str(folder)})
    follow(http, http.post("/api/stores/photos/sync").json()["run"])
    reasons = {"of an unsupported format": 2, "empty": 1}
    assert http.get("/api/stores/photos").json()["skipped"] == reasons
    report = http.get("/api/stores/photos/skipped").json()
    assert (report["reasons"], report["total"]) == (reasons, 3)
    assert {item["name"]: item["reason"] for item in report["data"]} == {
        "a.bin": "of an unsupported format",
        "b.dat": "of an unsupported format",
        "empty": "empty",
    }
    assert report["looked_at"] > 0
    response = http.post(
        "/api/apps/photos/run", json={"messages": [{"role": "user", "content": "What is it?"}]}
    )
    assert "There are no documents to search." in response.text
    http.delete("/api/stores/photos")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"name": "a/b"}, 400, "name"),
        ({"name": ""}, 400, "name"),
        ({"name": "vs_mine"}, 400, "name"),
        ({"name": "handbook"}, 409, "name"),
        ({"name": "echo", "app": True}, 409, "name"),
        ({"name": "x", "folder": "/no/such/folder"}, 400, "folder"),
        ({"name": "x", "embedding_model": "echo"}, 400, "embedding_model"),
        ({}, 400, "name"),
    ],
)
def test_an_invalid_store_is_refused_naming_the_field(
    http: httpx.Client, body: dict[str, object], status: int, param: str
) -> None:
    response = http.post("/api/stores", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_a_store_without_a_folder_cannot_be_synced(http: httpx.Client) -> None:
    http.post("/api/stores", json={"name": "loose"})
    response = http.post("/api/stores/loose/sync")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "no_folder")


def test_keys_see_only_the_stores_named_in_their_scopes(http: httpx.Client) -> None:
    http.post("/api/stores", json={"name": "shared"})
    key = http.post("/api/keys", json={"name": "reader", "scopes": ["stores:shared:read"]}).json()["key"]
    reader = {"authorization": f"Bearer {key}"}
    assert [row["name"] for row in http.get("/api/stores", headers=reader).json()["data"]] == ["shared"]
    assert http.post("/api/stores/shared/search", json={"query": "x"}, headers=reader).status_code == 200
    assert http.delete("/api/stores/shared", headers=reader).status_code == 403
    assert http.post("/api/stores", json={"name": "mine"}, headers=reader).status_code == 403
    assert http.get("/api/stores/handbook", headers=reader).status_code == 403
    other_key = http.post("/api/keys", json={"name": "other", "scopes": ["stores:*:manage"]}).json()["key"]
    owner = {"authorization": f"Bearer {other_key}"}
    own_store = http.post("/api/stores", json={"name": "mine"}, headers=owner).json()
    assert http.get(f"/api/stores/{own_store['id']}", headers=reader).status_code == 404
    assert http.get("/api/stores/mine", headers=owner).status_code == 200


@pytest.mark.slow
@pytest.mark.process
def test_a_daemon_that_is_killed_while_it_indexes_loses_no_acknowledged_file(tmp_path: Path) -> None:
    configuration = tmp_path / "test.yaml"
    configuration.write_text('models:\n  - {name: default, source: "fake://"}\n')
    home = tmp_path / "home"
    with (
        daemons.running(home, "--file", str(configuration)) as first,
        httpx.Client(base_url=first.url, timeout=60) as http,
    ):
        store = http.post("/api/stores", json={"name": "papers", "embedding_model": ""}).json()
        form = {"purpose": "assistants"}
        ids = []
        for i in range(12):
            text = f"Paper number {i} of many, about the sea and its ships. " * 400
            uploaded_file = http.post("/v1/files", files={"file": (f"{i}.txt", text)}, data=form).json()
            ids.append(uploaded_file["id"])
        batch = http.post(f"/v1/vector_stores/{store['id']}/file_batches", json={"file_ids": ids})
        assert batch.status_code == 200
        first.stop(signal.SIGKILL)
    with (
        daemons.running(home, "--file", str(configuration)) as second,
        httpx.Client(base_url=second.url, timeout=60) as http,
    ):
        runs = [run for run in http.get("/api/runs").json()["data"] if run["kind"] == "ingest"]
        for run in runs:
            follow(http, run["id"])
        files = http.get("/api/stores/papers/files").json()["data"]
        assert [(row["id"], row["status"]) for row in files] == [
            (file_id, "completed") for file_id in sorted(ids)
        ]
        results = http.post("/api/stores/papers/search", json={"query": "paper number 11"}).json()["data"]
        assert results[0]["filename"] == "11.txt"


def test_chunk_groups_and_searches_of_several_stores_work_over_http(
    http: httpx.Client, tmp_path: Path
) -> None:
    for name, text in (
        ("east", "The eastern gate is red and has two towers. It opens at six."),
        ("west", "The western gate is blue."),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "gate.txt").write_text(text)
        assert http.post("/api/stores", json={"name": name, "folder": str(folder)}).status_code == 200
        assert follow(http, http.post(f"/api/stores/{name}/sync").json()["run"])[-1] == "finished"
    group_request = {"name": "small", "chunking_strategy": {"type": "sentence", "size": 50, "overlap": 0}}
    created_group = http.post("/api/stores/east/groups", json=group_request).json()
    assert follow(http, created_group["run"])[-1] == "finished"
    groups = http.get("/api/stores/east/groups").json()["data"]
    assert [(group["name"], group["chunks"]) for group in groups] == [("chunk", 1), ("small", 2)]
    body = {"query": "when does it open", "groups": ["small"], "neighbours": 1, "trace": True}
    answer = http.post("/api/stores/east/search", json=body).json()
    assert answer["data"][0]["text"] == "The eastern gate is red and has two towers.\nIt opens at six."
    assert "neighbours" in [stage["name"] for stage in answer["trace"]]
    answer = http.post("/api/search", json={"stores": ["east", "west"], "query": "blue western gate"}).json()
    assert [passage["store"] for passage in answer["data"]] == ["west", "east"]
    unknown = {"query": "gate", "filters": {"type": "eq", "key": "colour", "value": "red"}}
    for names in (["east"], ["east", "west"]):
        response = http.post("/api/search", json={"stores": names, **unknown})
        assert response.status_code == 400, response.text
        assert "has the attribute 'colour'" in response.json()["error"]["message"]
    assert http.delete("/api/stores/east/groups/small").json() == {"id": "small", "deleted": True}
    response = http.post("/api/stores/east/search", json={"query": "x", "groups": ["small"]})
    assert (response.status_code, response.json()["error"]["param"]) == (404, "groups")


def test_a_store_is_planned_paused_and_changed_over_http(http: httpx.Client, tmp_path: Path) -> None:
    folder = tmp_path / "south"
    folder.mkdir()
    (folder / "gate.txt").write_text("The southern gate is green.")
    http.post("/api/stores", json={"name": "south", "folder": str(folder)})
    assert follow(http, http.post("/api/stores/south/sync").json()["run"])[-1] == "finished"
    paused = http.patch("/api/stores/south", json={"paused": True, "description": "A gate"}).json()
    assert (paused["paused"], paused["description"], paused["run"]) == (True, "A gate", None)
    (folder / "wall.txt").write_text("A wall.")
    plan = http.get("/api/stores/south/sync/plan").json()
    assert (plan["added"], plan["unchanged"]) == (["wall.txt"], 1)
    store = http.patch("/api/stores/south", json={"embedding_model": ""}).json()
    assert follow(http, store["run"])[-1] == "finished"
    assert http.get("/api/stores/south").json()["embedding_model"] == ""
    assert http.patch("/api/stores/south", json={"embedding_model": "psychic"}).status_code == 400


@pytest.mark.parametrize(("param", "value"), [("embedding_model", "psychic"), ("index", "pgvector")])
def test_a_refused_change_of_a_store_changes_nothing(http: httpx.Client, param: str, value: str) -> None:
    name = f"refused-{param}"
    http.post("/api/stores", json={"name": name, "embedding_model": ""}).raise_for_status()
    store_before = http.get(f"/api/stores/{name}").json()
    answer = http.patch(f"/api/stores/{name}", json={"description": "A change", "links": True, param: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert http.get(f"/api/stores/{name}").json() == store_before


def test_suggested_questions_change_with_the_documents_of_the_store(
    http: httpx.Client, tmp_path: Path
) -> None:
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "dogs.md").write_text(
        "# Visits\n\n## Can I bring my dog?\n\nDogs are allowed on Fridays if the colleagues in the room agree.\n"
    )
    http.post("/api/stores", json={"name": "desk", "folder": str(folder)}).raise_for_status()
    assert follow(http, http.post("/api/stores/desk/sync").json()["run"])[-1] == "finished"
    assert http.get("/api/stores/desk/questions").json()["data"][0] == "Can I bring my dog?"
    (folder / "dogs.md").unlink()
    (folder / "parking.md").write_text(
        "# Cars\n\n## How do I get a parking space?\n\nAsk the front desk; a space costs 45 euros a month.\n"
    )
    assert follow(http, http.post("/api/stores/desk/sync").json()["run"])[-1] == "finished"
    questions = http.get("/api/stores/desk/questions").json()["data"]
    assert questions[0] == "How do I get a parking space?" and not any(
        "dog" in question for question in questions
    )
    assert http.delete("/api/stores/desk").json()["deleted"] is True
    assert http.get("/api/stores/desk/questions").status_code == 404
