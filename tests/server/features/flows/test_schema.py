"""The published JSON schema of flows accepts what the reader accepts, op by op and field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.daemon import ROOT

from portico_server.core.errors import InvalidRequest
from portico_server.features.flows import fields, read
from portico_server.features.flows.ops import OPS as READ
from portico_server.features.flows.schema import AROUND, EITHER, OPS, schema

VALIDATOR = Draft202012Validator(schema())

INNER = {"op": "emit"}

EXAMPLES: Mapping[str, Any] = {
    "steps": [INNER],
    "step": INNER,
    "then": INNER,
    "else": INNER,
    "default": INNER,
    "cases": [{"equals": 1, "step": INNER}, {"when": {"$eq": [{"$ref": "value"}, 2]}, "step": INNER}],
    "intents": {"weather": "What it is like outside", "joke": {"examples": ["Make me laugh"]}},
    "after": {"emit1": []},
    "state": {"rounds": 0},
    "format": {"type": "regex", "pattern": "a(b)", "group": 1, "attempts": 3},
    "name": "a-name",
    "retry": {"times": 2, "delay": 0.1, "factor": 2, "on": ["timeout"]},
    "cache": {"ttl": 60},
    "on_error": {"value": None},
    "when": True,
    "arguments": {"a": {"$ref": "input"}},
    "answer_schema": {"type": "string"},
    "output_schema": {},
}
"""A value for each field for which the schema alone gives none."""


def example(op: str, name: str, found: Mapping[str, Any]) -> Any:
    if (op, name) == ("intent", "default"):
        return "joke"
    if (op, name) == ("agent", "agent"):
        return {"portico_agent": 1, "model": "default"}
    if name in EXAMPLES:
        return EXAMPLES[name]
    if "enum" in found:
        return found["enum"][0]
    match found.get("type"):
        case "string":
            return "word"
        case "integer" | "number":
            return found["minimum"] or 1
        case "boolean":
            return True
        case "array":
            return ["word"] if found["items"].get("type") == "string" else [{"$ref": "value"}]
        case "object":
            return {"key": {"$ref": "item"}}
    return {"$template": "Say {what}", "$with": {"what": {"$ref": "input.word"}}}


def taken(step: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether the schema accepts a step; raise if the reader disagrees."""
    flow = {"portico_flow": 1, "name": "a", "step": dict(step)}
    try:
        read.flow(flow)
    except InvalidRequest as error:
        reader, reason = False, error.message
    else:
        reader, reason = True, ""
    assert VALIDATOR.is_valid(flow) == reader, (step, reason)
    return reader, reason


def minimal(op: str) -> dict[str, Any]:
    fields, needed = OPS[op]
    step = {"op": op, **{name: example(op, name, fields[name]) for name in needed}}
    if op in EITHER:
        step[EITHER[op][0]] = "word"
    return step


def test_the_published_schema_file_equals_the_generated_schema() -> None:
    assert json.loads((ROOT / "docs" / "flow.schema.json").read_text(encoding="utf-8")) == schema()
    Draft202012Validator.check_schema(schema())


def test_every_op_is_described() -> None:
    assert set(OPS) == set(READ)


@pytest.mark.parametrize("op", OPS)
def test_the_fields_of_an_op_are_those_that_the_reader_knows(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_fields: set[str] = set()
    done = fields.FlowFields.check_unread

    def note(self: fields.FlowFields) -> None:
        if self.at == "flow.step":
            known_fields.update(self._known)
        done(self)

    monkeypatch.setattr(fields.FlowFields, "check_unread", note)
    assert taken(minimal(op))[0]
    assert known_fields == {"op", *OPS[op][0], *AROUND}


@pytest.mark.parametrize("op", OPS)
def test_each_field_is_accepted_with_a_valid_value_and_refused_with_an_invalid_one(op: str) -> None:
    base = minimal(op)
    for name, field_schema in {**OPS[op][0], **AROUND}.items():
        step = {**base, name: example(op, name, field_schema)}
        if op in EITHER and name == EITHER[op][1]:
            assert not taken(step)[0]
            del step[EITHER[op][0]]
        assert taken(step)[0], step
        if field_schema != {"$ref": "#/$defs/expression"}:
            assert not taken({**base, name: 1.5 if field_schema.get("type") != "number" else "much"})[0], name
    assert not taken({**base, "no_such_field": 1})[0]
    for name in OPS[op][1]:
        assert not taken({key: value for key, value in base.items() if key != name})[0], name


def test_schema_and_reader_agree_on_the_fields_of_a_flow() -> None:
    complete_flow = {
        "portico_flow": 1,
        "name": "a",
        "title": "A",
        "durability": "full",
        "timeout": 3,
        "step": INNER,
    }
    assert VALIDATOR.is_valid(complete_flow)
    for wrong in (
        {"portico_flow": 2},
        {"durability": "some"},
        {"timeout": -1},
        {"steps": []},
        {"step": None},
    ):
        assert not VALIDATOR.is_valid({**complete_flow, **wrong})
        with pytest.raises(InvalidRequest):
            read.flow({**complete_flow, **wrong})
