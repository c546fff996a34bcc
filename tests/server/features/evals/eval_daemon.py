"""A daemon with scripted models for the tests of evaluations, and helpers to drive it."""

from __future__ import annotations

from typing import Any

import httpx
import openai
from tests.daemon import Daemon

CONFIGURATION = """
models:
  - name: clerk
    source: "fake://"
    aliases: [default]
    parameters:
      script:
        - {match: "one word.*France", content: "Paris"}
        - {match: "France", content: "It is Paris."}
        - {match: "Peru", content: "Lima"}
        - {match: "broken", error: {status: 400, message: "That is broken.", code: broken}}
        - {match: "slow", content: "slow", delay: 0.3}
  - name: judge
    source: "fake://"
    parameters:
      script:
        - {match: "label.*(Paris|Lima)", content: '{"label": "right"}'}
        - {match: "label.*nonsense", content: '{"label": "purple"}'}
        - {match: "label", content: '{"label": "wrong"}'}
        - {match: "score.*Paris", content: '{"score": 7}'}
        - {match: "score", content: '{"score": 2}'}
  - {name: fake-embedding, source: "fake://", task: embedding, parameters: {dimensions: 64}}
apps:
  - name: atlas
    flow:
      portico_flow: 1
      name: atlas
      step:
        name: answer
        op: llm
        model: clerk
        user: {$template: "Capital of {country}?", $with: {country: {$ref: input}}}
  - name: outer
    flow: {portico_flow: 1, name: outer, durability: normal, step: {name: ask, op: llm, model: atlas}}
keys:
  - {name: admin, key: pk-admin-0123456789abcdef, scopes: [admin]}
  - {name: tester, key: pk-tester-0123456789abcdef, scopes: [chat, "apps:*:call"]}
"""


def client_of(daemon: Daemon, name: str = "admin") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=f"pk-{name}-0123456789abcdef", max_retries=0)


def native(daemon: Daemon, name: str = "admin") -> httpx.Client:
    """Return a client of the native API."""
    headers = {"Authorization": f"Bearer pk-{name}-0123456789abcdef"}
    return httpx.Client(base_url=daemon.url, headers=headers, timeout=60)


def ended(daemon: Daemon, run_id: str) -> None:
    """Wait until a durable run has ended."""
    with native(daemon) as client, client.stream("GET", f"/api/runs/{run_id}/events") as answer:
        answer.raise_for_status()
        for _line in answer.iter_lines():
            pass


ANYTHING = {"type": "custom", "item_schema": {"type": "object"}}

EQUAL = {
    "type": "string_check",
    "name": "equal",
    "input": "{{sample.output_text}}",
    "reference": "{{item.capital}}",
    "operation": "eq",
}

COUNTRIES = [
    {"item": {"country": "France", "capital": "Paris"}},
    {"item": {"country": "Peru", "capital": "Lima"}},
]


def asking(
    *items: dict[str, Any], prompt: str = "In one word, the capital of {{item.country}}?", **more: Any
) -> dict[str, Any]:
    """Return a data source that asks a model for each item."""
    return {
        "type": "completions",
        "model": "clerk",
        "source": {"type": "file_content", "content": list(items or COUNTRIES)},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": prompt}]},
        **more,
    }
