"""Servers whose tools, results and errors are not as MCP defines them: what can be read is used, and the rest is named.

Each row rebuilds what real servers send; the reports are named where a row follows one. The same server answers over
standard input and output, with JSON over HTTP, and with an event stream.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.server.features.mcp_servers.test_host import Case, opened
from tests.server.features.mcp_servers.test_tool_names import SCRIPTED, scripted

from portico.schemas.mcp_servers import McpServer
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.features.mcp_servers.spec import ServerSpec, parse

OBJECT: Final = {"type": "object"}
REFERENCE: Final = {"$ref": "#/$defs/Q"}
DRAFT_4: Final = "http://json-schema.org/draft-04/schema#"


class ToolRow(NamedTuple):
    """A tool of a server, without its name, and what Portico makes of it: the schema of its arguments, and the parts
    that its problem names. ``invalid``: arguments that the schema must refuse.
    """

    tool: dict[str, Any]
    schema: dict[str, Any]
    unread: str = ""
    invalid: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None


def takes(schema: Any, readable: dict[str, Any], unread: str = "", invalid: Any = None) -> ToolRow:
    return ToolRow({"inputSchema": schema}, readable, unread, invalid)


def returns(schema: Any, readable: dict[str, Any] | None, unread: str = "") -> ToolRow:
    return ToolRow({"inputSchema": OBJECT, "outputSchema": schema}, OBJECT, unread, output_schema=readable)


def properties(**schemas: Any) -> dict[str, Any]:
    return {"type": "object", "properties": schemas}


BRANCHES: Final = {
    "oneOf": [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]},
    ]
}
TOOLS: Final = {
    # the schema of the arguments
    "no_schema": ToolRow({}, OBJECT),  # gemini-cli 28970
    "null": takes(None, OBJECT),
    "empty": takes({}, OBJECT),
    "php_list": takes([], OBJECT),
    "true": takes(True, OBJECT),
    "a_text": takes("object", OBJECT, "inputSchema"),
    "a_number": takes(7, OBJECT, "inputSchema"),
    "a_list": takes([{"type": "string"}], OBJECT, "inputSchema"),
    "no_type": takes(
        {"properties": {"a": {"type": "string"}}}, properties(a={"type": "string"}), "", {"a": 1}
    ),
    "one_of_top": takes(BRANCHES, {"type": "object", **BRANCHES}, "", {}),  # claude-code 88049, mcpx 28
    "any_of_top": takes({"anyOf": BRANCHES["oneOf"]}, {"type": "object", "anyOf": BRANCHES["oneOf"]}, "", {}),
    "all_of_top": takes({"allOf": [{"required": ["a"]}]}, {"type": "object", "allOf": [{"required": ["a"]}]}),
    "one_of_empty": takes({"oneOf": []}, OBJECT),
    "type_null": takes({"type": None, "properties": {}}, properties()),
    "type_list": takes({"type": ["object", "null"]}, OBJECT),
    "type_string": takes({"type": "string"}, OBJECT, "inputSchema.type"),
    "type_array": takes({"type": "array", "items": {}}, {"type": "object", "items": {}}, "inputSchema.type"),
    "type_unknown": takes({"type": "Object"}, OBJECT, "inputSchema.type"),
    "properties_list": takes({"type": "object", "properties": []}, OBJECT),  # PHP
    "properties_null": takes({"type": "object", "properties": None}, OBJECT),
    "properties_names": takes({"type": "object", "properties": ["a"]}, OBJECT, "inputSchema.properties"),
    "property_text": takes(properties(a="string"), properties(a={}), "inputSchema.properties.a"),
    "property_null": takes(properties(a=None), properties(a={})),
    "property_true": takes(properties(a=True), properties(a=True)),
    "property_type": takes(  # python names of types
        properties(a={"type": "str", "description": "A"}, b={"type": "integer"}),
        properties(a={"description": "A"}, b={"type": "integer"}),
        "inputSchema.properties.a.type",
        {"b": "x"},
    ),
    "required_true": takes(  # draft 3
        properties(a={"type": "string", "required": True}),
        properties(a={"type": "string"}),
        "inputSchema.properties.a.required",
    ),
    "required_null": takes({"type": "object", "required": None}, OBJECT),
    "required_twice": takes(
        {"type": "object", "required": ["a", "a", 1]}, {"type": "object", "required": ["a"]}, "", {}
    ),
    "required_unlisted": takes({"type": "object", "required": ["a"]}, {"type": "object", "required": ["a"]}),
    "enum_text": takes(properties(a={"enum": "x"}), properties(a={}), "inputSchema.properties.a.enum"),
    "enum_empty": takes(properties(a={"enum": []}), properties(a={}), "inputSchema.properties.a.enum"),
    "draft_4": takes(
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            **properties(a={"minimum": 0, "exclusiveMinimum": True}),
        },
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            **properties(a={"minimum": 0, "exclusiveMinimum": 0}),
        },
        "",
        {"a": 0},
    ),
    "draft_7_tuple": takes(
        properties(a={"type": "array", "items": [{"type": "integer"}]}),
        properties(a={"type": "array", "prefixItems": [{"type": "integer"}]}),
        "",
        {"a": ["x"]},
    ),
    "items_null": takes(properties(a={"type": "array", "items": None}), properties(a={"type": "array"})),
    "pattern_look": takes(  # a pattern that only the server can check
        properties(a={"type": "string", "pattern": "(?=x)["}),
        properties(a={"type": "string", "pattern": "(?=x)["}),
    ),
    "reference": takes(
        {**properties(q=REFERENCE), "$defs": {"Q": {"type": "integer"}}},
        {**properties(q=REFERENCE), "$defs": {"Q": {"type": "integer"}}},
        "",
        {"q": "x"},
    ),
    "reference_missing": takes(properties(q=REFERENCE), properties(q={}), "inputSchema.properties.q.$ref"),
    "reference_far": takes(
        properties(q={"$ref": "https://example.com/q.json"}),
        properties(q={}),
        "inputSchema.properties.q.$ref",
    ),
    "default_null": takes(
        properties(a={"type": ["string", "null"], "default": None}),
        properties(a={"type": ["string", "null"], "default": None}),
    ),
    "unknown_keywords": takes(
        {**OBJECT, "x-order": 1, "nullable": True}, {**OBJECT, "x-order": 1, "nullable": True}
    ),
    # the schema of the result
    "output_no_type": returns({"description": "any"}, {"type": "object", "description": "any"}),  # mcpx 28
    "output_any_of": returns(  # cua 2977
        {"anyOf": [{"required": ["n"]}, {"required": ["m"]}]},
        {"type": "object", "anyOf": [{"required": ["n"]}, {"required": ["m"]}]},
    ),
    "output_array": returns({"type": "array"}, None, "outputSchema.type"),  # longhand 10
    "output_empty": returns({}, None),
    "output_null": returns(None, None),
    "output_text": returns("json", None, "outputSchema"),
    # everything else
    "description_null": ToolRow({"description": None, "inputSchema": OBJECT}, OBJECT),
    "description_list": ToolRow({"description": ["a"], "inputSchema": OBJECT}, OBJECT, "description"),
    "title_number": ToolRow({"title": 5, "inputSchema": OBJECT}, OBJECT, "title"),
    "annotations_text": ToolRow({"annotations": "read-only", "inputSchema": OBJECT}, OBJECT, "annotations"),
    "annotations_list": ToolRow({"annotations": [], "inputSchema": OBJECT}, OBJECT),
    "hint_text": ToolRow(
        {"annotations": {"readOnlyHint": "yes"}, "inputSchema": OBJECT}, OBJECT, "annotations.readOnlyHint"
    ),
    "unknown_fields": ToolRow(
        {"inputSchema": OBJECT, "icons": "x", "execution": 1, "_meta": [], "v": 2}, OBJECT
    ),
}
LOST_TOOLS: Final = ("text", 7, None, {"inputSchema": OBJECT}, {"name": None}, {"name": 5})
"""Entries of a list of tools that are not tools."""


class CallRow(NamedTuple):
    """The members of a response, and what the call answers: text, structured content, and whether it is an error."""

    response: dict[str, Any]
    text: str
    structured: dict[str, Any] | None = None
    is_error: bool = False


def result(text: str, structured: dict[str, Any] | None = None, **members: Any) -> CallRow:
    return CallRow({"result": members}, text, structured)


def bare(value: Any, text: str) -> CallRow:
    return CallRow({"result": value}, text)


def failure(error: Any, reason: str) -> CallRow:
    return CallRow({"error": error}, f"The MCP server 'odd' refused the call: {reason}", None, is_error=True)


def unread(kind: str) -> str:
    return f"[An item of the type '{kind}' has no content that can be read.]"


HELLO: Final = {"type": "text", "text": "Hello"}
NOTHING: Final = "[The result has no content.]"
CALLS: Final = {
    # content
    "no_content": result(NOTHING),
    "null_content": result(NOTHING, content=None),  # notion-mcp 341
    "empty_content": result("", content=[]),
    "text_content": result("Hello", content="Hello"),
    "one_item": result("Hello", content=HELLO),
    "texts": result("Hello\nyou", content=["Hello", "you"]),
    "null_text": result(
        f"Hello\n{unread('text')}",
        content=[HELLO, {"type": "text", "text": None}],
    ),
    "number_text": result("5", content=[{"type": "text", "text": 5}]),
    "object_text": result('{"a": 1}', content=[{"type": "text", "text": {"a": 1}}]),
    "no_kind": result("Hello", content=[{"text": "Hello"}]),
    "unknown_kind": result(  # opencode 21591
        "Hello\n[An item of the unknown type 'video' could not be read.]",
        content=[{"type": "video", "uri": "x"}, HELLO],
    ),
    "unknown_text": result("Hello", content=[{"type": "markdown", "text": "Hello"}]),
    "null_item": result("null\nHello", content=[None, HELLO]),
    "bad_annotations": result("Hello", content=[{**HELLO, "annotations": {"priority": 7}, "_meta": 1}]),
    "no_media_type": result("[image/*, 3 bytes]", content=[{"type": "image", "data": "aGVs"}]),
    "no_data": result(
        unread("image"),
        content=[{"type": "image", "mimeType": "image/png"}],
    ),
    "resource_no_uri": result("Hello", content=[{"type": "resource", "resource": {"text": "Hello"}}]),
    "resource_text": result(
        unread("resource"),
        content=[{"type": "resource", "resource": "x"}],
    ),
    "link_no_name": result("[file:///a: file:///a]", content=[{"type": "resource_link", "uri": "file:///a"}]),
    "error_text": CallRow({"result": {"content": [HELLO], "isError": "true"}}, "Hello", None, is_error=True),
    "error_null": result("Hello", content=[HELLO], isError=None),
    # structured content
    "structured_only": result(
        '{"n": 5}', {"n": 5}, content=[], structuredContent={"n": 5}
    ),  # langchain-mcp-adapters 283
    "structured_alone": result('{"n": 5}', {"n": 5}, structuredContent={"n": 5}),
    "structured_null": result("Hello", content=[HELLO], structuredContent=None),
    "structured_list": result(
        "[1, 2]\n[The structured content is a list instead of an object, so it is only text here.]",
        content=[],
        structuredContent=[1, 2],
    ),
    "structured_list_twice": result(
        "[1,2]\n[The structured content is a list instead of an object, so it is only text here.]",
        content=[{"type": "text", "text": "[1,2]"}],
        structuredContent=[1, 2],
    ),
    "structured_number": result(
        "Hello\n5\n[The structured content is the value 5 instead of an object, so it is only text here.]",
        content=[HELLO],
        structuredContent=5,
    ),
    # results that are no result of a call
    "a_text": bare("Hello", "Hello"),
    "a_list": bare([HELLO], "Hello"),
    "a_number": bare(5, "5"),
    "nothing": bare(None, NOTHING),
    "php_nothing": bare([], NOTHING),
    "other_members": bare({"temperature": 20}, '{"temperature": 20}'),
    "old_result": bare({"toolResult": {"temperature": 20}}, '{"temperature": 20}'),
    "no_version": CallRow({"jsonrpc": "1.0", "result": {"content": [HELLO]}}, "Hello"),
    "null_error": CallRow({"error": None, "result": {"content": [HELLO]}}, "Hello"),
    "not_a_number": CallRow(
        {"line": '{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"structuredContent":{"n":NaN}}}'},
        '{"n": null}',
        {"n": None},
    ),
    "half_a_pair": CallRow(
        {"line": '{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"a\\ud83d"}]}}'}, "a?"
    ),
    "batch_of_one": CallRow({"line": '[{"jsonrpc":"2.0","id":$ID,"result":{"content":["a"]}}]'}, "a"),
    "text_id": CallRow({"line": '{"jsonrpc":"2.0","id":"$ID","result":{"content":[]}}'}, ""),
    # errors
    **{
        f"code_{-code}": failure({"code": code, "message": "license expired"}, "license expired")
        for code in (-32000, -32001, -32002, -32050, -32098, -32099, -32600, -32602, -32603, -32700, 1, 500)
    },  # claude-code 50025
    "error_data": failure(
        {"code": -32000, "message": "failed", "data": {"on": "3 May"}}, 'failed ({"on": "3 May"})'
    ),
    "error_data_text": failure({"code": -32001, "message": "failed", "data": "3 May"}, "failed (3 May)"),
    "error_text_only": failure("license expired", "license expired"),
    "error_no_code": failure({"message": "license expired"}, "license expired"),
    "error_code_text": failure({"code": "E7", "message": "license expired"}, "license expired"),
    "error_null_message": failure({"code": 1, "message": None}, '{"code": 1, "message": null}'),
    "error_and_result": CallRow(
        {"error": {"code": 1, "message": "license expired"}, "result": {}},
        "The MCP server 'odd' refused the call: license expired",
        None,
        is_error=True,
    ),
}
SCRIPT: Final = {
    "list": {
        "tools": [
            *LOST_TOOLS,
            *({"name": f"tool_{name}", **row.tool} for name, row in TOOLS.items()),
            *({"name": f"call_{name}", "inputSchema": OBJECT} for name in CALLS),
        ]
    },
    "calls": {f"call_{name}": row.response for name, row in CALLS.items()},
}


@asynccontextmanager
async def listening(
    folder: Path, script: dict[str, Any], kind: str, **fields: Any
) -> AsyncIterator[ServerSpec]:
    """Serve a script over HTTP. ``kind``: ``json`` or ``sse``."""
    file = folder / f"{kind}.script.json"
    file.write_text(json.dumps(script), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPTED, str(file), kind, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield parse({"name": "odd", "url": f"http://127.0.0.1:{port}/mcp", **fields})
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def serving(case: Case, script: dict[str, Any], kind: str = "stdio") -> AsyncIterator[McpServer]:
    """Add a server that answers as a script says, over ``stdio``, or over HTTP with ``json`` or ``sse``."""
    if kind == "stdio":
        yield await case.host.add(scripted(case.folder, script), None)
    else:
        async with listening(case.folder, script, kind) as spec:
            yield await case.host.add(spec, None)
            await case.host.remove("odd")


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with opened(tmp_path) as case:
        yield case


@pytest.mark.parametrize("kind", ["stdio", "json", "sse"])
async def test_each_odd_tool_is_offered_as_far_as_it_can_be_read(case: Case, kind: str) -> None:
    async with serving(case, SCRIPT, kind) as info:
        assert (info.state, info.error) == ("ready", None)
        assert sorted(info.tools) == sorted(
            [*(f"odd_tool_{name}" for name in TOOLS), *(f"odd_call_{name}" for name in CALLS)]
        )
        assert list(info.problems) == [
            *(
                f"Tool number {number} of the server is not offered: it is not an object with a 'name'."
                for number in range(1, len(LOST_TOOLS) + 1)
            ),
            *(
                f"The tool 'tool_{name}' is offered without what could not be read: {row.unread}."
                for name, row in TOOLS.items()
                if row.unread
            ),
        ]
        cards = {card.name: card for card in await case.daemon.registry.cards(LOCAL, "tool")}
        schemas = {name: cards[f"odd_tool_{name}"].input_schema for name in TOOLS}
        assert schemas == {name: row.schema for name, row in TOOLS.items()}
        output_schemas = {name: cards[f"odd_tool_{name}"].output_schema for name in TOOLS}
        assert output_schemas == {name: row.output_schema for name, row in TOOLS.items()}
        for name, row in TOOLS.items():
            if row.invalid is not None:
                with pytest.raises(InvalidRequest):
                    await case.use(f"odd_tool_{name}", **row.invalid)


@pytest.mark.parametrize("kind", ["stdio", "json", "sse"])
async def test_each_odd_response_to_a_call_is_answered_as_far_as_it_can_be_read(
    case: Case, kind: str
) -> None:
    async with serving(case, SCRIPT, kind):
        answers = {name: await case.use(f"odd_call_{name}") for name in CALLS}
        assert {
            name: (answer.text, answer.structured, answer.is_error) for name, answer in answers.items()
        } == {name: (row.text, row.structured, row.is_error) for name, row in CALLS.items()}
        assert (case.host.get("odd").state, case.host.get("odd").restarts) == ("ready", 0)


UNREAD_LIST: Final = ("The server's list of tools could not be read: it is not a list.",)


@pytest.mark.parametrize(
    ("script", "tools", "problems"),
    [
        ({"list": {}}, (), UNREAD_LIST),
        ({"list": {"tools": None}}, (), UNREAD_LIST),
        ({"list": {"tools": {"a": OBJECT}}}, (), UNREAD_LIST),
        ({"list": [{"name": "a"}]}, ("odd_a",), ()),
        ({"list": {"tools": [{"name": "a"}], "nextCursor": ""}}, ("odd_a",), ()),
        ({"list": {"tools": [{"name": "a"}], "nextCursor": False}}, ("odd_a",), ()),
        ({"initialize": {"capabilities": {"tools": []}}}, (), ()),
        ({"initialize": {"capabilities": {"tools": True, "x": 1, "logging": False}}}, (), ()),
        ({"initialize": {"serverInfo": None, "instructions": ["a"]}}, (), ()),
        ({"initialize": {"serverInfo": {"name": "x"}}}, (), ()),
        ({"initialize": {"serverInfo": {"name": "x", "version": 2, "icons": "x"}}}, (), ()),
    ],
)
async def test_odd_lists_and_descriptions_of_a_server_do_not_keep_it_from_starting(
    case: Case, script: dict[str, Any], tools: tuple[str, ...], problems: tuple[str, ...]
) -> None:
    info = await case.host.add(scripted(case.folder, script), None)
    assert (info.state, info.error, info.tools, info.problems) == ("ready", None, tools, problems)


NUMBER: Final = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("members", "text", "structured"),
    [
        ({"content": [HELLO], "structuredContent": {"n": 5}}, "Hello", {"n": 5}),
        ({"content": [{"type": "text", "text": '{"n": 5}'}]}, '{"n": 5}', {"n": 5}),
        ({"structuredContent": {"n": 5}}, '{"n": 5}', {"n": 5}),
        ({"content": [HELLO]}, "Hello", None),  # longhand 10
        ({"content": [HELLO], "structuredContent": {"n": "x"}}, "Hello", None),
    ],
)
async def test_a_result_that_violates_the_output_schema_keeps_its_text(
    case: Case, members: dict[str, Any], text: str, structured: dict[str, Any] | None
) -> None:
    tools = [{"name": "a", "inputSchema": OBJECT, "outputSchema": NUMBER}]
    script = {"list": {"tools": tools}, "calls": {"a": {"result": members}}}
    await case.host.add(scripted(case.folder, script), None)
    answer = await case.use("odd_a")
    assert answer.text.endswith(text) and answer.structured == structured
    assert answer.is_error == ("does not match its output schema" in answer.text) == (structured is None)
