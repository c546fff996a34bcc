"""Questions about a whole store, and the themes of a store over HTTP and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.server.api.test_rights import waited
from typer.testing import CliRunner

from portico import Client
from portico.cli.root import app as cli
from portico_server.embedded import embedded

KEYS = {"boss": "pk-boss-0123456789", "baker": "pk-baker-0123456789"}
SEARCHER = [
    {"result": "(?s)^(.+)$", "content": r"\1"},
    {"match": "^(.+)$", "tool_calls": [{"name": "file_search", "arguments": {"query": r"\1"}}]},
]
"""A model that searches for the question and answers with the result."""

NAMER = [
    {
        "match": "(?s)1. harbour, ferry, dough: In Harwick .*2. stars, telescope, light: The mirror.*main themes",
        "times": 1,
        "content": "<think>1. No</think>**1. Names**\n1. Ferries of Harwick\n2.\n3. "
        + "long " * 20
        + "\n9. No\n4. People",
    },
    {"match": ".", "error": {"status": 500}},
]
"""A model that names themes once, and then fails."""

CONFIGURATION = {
    "models": [
        {
            "name": "small",
            "source": "fake://",
            "aliases": ["default"],
            "answers": "quote",
            "parameters": {"script": NAMER},
        },
        {"name": "searcher", "source": "fake://", "parameters": {"script": SEARCHER}},
    ],
    "stores": [
        *({"name": name, "app": True} for name in ("docs", "tea", "letters", "note", "scraps", "empty")),
        {"name": "named", "app": True, "answers": "write"},
    ],
    "keys": [
        {"name": "boss", "key": KEYS["boss"], "scopes": ["admin"]},
        {
            "name": "baker",
            "key": KEYS["baker"],
            "scopes": ["chat", "stores:*:read", "apps:*:call"],
            "filters": {"docs": {"type": "eq", "key": "team", "value": "bread"}},
        },
    ],
}

BREAD = (
    "Rye bread needs a sour dough that rests for two days.",
    "The oven must be hot before the bread goes in, or the crust stays pale.",
    "Knead the dough until it no longer sticks, and cover the dough with a cloth.",
    "A loaf of bread is done when its crust sounds hollow.",
)
FERRIES = (
    "In Harwick the ferry leaves the harbour every two hours.",
    "In a storm the harbour is closed, and no ferry leaves before the wind drops.",
    "Passengers with bicycles board the ferry first, at the upper deck of the harbour.",
    "Professor Mara Velling takes the ferry from Harwick each Monday.",
)
TELESCOPES = (
    "Professor Mara Velling built the telescope with a mirror of two metres.",
    "The mirror of a telescope collects the light of distant stars.",
    "Clouds hide the stars, so the telescope stands on a dry mountain.",
    "A second mirror sends the light of the stars to the camera of the telescope.",
)
TEA = (
    "茶园在山坡上，茶叶在四月采摘。",
    "采摘后的茶叶要先晾晒，茶叶晾晒以后再炒制。",
    "茶园的工人每天采摘二十公斤茶叶。",
    "炒制茶叶的铁锅放在茶园的仓库。",
)


LETTERS = ("Mara Velling writes about her tea.", "A letter of Mara Velling about the tea arrived.")


SCRAPS = ("Rye rises.", "Wind drops.", "Snow melts.", "Boats wait.", "Clocks tick.", "Doors close.")
"""Passages that share no word."""

FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "docs": {"bread": BREAD, "ferries": FERRIES, "telescopes": TELESCOPES},
    "tea": {"tea": TEA},
    "letters": {"letters": LETTERS},
    "note": {"note": LETTERS[:1]},
    "scraps": {"scraps": SCRAPS},
    "named": {"bread": BREAD, "ferries": FERRIES, "telescopes": TELESCOPES},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded(CONFIGURATION) as url, httpx.Client(base_url=url, timeout=120) as boss:
        boss.headers["authorization"] = f"Bearer {KEYS['boss']}"
        for store, subjects in FILES.items():
            store_id = boss.get(f"/api/stores/{store}").raise_for_status().json()["id"]
            for team, texts in subjects.items():
                for number, text in enumerate(texts):
                    file = (f"{team}-{number}.md", text.encode())
                    response = boss.post("/v1/files", files={"file": file}, data={"purpose": "assistants"})
                    body = {"file_id": response.raise_for_status().json()["id"], "attributes": {"team": team}}
                    boss.post(f"/v1/vector_stores/{store_id}/files", json=body).raise_for_status()
            waited(boss, store)
        yield url


def ask(url: str, app: str, question: str, key: str = "boss") -> dict[str, Any]:
    """Return the message of the answer."""
    body = {"model": app, "messages": [{"role": "user", "content": question}]}
    headers = {"authorization": f"Bearer {KEYS[key]}"}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def cited_files(message: dict[str, Any]) -> set[str]:
    return {citation["file_citation"]["filename"] for citation in message.get("annotations") or ()}


@pytest.mark.parametrize(
    ("app", "question", "words"),
    [
        ("docs", "What are the main themes?", ("bread", "ferry", "telescope")),
        ("docs", "What are these documents about?", ("bread", "ferry", "telescope")),
        ("docs", "What topics do these documents cover?", ("bread", "ferry", "telescope")),
        ("docs", "What are the top 5 themes in this data?", ("bread", "ferry", "telescope")),
        ("docs", "Which topics run through the whole collection?", ("bread", "ferry", "telescope")),
        ("docs", "Give me an overview of the documents.", ("bread", "ferry", "telescope")),
        ("docs", "Who is mentioned most often?", ("Mara Velling (2 passages)",)),
        ("docs", "Which places are mentioned most often in these documents?", ("Harwick (2 passages)",)),
        (
            "docs",
            "What changed in the documents since yesterday?",
            ("Files added or changed", ": 12", "1. telescopes-3.md"),
        ),
        ("tea", "昨天以来这些文档有什么变化？", ("新增或修改的文件：4 个", "茶园")),
        ("tea", "这些文档的主要主题是什么？", ("茶叶", "茶园", "4 个段落")),
        ("tea", "這些文件主要講什麼？", ("茶叶", "茶园", "4 個段落")),
    ],
)
def test_a_question_about_the_whole_store_is_answered_from_all_files(
    url: str, app: str, question: str, words: tuple[str, ...]
) -> None:
    message = ask(url, app, question)
    assert [word for word in words if word not in message["content"]] == []
    assert cited_files(message)


@pytest.mark.parametrize(
    "question",
    [
        "What is this about?",
        "what's all this about",
        "So what is this?",
        "What's in here?",
        "What is in this folder?",
        "What do we have here?",
        "What do you know?",
        "What can you tell me about these files?",
        "What can I ask you?",
        "What questions can you answer?",
        "What kind of documents are these?",
        "Which documents do you have?",
        "Tell me about this, please",
        "Tell me what these documents are about.",
        "Summarize this",
        "Can you summarise everything for me?",
        "Summary",
        "Give me a short overview of this folder",
        "Describe this collection.",
        "What information is in here?",
        "这是什么？",
        "这是关于什么的？",
        "里面讲了什么",
        "这里有什么资料",
        "这个文件夹里有什么",
        "请介绍一下这些文档",
        "总结一下",
        "你能回答哪些问题？",
        "我可以问什么？",
        "這是關於什麼的？",
    ],
)
def test_a_first_question_about_everything_is_answered(url: str, question: str) -> None:
    themes_answer = ask(url, "docs", question)
    assert [word for word in ("bread", "ferry", "telescope") if word not in themes_answer["content"]] == []
    files_answer = ask(url, "letters", question)
    assert LETTERS[0] in files_answer["content"] and LETTERS[1] in files_answer["content"]
    assert cited_files(files_answer) == {"letters-0.md", "letters-1.md"}
    scraps_answer = ask(url, "scraps", question)
    assert [text for text in SCRAPS if text not in scraps_answer["content"]] == []
    assert "themes" not in scraps_answer["content"]


def test_a_later_question_is_about_everything_only_if_it_names_the_documents(url: str) -> None:
    turns = [
        {"role": "user", "content": "When does the ferry leave?"},
        {"role": "assistant", "content": "Every two hours."},
    ]
    contents = []
    for question in ("What is this about?", "What are these documents about?"):
        body = {"model": "docs", "messages": [*turns, {"role": "user", "content": question}]}
        headers = {"authorization": f"Bearer {KEYS['boss']}"}
        response = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        contents.append(response.raise_for_status().json()["choices"][0]["message"]["content"])
    assert ["main themes" in content for content in contents] == [False, True]


def test_themes_are_named_by_a_model_or_by_their_words_without_one(url: str) -> None:
    first, second = (ask(url, "named", "What are the main themes?")["content"] for _ in range(2))
    lines = [line.partition(" (")[0] for line in first.splitlines()[2:]]
    assert lines == [
        "1. Ferries of Harwick: harbour, ferry, dough",
        "2. stars, telescope, light",
        "3. crust, bread",
        "4. People: mara, professor, velling",
    ]
    assert second == ask(url, "docs", "What are the main themes?")["content"]


@pytest.mark.parametrize(
    "question",
    [
        "What is the main topic of the second chapter?",
        "What is the ferry about?",
        "Who is mentioned in the letter?",
        "Which themes did the painter prefer?",
        "Which topics appear in the second letter?",
        "What changed since the storm?",
        "Tell me about the ferry.",
        "What do you know about Harwick?",
        "What can I ask the captain?",
        "What is in the box?",
        "What is the purpose of the mirror?",
        "Summarize the second chapter.",
        "Which files does the daemon write?",
        "What is this error?",
        "What is it about?",
        "这个设置是什么意思？",
        "茶园里有什么？",
        "介绍一下茶园",
        "你知道茶叶吗？",
        "茶叶的主要产地是什么？",
    ],
)
def test_a_question_about_a_part_is_answered_from_passages(url: str, question: str) -> None:
    content = ask(url, "docs", question)["content"]
    introductions = (
        "by the words that passages share",
        "by the number of passages",
        "Files added or changed",
        "documents:",
        "个文档：",
    )
    assert [words for words in introductions if words in content] == []


@pytest.mark.parametrize(
    ("stores", "question", "words"),
    [
        (
            ("docs", "tea"),
            "What are the main themes?",
            ("telescope, light (docs: 3", "(tea: 4 passages, 4 files)"),
        ),
        (("docs", "tea"), "main topics of the documents", ("(docs: 5", "(tea: 4")),
        (("docs", "tea"), "这些文档的主要主题是什么？", ("（docs：5 个段落，5 个文件）", "（tea：4 个段落")),
        (("docs", "letters"), "Who is mentioned most often?", ("Mara Velling (docs, letters: 4 passages)",)),
        (("tea", "letters"), "What changed since yesterday?", (": 6", "letters-1.md (letters: ", "(tea: ")),
        (("docs",), "What are the main themes?", (" (5 passages, 5 files)",)),
        (("note",), "What are the main themes?", (" (1 passage, 1 file)",)),
    ],
)
def test_a_chat_that_searches_several_stores_gets_the_themes_of_all(
    url: str, stores: tuple[str, ...], question: str, words: tuple[str, ...]
) -> None:
    body = {
        "model": "searcher",
        "input": question,
        "tools": [{"type": "file_search", "vector_store_ids": stores}],
        "include": ["file_search_call.results"],
    }
    headers = {"authorization": f"Bearer {KEYS['boss']}"}
    response = httpx.post(f"{url}/v1/responses", json=body, headers=headers, timeout=60)
    search, message = response.raise_for_status().json()["output"]
    [part] = message["content"]
    assert [word for word in words if word not in part["text"]] == []
    cited_names = {citation["filename"] for citation in part["annotations"]}
    assert cited_names == {result["filename"] for result in search["results"]}


def test_a_key_with_a_filter_learns_only_what_its_files_are_about(url: str) -> None:
    message = ask(url, "docs", "What are the main themes?", "baker")
    assert "bread" in message["content"]
    assert "ferry" not in message["content"] and "telescope" not in message["content"]
    assert {name.partition("-")[0] for name in cited_files(message)} == {"bread"}
    assert ": 4\n" in ask(url, "docs", "What is new since yesterday?", "baker")["content"]
    with Client(url, key=KEYS["baker"]) as client:
        themes = client.stores.themes("docs")
    assert (themes.examined_count, themes.passage_count, themes.names) == (4, 4, ())
    assert "in these documents" in ask(url, "docs", "Who is mentioned most often?", "baker")["content"]


def test_the_themes_of_a_store_over_http_and_on_the_command_line(url: str) -> None:
    with Client(url, key=KEYS["boss"]) as client:
        themes = client.stores.themes("docs")
        assert {"bread", "ferry", "telescope"} <= {word for theme in themes.themes for word in theme.words}
        assert all(theme.passage_count == theme.file_count > 1 for theme in themes.themes)
        names = {item.name: (item.kind, item.passage_count) for item in themes.names}
        assert names["Mara Velling"] == ("person", 2)
        assert names["Harwick"] == ("place", 2)
        assert client.stores.themes("empty").themes == client.stores.themes("scraps").themes == ()
    options = ["--url", url, "--key", KEYS["boss"]]
    output = CliRunner().invoke(cli, [*options, "stores", "themes", "docs"])
    assert output.exit_code == 0 and "telescope" in output.output and "Mara Velling" in output.output
    document = json.loads(CliRunner().invoke(cli, [*options, "stores", "themes", "docs", "--json"]).output)
    assert len(document["themes"]) == len(themes.themes) and document["examined_count"] == 12


@pytest.mark.parametrize("key", KEYS)
async def test_the_themes_of_a_store_are_a_resource_of_mcp(url: str, key: str) -> None:
    headers = {"authorization": f"Bearer {KEYS[key]}"}
    uri = "portico://stores/docs/themes"
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with McpClient(streamable_http_client(f"{url}/mcp", http_client=http)) as client:
            uris = [resource.uri for resource in (await client.list_resources()).resources]
            assert [item for item in uris if item.endswith("/themes")] == [
                uri,
                "portico://stores/letters/themes",
                "portico://stores/named/themes",
                "portico://stores/note/themes",
                "portico://stores/scraps/themes",
                "portico://stores/tea/themes",
            ]
            templates = (await client.list_resource_templates()).resource_templates
            assert "portico://stores/{store}/themes" in [template.uri_template for template in templates]
            [contents] = (await client.read_resource(uri)).contents
            assert isinstance(contents, types.TextResourceContents)
            assert contents.mime_type == "application/json"
            assert json.loads(contents.text) == (await http.get(f"{url}/api/stores/docs/themes")).json()
            with pytest.raises(MCPError, match="Store 'attic' not found"):
                await client.read_resource("portico://stores/attic/themes")
            reference = types.ResourceTemplateReference(
                type="ref/resource", uri="portico://stores/{store}/themes"
            )
            completion = (await client.complete(reference, {"name": "store", "value": "tea"})).completion
            assert completion.values == ["tea"]
        async with McpClient(streamable_http_client(f"{url}/mcp/stores/tea", http_client=http)) as client:
            with pytest.raises(MCPError, match="not visible at this endpoint"):
                await client.read_resource(uri)
