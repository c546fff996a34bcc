"""Improvements of apps: the part that fails is named, and a change of it is measured on cases that were held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.evals.eval_daemon import ended, native

GOOD = ("anvil", "bellows")
"""Products that even broken apps know."""

PRODUCTS = (*GOOD, *(f"product{letter}" for letter in "abcdefghijkl"))

KNOWN = "|".join(GOOD)

UNKNOWN = {"content": "I do not know."}

READS = {
    "match": r"The guarantee of the (\w+) is simple\. It lasts (\d+ months).*Question: .* the \1\?",
    "content": r"\2",
}
"""A rule that reads the answer from the passages."""

ADDS = {
    "match": "How much is ([0-9]+) and ([0-9]+)",
    "content": 'Action: calculator\nAction Input: {"expression": "\\1 + \\2"}',
}
"""A rule that calls the right tool."""

TERSE = "Answer the question."

CONFIGURATION: Mapping[str, Any] = {
    "models": [
        {
            "name": "able",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {"script": [{**READS, "system": "^(?!.*rhyme)"}, UNKNOWN]},
        },
        {
            "name": "poet",
            "source": "fake://",
            "parameters": {
                "script": [
                    {**READS, "system": "^(?!.*rhyme)"},
                    {**READS, "match": READS["match"].replace(r"(\w+)", f"({KNOWN})")},
                    {"content": "Roses are red."},
                ]
            },
        },
        {
            "name": "tiny",
            "source": "fake://",
            "parameters": {
                "script": [{**READS, "match": READS["match"].replace(r"(\w+)", f"({KNOWN})")}, UNKNOWN]
            },
        },
        {
            "name": "moody",
            "source": "fake://",
            "parameters": {
                "script": [{"match": "broken", "error": {"status": 400, "message": "That is broken."}}]
            },
        },
        {
            "name": "adder",
            "source": "fake://",
            "parameters": {
                "script": [
                    {"match": r"returned: (\d+)", "content": r"Final Answer: \1"},
                    {"match": r"Observation: (\d+)", "content": r"Final Answer: \1"},
                    {**ADDS, "match": "How much is ([12]) and ([0-9]+)"},
                    {**ADDS, "system": "questions such as"},
                    UNKNOWN,
                ]
            },
        },
        {
            "name": "fake-embedding",
            "source": "fake://",
            "task": "embedding",
            "parameters": {"dimensions": 64},
        },
    ],
    "keys": [
        {"name": "admin", "key": "pk-admin-0123456789abcdef", "scopes": ["admin"]},
        {"name": "tester", "key": "pk-tester-0123456789abcdef", "scopes": ["chat", "apps:*:call"]},
    ],
}


def passage(product: str) -> str:
    return f"The guarantee of the {product} is simple. It lasts {months(product)}."


def months(product: str) -> str:
    return f"{11 + PRODUCTS.index(product)} months"


def case(product: str) -> dict[str, Any]:
    question = f"What is the guarantee of the {product}?"
    return {"question": question, "answer": months(product), "passages": [passage(product)]}


CASES = [case(product) for product in PRODUCTS]


SUMS = [
    {
        "question": f"How much is {number} and 40?",
        "answer": str(number + 40),
        "tool": {"name": "calculator", "arguments": {"expression": f"{number} + 40"}},
    }
    for number in (1, 2, *range(31, 43))
]


def flow(name: str, *, store: str, model: str = "able", system: str = TERSE) -> dict[str, Any]:
    """Return a flow that searches a store and answers from its passages."""
    return {
        "portico_flow": 1,
        "name": name,
        "step": {
            "name": "all",
            "op": "pipeline",
            "steps": [
                {"name": "find", "op": "retrieve", "store": store, "top_k": 5},
                {
                    "name": "answer",
                    "op": "llm",
                    "model": model,
                    "system": system,
                    "user": {
                        "$template": "{passages}\nQuestion: {question}",
                        "$with": {"passages": {"$ref": "steps.find"}, "question": {"$ref": "input"}},
                    },
                },
            ],
        },
    }


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    (home / "portico.yaml").write_text(yaml.safe_dump(dict(CONFIGURATION)))
    with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as running:
        running.settle()
        yield running


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[httpx.Client]:
    with native(daemon) as admin:
        for name, products in (("whole", PRODUCTS), ("poor", GOOD)):
            fill(daemon, admin, name, {product: passage(product) for product in products}, {"type": "auto"})
        texts = {
            product: ("" if product in GOOD else "All about it: " * 4) + passage(product)
            for product in PRODUCTS
        }
        fill(daemon, admin, "cut", texts, {"type": "fixed", "size": 100, "overlap": 0})
        yield admin


def fill(
    daemon: Daemon, admin: httpx.Client, name: str, texts: Mapping[str, str], strategy: Mapping[str, Any]
) -> None:
    """Create a store with one file for each text."""
    store = done(admin.post("/api/stores", json={"name": name, "embedding_model": ""}))
    for title, text in texts.items():
        form = {"file": (f"{title}.txt", text.encode(), "text/plain")}
        file = done(admin.post("/v1/files", files=form, data={"purpose": "assistants"}))
        body = {"file_id": file["id"], "chunking_strategy": strategy}
        done(admin.post(f"/v1/vector_stores/{store['id']}/files", json=body))
    for run in done(admin.get("/api/runs"))["data"]:
        ended(daemon, run["id"])


def done(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    return dict(answer.json())


def deploy(client: httpx.Client, spec: Mapping[str, Any]) -> None:
    kind = "agent" if "portico_agent" in spec else "flow"
    done(client.post("/api/apps", json={"name": spec["name"], "kind": kind, "spec": spec}))


def improved(daemon: Daemon, client: httpx.Client, app: str, **options: Any) -> dict[str, Any]:
    """Return an improvement that has ended."""
    improvement = done(
        client.post("/api/improvements", json={"app": app, "data": CASES, "model": "able", **options})
    )
    ended(daemon, improvement["run_id"])
    return done(client.get(f"/api/improvements/{improvement['id']}"))


BROKEN = {
    "model": flow("small", store="whole", model="tiny"),
    "prompt": flow("rhymed", store="whole", model="poet", system="Answer in rhyme."),
    "document": flow("unread", store="poor"),
    "chunker": flow("chopped", store="cut"),
    "tool": {
        "name": "sums",
        "portico_agent": 1,
        "model": "adder",
        "strategy": "react",
        "tools": [{"tool": "calculator", "description": "Names the colours of birds."}],
    },
}
"""Apps, by the part that is broken."""


UNMEASURED = {"document": "Add a document that answers"}
"""The part without a change to measure, and how the advice begins."""


@pytest.mark.parametrize("part", BROKEN)
def test_an_improvement_names_the_broken_part_and_raises_the_held_out_score(
    daemon: Daemon, client: httpx.Client, part: str
) -> None:
    app = BROKEN[part]["name"]
    deploy(client, BROKEN[part])
    improvement = improved(daemon, client, app, data=SUMS if part == "tool" else CASES)
    assert (improvement["status"], improvement["part"]) == ("completed", part), improvement
    assert (improvement["bad"], improvement["diagnosed"], improvement["held_back"]) == (12, 6, 8)
    assert {"part": part, "repaired": 6} in improvement["diagnosis"]
    proposal = next(item for item in improvement["proposals"] if item["part"] == part)
    assert proposal["is_offered"] == (part not in UNMEASURED)
    if part in UNMEASURED:
        assert proposal["text"].startswith(UNMEASURED[part])
        assert (proposal["figures"], bool(proposal["reason"])) == (None, True)
    else:
        assert (improvement["baseline"]["score"], proposal["figures"]["score"], proposal["worse"]) == (
            0.25,
            1.0,
            0,
        )
        assert proposal["figures"]["tokens"] > 0


def test_an_applied_proposal_becomes_a_canary_without_changing_the_app_version(
    daemon: Daemon, client: httpx.Client
) -> None:
    deploy(client, flow("counter", store="whole", model="tiny"))
    improvement = improved(daemon, client, "counter")
    place = f"/api/improvements/{improvement['id']}/apply"
    refusal = client.post(place, json={"proposal": 1})
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (409, "alias_needed")
    assert [version["version"] for version in done(client.get("/api/apps/counter/versions"))["data"]] == [1]
    done(client.put("/api/aliases/front", json={"target": "counter@1"}))
    application = done(client.post(place, json={"proposal": 1, "weight": 1}))
    assert application == {"alias": "front", "target": "counter@2", "weight": 1}
    assert done(client.get("/api/apps/counter"))["version"] == 1
    assert (answer(client, "counter"), answer(client, "front")) == (UNKNOWN["content"], months("producta"))


def answer(client: httpx.Client, model: str) -> str:
    messages = [{"role": "user", "content": case("producta")["question"]}]
    reply = done(client.post("/v1/chat/completions", json={"model": model, "messages": messages}))
    return str(reply["choices"][0]["message"]["content"])


@pytest.mark.slow
def test_only_measured_proposals_of_the_current_version_are_applied(
    daemon: Daemon, client: httpx.Client
) -> None:
    deploy(client, flow("desk", store="poor", model="tiny"))
    improvement = improved(daemon, client, "desk")
    place = f"/api/improvements/{improvement['id']}/apply"
    assert [proposal["is_offered"] for proposal in improvement["proposals"]] == []
    missing = client.post(place, json={"proposal": 1})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "proposal_not_found")
    deploy(client, flow("desk", store="poor"))
    advice = improved(daemon, client, "desk")
    unmeasured = client.post(f"/api/improvements/{advice['id']}/apply", json={"proposal": 1})
    assert (unmeasured.status_code, unmeasured.json()["error"]["code"]) == (409, "proposal_not_offered")
    deploy(client, flow("desk", store="whole", model="tiny"))
    old_improvement = improved(daemon, client, "desk")
    deploy(client, flow("desk", store="whole"))
    refusal = client.post(f"/api/improvements/{old_improvement['id']}/apply", json={"proposal": 1})
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (409, "version_conflict")


REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "too small": ({"data": CASES[:8]}, "too_few_cases"),
    "the same question twice": (
        {"data": [*CASES, {**CASES[0], "question": CASES[0]["question"].upper()}]},
        "leaked_case",
    ),
    "no question": ({"data": [*CASES, {"answer": "x"}]}, "invalid_item"),
    "passages that are no list": ({"data": [*CASES[:-1], {**CASES[-1], "passages": "x"}]}, "invalid_item"),
    "no expected answers": ({"data": [{"question": f"question {n}"} for n in range(9)]}, "unknown_field"),
    "a missing model": ({"data": CASES, "model": "missing"}, "model_not_found"),
    "a missing app": ({"data": CASES, "app": "missing"}, "app_not_found"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_cases_that_cannot_show_an_improvement_are_refused(client: httpx.Client, refused: str) -> None:
    deploy(client, flow("fair", store="whole"))
    body, code = REFUSED[refused]
    refusal = client.post("/api/improvements", json={"app": "fair", **body})
    assert (refusal.is_error, refusal.json()["error"]["code"]) == (True, code), refusal.text


@pytest.mark.parametrize(
    ("store", "cases", "code"), [("whole", CASES, "too_few_cases"), ("poor", CASES[2:], "one_sided")]
)
def test_an_improvement_fails_with_the_reason_if_nearly_all_cases_pass_or_fail(
    daemon: Daemon, client: httpx.Client, store: str, cases: list[dict[str, Any]], code: str
) -> None:
    deploy(client, flow("sided", store=store))
    improvement = improved(daemon, client, "sided", data=cases)
    assert (improvement["status"], improvement["error"]["code"]) == ("failed", code)
    assert improvement["proposals"] == []


def test_ratings_and_failed_runs_are_cases_that_the_criteria_can_grade(
    daemon: Daemon, client: httpx.Client
) -> None:
    spec = {"name": "rated", "portico_agent": 1, "model": "moody", "instructions": "Answer in rhyme."}
    deploy(client, spec)
    for number, value in enumerate(["corrected"] * 5 + ["bad"] * 4 + ["good"]):
        session = done(client.post("/api/sessions", json={"app": "rated", "name": f"{number}"}))["id"]
        exchange = [f"question {number}", {"sender": "moody", "content": "Roses are red."}]
        done(client.post(f"/api/sessions/{session}/messages", json={"messages": exchange}))
        rating = {"value": value, **({"correction": "Violets"} if value == "corrected" else {})}
        done(client.put(f"/api/sessions/{session}/messages/2/rating", json=rating))
    failure = client.post("/api/apps/rated/run", params={"stream": False}, json={"input": "broken question"})
    assert failure.is_error
    too_few = client.post("/api/improvements", json={"app": "rated"})
    assert "5 cases" in too_few.json()["error"]["message"]
    criterion = {
        "type": "regex",
        "name": "prose",
        "input": "{{sample.output_text}}",
        "pattern": "question [0-3]",
    }
    config = {"type": "custom", "item_schema": {"type": "object"}}
    test = done(
        client.post("/v1/evals", json={"data_source_config": config, "testing_criteria": [criterion]})
    )
    improvement = done(client.post("/api/improvements", json={"app": "rated", "eval": test["id"]}))
    assert improvement["cases"] == 10


def test_improvements_are_not_listed_as_searches_or_visible_to_other_keys(
    daemon: Daemon, client: httpx.Client
) -> None:
    deploy(client, flow("own", store="whole"))
    improvement = improved(daemon, client, "own")
    improvements = done(client.get("/api/improvements", params={"app": "own"}))["data"]
    assert [entry["id"] for entry in improvements] == [improvement["id"]]
    searches = f"/api/evals/{improvement['eval_id']}/searches"
    assert done(client.get(searches))["data"] == []
    assert client.get(f"{searches}/{improvement['id']}").status_code == 404
    with native(daemon, "tester") as tester:
        assert tester.get(f"/api/improvements/{improvement['id']}").status_code == 404
        assert done(tester.get("/api/improvements"))["data"] == []
