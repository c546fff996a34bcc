"""The published JSON schema of agents accepts what the reader accepts, field by field, and the documented examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.daemon import ROOT

from portico.model_options import CHAT_OPTIONS
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_values import JsonObject
from portico_server.features.agents import read
from portico_server.features.agents.read import FIELDS, schema
from portico_server.features.apps import entry

VALIDATOR = Draft202012Validator(schema())

OPTIONS = frozenset(FIELDS["options"]["properties"])

WHOLE: Mapping[str, Any] = {
    "portico_agent": 1,
    "name": "desk",
    "title": "Desk",
    "description": "Helps.",
    "model": "m",
    "instructions": "Be {tone}.",
    "variables": {"tone": "kind"},
    "tools": [
        "clock",
        {"tool": "sql", "as": "query"},
        {
            "function": "look",
            "as": "see",
            "description": "Looks.",
            "parameters": {"type": "object"},
            "seconds": 5,
        },
    ],
    "stores": ["handbook"],
    "skills": ["pdf-forms"],
    "agents": [
        "expert",
        {"agent": {"name": "inner", "tools": ["look"], "hooks": []}, "as": "handoff"},
        {"agent": "deputy", "as": "tool"},
    ],
    "strategy": "react",
    "memory": {
        "policy": "window",
        "messages": 4,
        "tokens": 100,
        "long_term": {"store": "facts", "facts": 3},
    },
    "output": [
        {
            "type": "tool",
            "tool_type": "code",
            "begin": "<",
            "end": ">",
            "validate": "code",
            "code": "lambda text: text",
        },
        {"type": "regex", "pattern": "a+", "group": 0, "attempts": 3},
        {"type": "json", "schema": {"type": "object"}},
        "text",
    ],
    "attempts": 3,
    "tool_search": "auto",
    "aggregate": {"template": "{sender}: {content}"},
    "few_shot": [{"role": "user", "content": "hi"}],
    "hooks": [
        {"on": "before_agent", "do": "prefix", "text": "x", "senders": ["a"]},
        {"on": "after_agent", "do": "redact", "pattern": "x", "replacement": ""},
        {"on": "before_action", "do": "guard", "pattern": "x", "text": "No."},
        {"on": "after_action", "do": "limit", "most": 5},
        {"on": "after_action", "do": "code", "source": "lambda message: None"},
        {"on": "after_action", "do": "client", "source": "note"},
    ],
    "limits": {"turns": 3, "tokens": 100, "seconds": 2, "tool_calls": 5},
    "final": "Final Answer",
    "options": {"temperature": 0, "extra_body": {"top_k": 3}},
    "busy": "refuse",
}
"""An agent with every field."""

OPEN = ("variables", "parameters", "schema", "extra_body", "few_shot")
"""Fields whose value is free-form or has fields of other objects."""


def taken(spec: Any) -> bool:
    """Return whether the schema accepts a specification; fail if the reader disagrees."""
    try:
        read.agent(spec)
    except InvalidRequest as error:
        reader, reason = False, error.message
    else:
        reader, reason = True, ""
    assert VALIDATOR.is_valid(spec) == reader, (spec, reason)
    return reader


def changed(value: Any, place: tuple[str | int, ...], made: Any) -> Any:
    """Return a copy of a value, changed at one place."""
    if not place:
        return made
    first, *inner_place = place
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[first] = changed(
        copy.get(first) if isinstance(copy, dict) else copy[first], tuple(inner_place), made
    )
    return copy


def objects(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the places of all objects with fields of an agent's specification."""
    if isinstance(value, Mapping):
        yield place
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in items:
        if key not in OPEN:
            yield from objects(item, (*place, key))


def at(value: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def published(found: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all objects that the schema describes, including those in choices and lists."""
    if isinstance(found, list):
        for item in found:
            yield from published(item)
    elif isinstance(found, Mapping):
        if found.get("additionalProperties") is False:
            yield found
        for item in found.values():
            yield from published(item)


def test_the_published_schema_file_equals_the_generated_schema() -> None:
    assert json.loads((ROOT / "docs" / "agent.schema.json").read_text(encoding="utf-8")) == schema()
    Draft202012Validator.check_schema(schema())


def test_each_object_has_the_fields_that_the_reader_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    read_fields: set[frozenset[str]] = set()
    done = JsonObject.check_unread

    def note(self: JsonObject) -> None:
        read_fields.add(frozenset(self._known))
        done(self)

    monkeypatch.setattr(JsonObject, "check_unread", note)
    assert taken(WHOLE)
    schema_fields = {frozenset(definition["properties"]) for definition in published(schema())}
    assert schema_fields - {OPTIONS} == read_fields


def test_the_example_has_every_field() -> None:
    assert set(WHOLE) == set(FIELDS)
    example_fields = {key for place in objects(WHOLE) for key in at(WHOLE, place)}
    schema_fields = {key for definition in published(schema()) for key in definition["properties"]}
    assert schema_fields - example_fields <= OPTIONS == CHAT_OPTIONS


@pytest.mark.parametrize("place", list(objects(WHOLE)), ids=str)
def test_an_unknown_field_is_refused_and_so_is_a_value_of_another_type(place: tuple[str | int, ...]) -> None:
    fields = at(WHOLE, place)
    assert not taken(changed(WHOLE, (*place, "no_such_field"), 1))
    for key in fields:
        if place and place[-1] == "options" and key != "extra_body":
            continue  # the model defines its own options
        wrong_value = 1 if key == "tool_search" else True
        assert not taken(changed(WHOLE, (*place, key), wrong_value)), key
        without = {name: item for name, item in fields.items() if name != key}
        taken(changed(WHOLE, place, without))


@pytest.mark.parametrize(
    ("place", "least", "most"),
    [
        (("attempts",), 1, 10),
        (("tools", 2, "seconds"), 0.01, 604_800),
        (("memory", "messages"), 1, 100_000),
        (("memory", "tokens"), 16, 10_000_000),
        (("memory", "long_term", "facts"), 1, 50),
        (("output", 1, "group"), 0, 99),
        (("output", 1, "attempts"), 1, 10),
        (("hooks", 3, "most"), 1, 10**9),
        (("limits", "turns"), 1, 10_000),
        (("limits", "tokens"), 0, 10**9),
        (("limits", "seconds"), 0.01, 10**9),
        (("limits", "tool_calls"), 0, 100_000),
    ],
)
def test_schema_and_reader_have_the_same_number_ranges(
    place: tuple[str | int, ...], least: float, most: float
) -> None:
    assert taken(changed(WHOLE, place, least)) and taken(changed(WHOLE, place, most))
    assert not taken(changed(WHOLE, place, least - 0.005 if least == 0.01 else least - 1))
    assert not taken(changed(WHOLE, place, most + 1))
    assert not taken(changed(WHOLE, place, True))


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": "none"},
        {"memory": "elephant"},
        {"output": "yaml"},
        {"output": {"schema": {}}},
        {"output": {"type": "regex"}},
        {"output": "regex"},
        {"output": [["text"]]},
        {"output": []},
        {"aggregate": "tool_text"},
        {"aggregate": "loud"},
        {"aggregate": {"template": ""}},
        {"few_shot": [{"role": "user"}]},
        {"few_shot": [{"role": 1, "content": ""}]},
        {"tools": ["a b"]},
        {"tools": [{"tool": "a b"}]},
        {"tools": [{"tool": "a b", "as": "a_b"}]},
        {"tools": [{"function": "a.b"}]},
        {"tools": [{"function": "a.b", "as": "b"}]},
        {"tools": [{"as": "b"}]},
        {"tools": [{"tool": "a", "function": "b"}]},
        {"agents": ["a b"]},
        {"agents": [{"agent": "a b"}]},
        {"agents": [{"agent": "a b", "as": "handoff"}]},
        {"agents": [{"agent": {"name": "a b"}}]},
        {"agents": [{"agent": {"name": "a b"}, "as": "handoff"}]},
        {"agents": [{"agent": {"portico_agent": 1}}]},
        {"agents": [{"agent": {"portico_agent": 2}}]},
        {"agents": [{"agent": {"nmae": "x"}}]},
        {"agents": [{"agent": "", "as": "handoff"}]},
        {"agents": [{"as": "tool"}]},
        {"hooks": [{"do": "limit", "most": 3}]},
        {"hooks": [{"on": "after_agent", "do": "limit", "most": 0}]},
        {"hooks": [{"on": "after_agent", "do": "guard", "text": "x"}]},
        {"hooks": [{"on": "after_agent", "do": "guard", "pattern": ""}]},
        {"hooks": [{"on": "after_agent", "do": "prefix", "text": "x", "pattern": "y"}]},
        {"options": {"temprature": 1}},
        {"options": {"extra_body": {"anything": 1}}},
        {"portico_agent": 2},
        {"portico_agent": True},
        {"variables": []},
        {"stores": [3]},
    ],
    ids=str,
)
def test_schema_and_reader_agree_on_special_cases(changes: Mapping[str, Any]) -> None:
    taken({"portico_agent": 1, **changes})


def test_an_agent_without_its_version_field_is_refused() -> None:
    assert taken({"portico_agent": 1})
    for wrong in ({}, [], None, "agent"):
        assert not taken(wrong)


def words(found: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every word of every enumeration of the schema, with the names of the fields that lead to it."""
    if isinstance(found, list):
        for item in found:
            yield from words(item, place)
    elif isinstance(found, Mapping):
        for word in found.get("enum", ()):
            yield place, word
        for key in ("anyOf", "items"):
            yield from words(found.get(key), place)
        for name, item in found.get("properties", {}).items():
            yield from words(item, (*place, name))


PLACES: Mapping[tuple[str, ...], tuple[str | int, ...]] = {
    ("agents", "as"): ("agents", 2, "as"),
    ("hooks", "on"): ("hooks", 0, "on"),
    ("output", "type"): ("output", 1, "type"),
    ("output", "validate"): ("output", 0, "validate"),
}
"""Places in the example that contain the fields of a list."""


@pytest.mark.parametrize(("names", "word"), list(words({"properties": FIELDS})), ids=str)
def test_each_enum_value_of_the_schema_is_accepted_by_the_reader(names: tuple[str, ...], word: str) -> None:
    if names == ("hooks", "do"):
        assert any(hook["do"] == word for hook in WHOLE["hooks"])
        return
    assert taken(changed(WHOLE, PLACES.get(names, names), word))


def written() -> Iterator[tuple[str, Any]]:
    """Yield the agents of the documentation, the recipes and the configurations, with their places."""
    for file in sorted([*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "docs").rglob("*.yaml")]):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            yield from found_in(document, file)
    for file in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]):
        text = file.read_text(encoding="utf-8")
        for kind, block in re.findall(r"```(yaml|json)\n(.*?)```", text, re.DOTALL):
            if kind == "json" and "portico_agent" not in block:
                continue
            yield from found_in(yaml.safe_load(block), file)
        for block in re.findall(r'"spec": (\{"portico_agent".*?\})\}\'', text, re.DOTALL):
            yield from found_in(json.loads(block), file)


def found_in(given: Any, file: Path) -> Iterator[tuple[str, Any]]:
    if not isinstance(given, Mapping):
        return
    place = str(file.relative_to(ROOT))
    if "portico_agent" in given:
        yield place, given
    agents = given.get("agents")
    if isinstance(agents, list) and "portico_agent" not in given:
        for item in agents:
            if isinstance(item, Mapping):
                yield place, entry.agent_of(item, "agents[0]", file.parent).spec


def test_every_documented_agent_is_accepted_by_schema_and_reader() -> None:
    documented_agents = list(written())
    files = {place for place, _ in documented_agents}
    assert {"configs/agents.yaml", "configs/team.yaml", "docs/agents.md", "docs/configuration.md"} <= files
    assert any(place.startswith("docs/cookbook/") for place in files)
    for place, spec in documented_agents:
        assert taken(spec), place


def test_the_table_of_the_documentation_has_every_field() -> None:
    text = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    table = text.partition("## The specification")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(FIELDS)
