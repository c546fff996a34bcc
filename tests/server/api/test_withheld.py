"""Withheld files change nothing for a filtered key: two daemons that differ only in withheld files answer alike.

The files that a filtered key may read are the same at both daemons. One daemon has further files: with other
attributes, without attributes, broken, and linked to or contradicting what the key may read. A key whose filter
withholds them calls every route, every option of a search and every protocol at both daemons.

Any count, size, problem, order or error that results from a withheld file is a difference. The test also covers what
new code derives from the files of a store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from tests.growth import MCP_HEADERS, MCP_VERSION
from tests.server.api.test_rights import CONFIGURATION, KEYS, NEEDLE, SharedStores, crawled, waited

from portico_server.embedded import embedded

QUESTION = f"What does the {NEEDLE} cost, and where does Captain Olsen keep it?"
VISIBLE = {
    "prices.md": f"# Harbour Board\n\nThe {NEEDLE} costs five crowns. Captain Olsen keeps the {NEEDLE} at Skagen.",
    "rules.md": f"# Rules of Skagen\n\nCaptain Olsen opens the {NEEDLE} at nine. See [prices](prices.md).",
}
WITHHELD: Mapping[str, tuple[str, Mapping[str, Any] | None]] = {
    "board.md": (
        f"# Harbour Board\n\nThe {NEEDLE} costs nine crowns. Captain Olsen leaves Skagen.",
        {"team": "board", "year": 2027, "secret": "yes"},
    ),
    "newer.md": (
        f"# Harbour Board\n\nSince 2028 the {NEEDLE} costs eight crowns.",
        {"team": "board", "year": 2028},
    ),
    "loose.md": (f"See [rules](rules.md). The {NEEDLE} belongs to Captain Olsen of Skagen.", None),
    "broken.pdf": ("%PDF-1.7 this is not one", {"team": "board"}),
    "same.md": (
        VISIBLE["rules.md"],
        {"team": "board"},
    ),  # identical to the bytes of a file that the key may read
}
SHARED = {
    **CONFIGURATION,
    "stores": [
        {"name": "handbook", "embedding_model": "", "app": True, "links": True, "search": {"steps": 3}},
    ],
}

OPTIONS: Mapping[str, Any] = {
    "max_num_results": 1,
    "filters": {"type": "gte", "key": "year", "value": 2027},
    "score_threshold": 0.01,
    "ranker": "lexical",
    "trace": True,
    "vector_weight": 0.5,
    "infer_filters": True,
    "links": True,
    "steps": 4,
    "steps_model": "echo",
    "groups": ["FineChunk"],
    "rewrite": "decompose",
    "writer": "echo",
    "half_life_days": 1.0,
    "decay_by": "year",
    "reranker": "echo",
    "near_duplicates": 0.5,
    "diversity": 0.5,
    "parents": "*",
    "neighbours": 3,
}
"""A value for each search option; an option without a value here fails the test."""


MACHINE = {
    *("GET /api/status", "GET /api/ps", "GET /api/deployments", "GET /health"),
    "GET /api/usage/course",
}
"""Routes that report the current state of the machine or the time."""


def filled(url: str, *, withheld: bool) -> SharedStores:
    """Fill a daemon's store with files; the withheld files are spread among the others."""
    headers = {"authorization": f"Bearer {KEYS['boss']}"}
    with httpx.Client(base_url=url, timeout=120, headers=headers) as boss:
        store = boss.get("/api/stores/handbook").raise_for_status().json()["id"]
        sales = {"team": "sales", "year": 2027}
        files: list[tuple[str, str, Mapping[str, Any] | None]] = [
            ("prices.md", VISIBLE["prices.md"], sales),
            *(
                (name, text, file_attributes)
                for name, (text, file_attributes) in WITHHELD.items()
                if withheld
            ),
            ("rules.md", VISIBLE["rules.md"], sales),
        ]
        ids = {}
        for name, text, attributes in files:
            response = boss.post("/v1/files", files={"file": (name, text)}, data={"purpose": "assistants"})
            ids[name] = str(response.raise_for_status().json()["id"])
            body = {"file_id": ids[name], "attributes": attributes}
            boss.post(f"/v1/vector_stores/{store}/files", json=body).raise_for_status()
        visible_files = [{"file_id": ids[name], "attributes": sales} for name in VISIBLE]
        hidden = [
            {"file_id": ids[name], "attributes": file_attributes}
            for name, (_, file_attributes) in WITHHELD.items()
            if file_attributes is not None and name in ids
        ]
        batches = f"/v1/vector_stores/{store}/file_batches"
        batch = boss.post(batches, json={"files": [*visible_files, *hidden]}).raise_for_status()
        boss.post(f"/api/stores/{store}/groups", json={"name": "FineChunk"}).raise_for_status()
        waited(boss, store)
        unknown = "file-" + "0" * (len(ids["prices.md"]) - len("file-"))
        return SharedStores(
            url,
            store,
            ids["prices.md"],
            ids.get("board.md", unknown),
            ids.get("loose.md", f"{unknown[:-1]}1"),
            batch.json()["id"],
        )


def asked(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield requests beyond those of `crawled`: each search option, and requests of the other protocols."""
    options = document["components"]["schemas"]["SearchRequest"]["properties"].keys() - {"query"}
    assert options == OPTIONS.keys()
    for name in sorted(options):
        search = {"query": QUESTION, "trace": True, name: OPTIONS[name]}
        yield "POST", "/api/stores/handbook/search", search
        yield "POST", "/api/search", {**search, "stores": ["handbook", "STORE"], "route": True}
    infer = {
        "query": f"What did the {NEEDLE} cost since 2028 for the board?",
        "infer_filters": True,
        "trace": True,
    }
    yield "POST", "/api/stores/handbook/search", infer
    for key in ("secret", "secre", "year"):
        wrong = {"query": NEEDLE, "filters": {"type": "eq", "key": key, "value": "yes"}}
        yield "POST", "/api/stores/handbook/search", wrong
    for start in (0, 5_000):
        yield "GET", f"/api/stores/handbook/links?file=VISIBLE&start={start}", None
        yield "GET", f"/api/stores/handbook/links?file=HIDDEN&start={start}", None
    yield "GET", "/api/stores/handbook/links?chunk=900", None
    for ending in (
        "files?limit=1",
        "files?status=failed",
        "files?after=HIDDEN",
        "files?order=asc&before=HIDDEN",
    ):
        yield "GET", f"/v1/vector_stores/STORE/{ending}", None
    messages = [{"role": "user", "content": QUESTION}]
    yield "POST", "/api/chat", {"model": "handbook", "messages": messages, "stream": False}
    yield "POST", "/api/generate", {"model": "handbook", "prompt": QUESTION, "stream": False}
    yield "POST", "/api/show", {"model": "handbook"}
    yield "GET", "/a2a/handbook/.well-known/agent-card.json", None
    message = {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": QUESTION}]}
    yield "POST", "/a2a/handbook/message:send", {"message": message}
    turn = {"threadId": "t", "runId": "r", "messages": [{"id": "1", **messages[0]}]}
    yield "POST", "/ag-ui/handbook", turn
    yield "GET", "/ag-ui/handbook", None
    for endpoint in ("/mcp", "/mcp/stores/handbook", "/mcp/apps/handbook"):
        for method, params in _MCP:
            meta = {
                "io.modelcontextprotocol/protocolVersion": MCP_VERSION,
                "io.modelcontextprotocol/clientCapabilities": {
                    "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}
                },
            }
            yield (
                "POST",
                endpoint,
                {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}},
            )


_MCP: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *(
        (method, {})
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
    ),
    ("tools/call", {"name": "search", "arguments": {"store": "handbook", "query": QUESTION}}),
    ("tools/call", {"name": "search_handbook", "arguments": {"query": QUESTION}}),
    ("tools/call", {"name": "handbook", "arguments": {"message": QUESTION}}),
    ("tools/call", {"name": "portico_page", "arguments": {"store": "handbook", "file": "HIDDEN", "page": 1}}),
    *(
        ("resources/read", {"uri": f"portico://stores/handbook/files/{name}"})
        for name in ("HIDDEN", "board.md", "boar.md", "rules.md", "same.md")
    ),
    ("resources/read", {"uri": "portico://stores/handbook/themes"}),
    *(
        (
            "completion/complete",
            {
                "ref": {"type": "ref/resource", "uri": "portico://stores/{store}/files/{file}"},
                "argument": {"name": "file", "value": value},
                "context": {"arguments": {"store": "handbook"}},
            },
        )
        for value in ("", "b", "same")
    ),
)


def heard(*, withheld: bool) -> dict[str, list[str]]:
    """Return the answers that a filtered key receives, by request."""
    with embedded(SHARED) as url:
        daemon = filled(url, withheld=withheld)
        placeholder_by_id = {
            daemon.store: "STORE",
            daemon.visible: "VISIBLE",
            daemon.hidden: "HIDDEN",
            daemon.unlabelled: "HIDDEN",
            daemon.batch: "BATCH",
            url: "URL",
        }
        answers_by_request: dict[str, list[str]] = {}

        def keep(route: str, sent: str, answer: httpx.Response) -> None:
            assert answer.status_code < 500, (route, sent, answer.text[:500])
            answers_by_request.setdefault(f"{route} <- {alike(sent, placeholder_by_id)}", []).append(
                f"{answer.status_code} {alike(answer.text, placeholder_by_id)}"
            )

        placeholders = {"STORE": daemon.store, "VISIBLE": daemon.visible, "HIDDEN": daemon.hidden}
        with daemon.client("filtered") as client:
            for method, path, body in asked(client.get("/openapi.json").json()):
                text = json.dumps([path, body])
                for word, name in placeholders.items():
                    text = text.replace(word, name)
                address, value = json.loads(text)
                headers = (
                    {**MCP_HEADERS, "a2a-version": "1.0"} if address.startswith(("/mcp", "/a2a")) else {}
                )
                if isinstance(value, dict) and "jsonrpc" in value:
                    headers["mcp-method"] = value["method"]
                    params = value["params"]
                    if naming := params.get("name") or params.get("uri"):
                        headers["mcp-name"] = naming
                answer = client.request(method, address, headers=headers, json=value)
                keep(f"{method} {path}", json.dumps(value), answer)
        for route, sent, answer in crawled(daemon, "filtered", ("GET", "POST", "PATCH", "GET", "DELETE")):
            if route not in MACHINE:
                keep(route, sent, answer)
        return answers_by_request


_VARIES = (
    (r"\b(?:[a-zA-Z]+[-_])+[0-9a-f]{16,}\b", "ID"),  # ids, and values derived from ids
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32,}\b", "ID"),
    (r'"(chunk|pid|port|memory_bytes)":\d+', r'"\1":N'),
    (r"\[\d+,(\d+\.\d+)", r"[CHUNK,\1"),  # in a trace
    (r'"[ct]\d+"', "NODE"),  # in a graph
    (r"\b\d+\.\d+(?:e-?\d+)?", "FLOAT"),  # scores, which depend on the words of the whole store, and times
    (r"\b1[789]\d{8}\b|\d{4}-\d\d-\d\dT[\d:.]+Z?", "TIME"),
    (r'"(\w*duration)":\d+', r'"\1":TIME'),
)
"""Values that may differ: ids, times, scores, and chunk numbers, which count the chunks of all stores together."""


def alike(text: str, known: Mapping[str, str]) -> str:
    """Return ``text`` without what differs between any two daemons."""
    for name, word in known.items():
        text = text.replace(name, word)
    for pattern, word in _VARIES:
        text = re.sub(pattern, word, text)
    return text


@pytest.mark.slow
def test_withheld_files_change_no_response_to_a_filtered_key() -> None:
    without, beside = heard(withheld=False), heard(withheld=True)
    assert beside.keys() == without.keys()
    different = {
        request_text: (texts, without[request_text])
        for request_text, texts in beside.items()
        if texts != without[request_text]
    }
    assert different == {}
