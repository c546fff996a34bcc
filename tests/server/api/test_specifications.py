"""A key that may only call an app reads nothing of its specification: every route is called with such a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from portico_server.embedded import embedded

MARKER = "zirconquartz"
KEYS = {"boss": "pk-boss-0123456789", "caller": "pk-caller-0123456789", "reader": "pk-reader-0123456789"}
SCOPES = ["chat", "models:read", "apps:*:deploy", "tools:*:call"]

INNER = {"name": "inner", "portico_agent": 1, "model": "plain", "instructions": f"{MARKER} inside"}
FLOW = {
    "durability": "normal",
    "step": {
        "op": "pipeline",
        "steps": [
            {"op": "llm", "name": "outline", "model": "plain", "system": MARKER, "user": f"{MARKER} wanted"},
            {"op": "code", "name": "count", "source": f"lambda v: v + '!' if v != '{MARKER}' else v"},
            {
                "op": "switch",
                "name": "door",
                "cases": [{"equals": f"{MARKER} is the word", "step": {"op": "emit", "name": "open"}}],
                "default": {"op": "agent", "name": "ask", "agent": INNER},
            },
        ],
    },
}
CONFIGURATION = {
    "models": [
        {
            "name": "plain",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {"script": {"replies": [{"match": "", "content": "fine"}]}},
        }
    ],
    "keys": [
        {"name": "boss", "key": KEYS["boss"], "scopes": ["admin"]},
        {"name": "caller", "key": KEYS["caller"], "scopes": SCOPES},
        {"name": "reader", "key": KEYS["reader"], "scopes": ["models:read"]},
    ],
    "agents": [
        {
            "name": "desk",
            "portico_agent": 1,
            "model": "plain",
            "instructions": MARKER,
            "description": "A desk.",
        }
    ],
    "apps": [{"name": "story", "flow": FLOW}],
}
AROUND = {
    "portico_flow": 1,
    "durability": "normal",
    "step": {
        "op": "pipeline",
        "steps": [
            {"op": "subflow", "name": "below", "app": "story"},
            {"op": "agent", "name": "asked", "agent": "desk"},
            {"op": "llm", "name": "own", "model": "plain", "system": "what is mine"},
        ],
    },
}
"""A flow of the caller's own around an app that is not the caller's."""

ENDLESS = ("/api/questions/events", "/api/models/events", "/api/stores/{store}/events")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded(CONFIGURATION) as address:
        yield address


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEYS[key]}"}, timeout=60)


def found(url: str, key: str, *routes: str) -> set[str]:
    """Return the routes whose answers contain the marker, for a key that runs the apps.

    ``routes`` are the routes to read.
    """
    answers: list[tuple[str, str]] = []
    with client(url, key) as http:
        runs = [
            http.post(f"/api/apps/{name}/run", json={"input": "hello"}).headers["x-portico-run"]
            for name in ("story", "desk")
        ]
        around = http.post("/api/flows/run", json={"flow": AROUND, "input": "hello"})
        answers.append(("POST /api/flows/run", around.text))
        runs.append(around.headers["x-portico-run"])
        reply = http.post("/v1/responses", json={"model": "story", "input": "hello", "background": True})
        path_values = {"response_id": reply.json()["id"], "session": "monday"}
        http.post("/api/apps/desk/run", json={"input": "hello", "session": "monday"})
        shelf = http.post("/v1/evals", json=EVALUATION).raise_for_status().json()["id"]
        post_requests = {
            "POST /api/evals/{eval_id}/search": (f"/api/evals/{shelf}/search", SEARCH),
            "POST /api/apps/{name}/package/plan": ("/api/apps/story/package/plan", {}),
            "POST /api/apps": ("/api/apps", {"name": f"{key}-around", "spec": AROUND}),
            "POST /api/apps/{name}/package": (f"/api/apps/{key}-around/package", {}),
        }
        for route, (path, body) in post_requests.items():
            answers.append((route, http.post(path, json=body).text))
        for path, operations in http.get("/openapi.json").json()["paths"].items():
            if "get" not in operations or path in ENDLESS or (routes and f"GET {path}" not in routes):
                continue
            for name in ("story", "desk") if "{name}" in path else ("",):
                for run in runs if "{run_id}" in path else ("",):
                    ids = {**path_values, "name": name, "run_id": run}
                    address = re.sub(r"\{(\w+)\}", lambda part, ids=ids: ids.get(part[1], "story"), path)
                    answers.append((f"GET {path}", http.get(address).text))
    return {route for route, text in answers if MARKER in text}


EVALUATION = {
    "name": "measured",
    "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
    "testing_criteria": [
        {
            "type": "string_check",
            "name": "same",
            "input": "{{sample.output_text}}",
            "reference": "a",
            "operation": "eq",
        }
    ],
}
SOURCE = {
    "type": "completions",
    "model": "story",
    "input_messages": {"type": "template", "template": [{"role": "user", "content": "hello"}]},
    "source": {"type": "file_content", "content": [{"item": {"question": "hello"}}]},
}

SEARCH = {"data_source": SOURCE, "parameters": {"apps.story.outline.system": ["a"]}, "dry_run": True}


@pytest.mark.slow
def test_a_key_that_may_only_call_an_app_reads_its_specification_nowhere(url: str) -> None:
    revealing = {
        "GET /api/apps/{name}/versions",
        "GET /api/apps/{name}/drawing",
        "GET /api/runs/{run_id}/trace",
    }
    assert revealing <= found(url, "boss", *revealing)  # the same calls would reveal it
    assert found(url, "caller") == set()
    with client(url, "caller") as http:
        refusal = http.get("/api/apps/story/versions")
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "insufficient_scope")
        assert http.get("/api/apps/desk").json()["description"] == "A desk."
        shelf = http.post("/v1/evals", json=EVALUATION).json()["id"]
        search_response = http.post(
            f"/api/evals/{shelf}/search", json=SEARCH
        )  # a caller's own model would receive everything
        assert (search_response.status_code, search_response.json()["error"]["code"]) == (
            403,
            "insufficient_scope",
        )
        drawing = http.get("/api/apps/story/drawing")
        assert "outline" in drawing.text
        assert http.get("/api/apps/caller-around/versions").json()["data"][0]["spec"]["step"]
        run = http.post("/api/flows/run", json={"flow": AROUND, "input": "hello"}).headers["x-portico-run"]
        steps = http.get(f"/api/runs/{run}/trace").json()["steps"]
    inputs = {step["path"]: step["input"] for step in steps}
    assert "what is mine" in json.dumps(inputs["pipeline1.own"])
    assert inputs["pipeline1.below.pipeline1.outline"] is None


@pytest.mark.parametrize(("key", "suggested"), [("caller", True), ("reader", False)])
def test_a_name_suggestion_includes_only_apps_the_key_may_call(url: str, key: str, suggested: bool) -> None:
    with client(url, key) as http:
        answer = http.get("/api/apps/storey/versions")
    assert answer.status_code == 404
    assert ("Did you mean 'story'?" in answer.text) is suggested
