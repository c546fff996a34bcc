"""Chunk groups that a model creates: written by scripted chat models, split by vectors, resumed after interruptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

from portico_server.features.chunkers import prompts
from portico_server.features.chunkers.document import Part, PartWriter
from portico_server.features.chunkers.prompts import answer_text
from portico_server.features.stores.generated import first_behind

CONFIGURATION = r"""
models:
  - {name: echo, source: "fake://", aliases: [default]}
  - {name: vectors, source: "fake://", task: embedding, parameters: {dimensions: 64}, aliases: [default-embedding]}
  - name: summarist
    source: "fake://"
    parameters:
      script:
        - {match: "<text>.*keeper (\\w+)", content: "About the gardener \\1."}
  - name: brittle
    source: "fake://"
    parameters:
      script:
        - {match: "<text>.*keeper fern", times: 4, error: {status: 500, message: "The lamp went out."}}
        - {match: "<text>.*keeper (\\w+)", content: "Of \\1 and no other."}
  - name: asker
    source: "fake://"
    parameters:
      script:
        - match: "<text>.*keeper (\\w+)"
          content: "Q: Who dwells at part \\1?\nA: The keeper \\1.\n\nQ: 灯塔在哪里？\nA: 在岛上。"
  - name: splitter
    source: "fake://"
    parameters: {script: [{match: "<text>.*keeper (\\w+)", content: "- Keeper \\1 rows.\n- Keeper \\1 sings."}]}
  - name: placer
    source: "fake://"
    parameters:
      script: [{match: "<document>.*keeper ash.*</document>.*<text>.*keeper (\\w+)", content: "Chapter \\1."}]
  - {name: mute, source: "fake://", parameters: {script: [{content: ""}]}}
  - name: narrow
    source: "fake://"
    parameters: {script: {context_length: 320, replies: [{match: "<document>"}, {content: "Alone."}]}}
"""

NAMES = (
    "ash",
    "birch",
    "cedar",
    "dogwood",
    "elm",
    "fern",
    "gorse",
    "hazel",
    "ivy",
    "juniper",
    "kelp",
    "linden",
)
STORY = "\n\n".join(
    f"## Part {name}\n\nThis part is about the keeper {name}. "
    + f"He kept the lamp number {n} of the coast. " * 40
    for n, name in enumerate(NAMES, start=1)
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("made")
    folder = home / "story"
    folder.mkdir()
    (folder / "story.md").write_text(STORY, encoding="utf-8")
    configuration = home / "made.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration), "--docs", str(folder)) as running:
        running.settle()
        yield running


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=60) as client:
        yield client


def follow(http: httpx.Client, run: str) -> None:
    with http.stream("GET", f"/api/runs/{run}/events") as events:
        events.read()


def make(http: httpx.Client, name: str, strategy: str, **options: Any) -> dict[str, Any]:
    """Create a group of the store and return it once it is complete."""
    body = {"name": name, "chunking_strategy": {"type": strategy, **options}}
    answer = http.post("/api/stores/story/groups", json=body)
    assert answer.status_code == 200, answer.text
    follow(http, answer.json()["run"])
    return group(http, name)


def group(http: httpx.Client, name: str) -> dict[str, Any]:
    groups: list[dict[str, Any]] = http.get("/api/stores/story/groups").json()["data"]
    return next(item for item in groups if item["name"] == name)


def search(http: httpx.Client, query: str, name: str, **options: Any) -> list[dict[str, Any]]:
    body = {"query": query, "groups": [name], "max_num_results": 50, **options}
    passages: list[dict[str, Any]] = http.post("/api/stores/story/search", json=body).json()["data"]
    return passages


def test_a_summary_is_found_and_placed_at_its_section(http: httpx.Client) -> None:
    status = make(http, "brief", "summary", model="summarist")
    assert (status["completed"], status["failed"], status["waiting"]) == (1, 0, 0)
    best = search(http, "gardener cedar", "brief")[0]
    assert best["text"] == "About the gardener cedar."
    start, end = best["place"]["start"], best["place"]["end"]
    assert STORY[start:end].startswith("## Part cedar")
    assert best["place"]["heading"][-1] == "Part cedar"
    assert STORY[:start].count("\n") + 1 == best["place"]["line"]


def test_a_summary_hit_returns_its_passage_as_parent(http: httpx.Client) -> None:
    make(http, "brief-own", "summary", model="summarist")
    best = search(http, "gardener ivy", "brief-own", parents="chunk")[0]
    assert "keeper ivy" in best["text"]


@pytest.mark.slow
def test_a_retried_run_continues_after_its_last_chunk(http: httpx.Client) -> None:
    status = make(http, "broken", "summary", model="brittle")
    assert (status["completed"], status["failed"]) == (0, 1)
    [[file, reason]] = status["errors"]
    assert file == "story.md"
    assert "The lamp went out." in reason
    assert "story.md" in reason
    assert status["chunks"] == NAMES.index("fern")  # chunks written earlier are kept
    [run] = http.post("/api/stores/story/groups/retry").json()["runs"]
    follow(http, run)
    status = group(http, "broken")
    assert (status["completed"], status["failed"], status["errors"]) == (1, 0, [])
    texts = [passage["text"] for passage in search(http, "of no other", "broken", ranker="lexical")]
    assert sorted(texts) == [f"Of {name} and no other." for name in NAMES]
    assert http.post("/api/stores/story/groups/retry").json() == {"runs": []}


def test_generated_questions_are_stored_with_answers_in_both_languages(http: httpx.Client) -> None:
    make(http, "asked", "questions", model="asker", size=4_000)
    best = search(http, "Who dwells at part hazel?", "asked")[0]
    assert best["text"] == "Q: Who dwells at part hazel?\nA: The keeper hazel."
    assert "灯塔" in search(http, "灯塔在哪里？", "asked")[0]["text"]


def test_propositions_are_separate_chunks_placed_at_their_passage(http: httpx.Client) -> None:
    make(http, "facts", "propositions", model="splitter", size=4_000)
    passages = search(http, "Keeper linden sings", "facts")
    assert passages[0]["text"] == "Keeper linden sings."
    place = passages[0]["place"]
    assert "keeper linden" in STORY[place["start"] : place["end"]]


def test_a_contextual_chunk_keeps_its_text_below_the_context_sentence(http: httpx.Client) -> None:
    make(http, "placed", "contextual", model="placer", size=4_000, overlap=0)
    best = search(http, "Chapter kelp", "placed")[0]
    sentence, _, text = best["text"].partition("\n\n")
    assert sentence == "Chapter kelp."
    assert STORY[best["place"]["start"] : best["place"]["end"]] == text


def test_a_model_with_a_small_context_is_shown_less_of_the_document(http: httpx.Client) -> None:
    status = make(http, "narrow", "contextual", model="narrow", size=1_000)
    assert status["failed"] == 0, status["errors"]
    assert search(http, "Alone", "narrow")[0]["text"].startswith("Alone.\n\n")


def test_unusable_keyword_answers_are_reported_as_failures(http: httpx.Client) -> None:
    status = make(http, "silent", "keywords", model="mute")
    assert status["failed"] == 1
    assert "the model's answers were unusable" in status["errors"][0][1]
    http.delete("/api/stores/story/groups/silent")


def test_semantic_chunking_splits_where_the_topic_changes(http: httpx.Client) -> None:
    about = {"boats": "The boat has a mast and a sail. ", "bread": "Dough with yeast rises in warm ovens. "}
    text = about["boats"] * 6 + about["bread"] * 6
    body = {"text": text, "strategies": [{"type": "semantic", "percentile": 90}]}
    [cut] = http.post("/api/chunk", json=body).json()["data"]
    texts = [chunk["text"] for chunk in cut["chunks"]]
    assert "".join(texts).replace(" ", "") == text.replace(" ", "")
    assert len(texts) == 2
    assert texts[0].count("boat") in (5, 6)  # the window that holds both subjects may belong to either
    assert texts[1].count("Dough") in (5, 6)
    for chunk in cut["chunks"]:
        assert text[chunk["place"]["start"] : chunk["place"]["end"]] == chunk["text"]
    status = make(http, "turns", "semantic")
    assert status["completed"] == 1
    best = search(http, "keeper elm", "turns", ranker="lexical")[0]
    assert STORY[best["place"]["start"] : best["place"]["end"]] == best["text"]


def test_a_preview_generates_only_the_first_pieces(http: httpx.Client) -> None:
    body = {
        "text": STORY,
        "filename": "s.md",
        "strategies": [{"type": "summary", "model": "summarist", "size": 2_000}],
    }
    [cut] = http.post("/api/chunk", json=body).json()["data"]
    assert cut["total"] == len(NAMES)
    assert [chunk["text"] for chunk in cut["chunks"]] == [f"About the gardener {name}." for name in NAMES[:8]]


@pytest.mark.parametrize(
    ("strategy", "status", "words"),
    [
        ({"type": "summary", "model": "nobody"}, 404, "'nobody'"),
        ({"type": "summary", "model": "vectors"}, 400, "not a model for chat"),
        ({"type": "semantic", "model": "echo"}, 400, "not a model for embedding"),
        ({"type": "summary", "model": ""}, 400, "name of a model"),
        ({"type": "semantic", "percentile": 30}, 400, "from 50 to 99"),
    ],
)
def test_a_model_that_cannot_make_chunks_is_refused_at_once(
    http: httpx.Client, strategy: dict[str, Any], status: int, words: str
) -> None:
    for path, body in (
        ("/api/stores/story/groups", {"name": "never", "chunking_strategy": strategy}),
        ("/api/chunk", {"text": "A text.", "strategies": [strategy]}),
    ):
        answer = http.post(path, json=body)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert words in error["message"]
        assert error["param"].startswith("chunking_strategy.")


def test_a_model_based_chunking_strategy_for_a_file_is_refused(http: httpx.Client) -> None:
    store = http.post("/v1/vector_stores", json={"name": "own"}).json()["id"]
    file = http.post("/v1/files", data={"purpose": "assistants"}, files={"file": ("a.txt", b"One.")}).json()[
        "id"
    ]
    body = {"file_id": file, "chunking_strategy": {"type": "summary"}}
    answer = http.post(f"/v1/vector_stores/{store}/files", json=body)
    assert answer.status_code == 400
    assert "chunk group" in answer.json()["error"]["message"]


def test_a_file_added_later_is_summarised_too(http: httpx.Client) -> None:
    make(http, "later", "summary", model="summarist")
    file = http.post(
        "/v1/files",
        data={"purpose": "assistants"},
        files={"file": ("late.txt", b"Here is the keeper zinnia.")},
    ).json()["id"]
    store = http.get("/api/stores/story").json()["id"]
    batch = http.post(f"/v1/vector_stores/{store}/file_batches", json={"file_ids": [file]}).json()
    assert batch["status"]
    for kind in ("ingest", "write"):  # the first starts the second
        for run in http.get("/api/runs").json()["data"]:
            if run["kind"] == kind:
                follow(http, run["id"])
    best = search(http, "gardener zinnia", "later")[0]
    assert (best["text"], best["filename"]) == ("About the gardener zinnia.", "late.txt")


# --- parsing of an answer -------------------------------------------------------------------------------


def piece(text: str = "It rose by 3 %.") -> Part:
    return PartWriter().part(text, line=1)


def test_common_answer_formats_of_models_are_parsed() -> None:
    assert prompts.KEYWORDS.read("1. Lamp\n2. lighthouse\n- Lamp", piece()) == ["Lamp, lighthouse"]
    assert prompts.KEYWORDS.read("灯塔、守灯人，煤油灯。", piece()) == ["灯塔, 守灯人, 煤油灯"]
    assert prompts.KEYWORDS.read(" \n", piece()) == []
    assert prompts.PROPOSITIONS.read("* One.\n\n* Two.\n* One.", piece()) == ["One.", "Two."]
    assert prompts.SUMMARY.read("A text\n  about lamps. ", piece()) == ["A text about lamps."]
    assert prompts.CONTEXTUAL.read("", piece()) == ["It rose by 3 %."]
    assert prompts.CONTEXTUAL.read("Acme in 2023.", piece()) == ["Acme in 2023.\n\nIt rose by 3 %."]


@pytest.mark.parametrize(
    "answer",
    [
        "Q: Who?\nA: Nobody.",
        "**Q1:** Who?\n**A1:** Nobody.",
        "1. Q: Who?\n   A: Nobody.",
        "Question 1: Who?\n\nAnswer: Nobody.",
        "问：Who?\n答：Nobody.",
    ],
)
def test_generated_questions_are_parsed_in_every_format(answer: str) -> None:
    assert prompts.QUESTIONS.read(answer, piece()) == ["Q: Who?\nA: Nobody."]


def test_a_truncated_answer_ends_at_a_sentence_and_thinking_is_dropped() -> None:
    assert answer_text("<think>Hm. Lamps?</think>About lamps. And the kee", cut=True) == "About lamps."
    assert answer_text("- One.\n- Two.\n- Thr", cut=True) == "- One.\n- Two."
    assert answer_text("About lamps. And the kee", cut=False) == "About lamps. And the kee"
    assert answer_text("Unending", cut=True) == "Unending"
    assert answer_text("<think>never ends", cut=True) == ""


def test_a_run_continues_after_the_last_written_place() -> None:
    writer = PartWriter()
    first_part, two, three = (writer.part(text) for text in ("a", "bb", "ccc"))
    assert [first_behind([first_part, two, three], item.place) for item in (first_part, two, three)] == [
        1,
        2,
        3,
    ]
