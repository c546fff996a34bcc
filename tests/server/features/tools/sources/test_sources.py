"""Tools that an operator adds: commands, functions, APIs."""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.registry_fixture import RegistryFixture, open_registry
from tests.server.features.tools.web import Site, page, serving

from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.request import ToolCall, ToolResult
from portico_server.db.database import Database
from portico_server.features.tools.sources.function_packages import FunctionPackages
from portico_server.features.tools.sources.sources import AddedTools
from portico_server.features.tools.sources.spec import ToolSpec, parse
from portico_server.features.tools.toolbox import Toolbox
from portico_server.http.fetch.policy import AddressPolicy

HERE = str(Path(__file__).parent)
SHOW = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]


class Case:
    """A test house and the tools added to it."""

    def __init__(self, daemon: RegistryFixture, added: AddedTools) -> None:
        self.daemon = daemon
        self.added = added

    async def add(self, name: str, **item: Any) -> list[str]:
        return list((await self.added.add(parse({"name": name, **item}), None)).tools)

    async def use(self, name: str, **arguments: Any) -> ToolResult:
        result, _events = await self.daemon.call(f"tool/{name}", ToolCall(arguments))
        assert isinstance(result, ToolResult)
        return result

    async def card(self, name: str) -> Any:
        return (await self.daemon.registry.resolve(f"tool/{name}", LOCAL)).card


@asynccontextmanager
async def opened(folder: Path, *configured: ToolSpec, early: ToolSpec | None = None) -> AsyncIterator[Case]:
    """Yield added tools that run. ``early`` is added just before they run, as by the first request of a daemon."""
    database = Database.at(folder / "added.db")
    database.prepare()
    async with open_registry(folder) as daemon:
        added_tools = AddedTools(
            Toolbox(daemon.registry), database, AddressPolicy(), FunctionPackages(folder / "environments")
        )
        await added_tools.start(configured)
        if early is not None:
            await added_tools.add(early, None)
        running = asyncio.create_task(added_tools.run())
        try:
            yield Case(daemon, added_tools)
        finally:
            running.cancel()
            await asyncio.wait([running])
            database.close()


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with opened(tmp_path) as case:
        yield case


# --- commands ---------------------------------------------------------------------------------------------------


async def test_arguments_of_a_command_are_never_interpreted_by_a_shell(case: Case) -> None:
    parameters = {
        "many": {"type": "array", "items": {"type": "string"}, "default": []},
        "n": {"type": "integer"},
    }
    await case.add("show", command=[*SHOW, "--n={n}", "{text}", "{many}"], parameters=parameters)
    result = await case.use("show", text="a; rm -rf / $(id) `id` *", n=7, many=["x y", "z"])
    assert json.loads(result.text) == ["--n=7", "a; rm -rf / $(id) `id` *", "x y", "z"]
    assert result.structured is not None and result.structured["exit_code"] == 0
    assert json.loads((await case.use("show", text="", n=-1)).text) == ["--n=-1", ""]
    with pytest.raises(InvalidRequest, match="n"):
        await case.use("show", text="x", n="7")


async def test_a_tool_added_before_the_others_run_stays_ready(tmp_path: Path) -> None:
    early = parse({"name": "early", "command": [*SHOW, "{text}"]})
    async with opened(tmp_path, early=early) as case:
        await case.add("later", command=SHOW)  # waits for the database, so all other tasks run meanwhile
        assert case.added.get("early").state == "ready"
        assert json.loads((await case.use("early", text="x")).text) == ["x"]


async def test_an_argument_never_becomes_an_option(case: Case) -> None:
    await case.add("show", command=[*SHOW, "{text}", "--", "{more}"])
    result = await case.use("show", text="--help", more="x")
    assert result.is_error and "begin with '-'" in result.text
    assert json.loads((await case.use("show", text="x", more="--help")).text) == ["x", "--", "--help"]


@pytest.mark.parametrize(
    ("command", "description"),
    [
        (["/usr/bin/kubectl", "get", "pods", "-A", "{name}"], "Run kubectl get pods -A {name}"),
        (["curl", "-H", "Authorization: Bearer zq17", "{url}"], "Run curl -H … {url}"),
        (["login", "--password", "opensesame", "--token=zq17"], "Run login --password … …"),
    ],
)
async def test_a_description_repeats_no_argument_that_may_be_secret(
    case: Case, command: list[str], description: str
) -> None:
    await case.add("show", command=command)
    assert (await case.card("show")).description == description


async def test_a_failed_command_reports_its_exit_code_or_start_error(case: Case) -> None:
    await case.add("fail", command=[sys.executable, "-c", "import sys; sys.exit('not today')"])
    result = await case.use("fail")
    assert result.is_error and result.text.startswith("Exit code 1.\nnot today")
    await case.add("gone", command=["no-such-program"])
    assert "cannot be started" in (await case.use("gone")).text


def ends(pid: int) -> bool:
    """Return whether a process, not a child of ours, has ended or is about to: a kill takes a moment to be carried
    out.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 60)[0])
    finally:
        os.close(process)


async def test_a_command_that_hangs_is_ended_with_its_children(case: Case, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = 'sleep 3600 & echo $! > "$0"; wait'
    await case.add("hang", command=["sh", "-c", script, str(mark)], timeout=2)
    result = await case.use("hang")
    assert result.is_error and "2 s" in result.text
    assert ends(int(mark.read_text()))


async def test_large_output_of_a_command_is_truncated(case: Case) -> None:
    await case.add("flood", command=[sys.executable, "-c", "import sys; sys.stdout.write('x' * 30_000_000)"])
    result = await case.use("flood")
    assert "cut off" in result.text and len(result.text) < 2_000_000


async def test_a_command_gets_only_its_declared_environment_variables(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ours")
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    await case.add("env", command=[sys.executable, "-c", code], env={"MINE": "yes"})
    variables = json.loads((await case.use("env")).text)
    assert variables["MINE"] == "yes" and "OPENAI_API_KEY" not in variables


# --- functions --------------------------------------------------------------------------------------------------


async def test_a_function_is_described_by_its_signature(case: Case) -> None:
    assert await case.add("area", function="geometry:area", folder=HERE) == ["area"]
    card = await case.card("area")
    assert card.description == "The area of a rectangle."
    assert card.input_schema == {
        "type": "object",
        "properties": {
            "width": {"type": "number", "description": "How wide it is."},
            "height": {"type": "number", "default": 2.0},
            "unit": {"enum": ["m", "cm"], "default": "m", "description": "What it is measured in."},
        },
        "required": ["width"],
        "additionalProperties": False,
    }
    assert (await case.use("area", width=3)).structured == {"area": 6.0, "unit": "m"}
    with pytest.raises(InvalidRequest, match="km"):
        await case.use("area", width=3, unit="km")


async def test_return_values_and_exceptions_of_functions_become_results(case: Case) -> None:
    for name in ("later", "broken", "odd", "secrets"):
        await case.add(name, function=f"geometry:{name}", folder=HERE)
    assert (await case.use("later", names=["a", "b"])).structured == {"width": 2, "height": 1}
    assert (await case.use("broken")).text == "ValueError: no such thing"
    odd = await case.use("odd")
    assert odd.is_error and "JSON" in odd.text
    secrets = await case.use("secrets")
    assert secrets.structured is not None
    assert not any(name.startswith(("PORTICO", "PYTEST")) for name in secrets.structured["result"])


async def test_a_function_runs_in_one_process_that_is_replaced_when_it_dies(case: Case) -> None:
    await case.add("pid", function="geometry:pid", folder=HERE)
    first, second = (await case.use("pid")).text, (await case.use("pid")).text
    assert first == second != str(os.getpid())
    await case.add("dies", function="geometry:dies", folder=HERE)
    assert "ended during the call" in (await case.use("dies")).text
    assert "ended during the call" in (await case.use("dies")).text
    await case.add("hangs", function="geometry:hangs", folder=HERE, timeout=1)
    assert "1 s" in (await case.use("hangs")).text


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("geometry:none", "none"),
        ("nowhere:x", "nowhere"),
        ("geometry:starred", "names"),
        ("geometry:Box.x", "Box"),
    ],
)
async def test_a_function_that_cannot_be_a_tool_is_refused_with_the_reason(
    case: Case, function: str, told: str
) -> None:
    with pytest.raises(PorticoError, match=told):
        await case.add("x", function=function, folder=HERE)
    assert case.added.every() == []


# --- APIs -------------------------------------------------------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "/v1"}],
    "paths": {
        "/pets/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {
                "operationId": "getPet",
                "summary": "One pet",
                "parameters": [
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "boolean"}},
                    {"name": "session", "in": "cookie", "schema": {"type": "string"}},
                ],
            },
            "delete": {"summary": "Away with it"},
        },
        "/pets": {
            "post": {
                "operationId": "add.pet",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
            }
        },
    },
    "components": {
        "parameters": {
            "Id": {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": "Whose.",
            }
        },
        "schemas": {
            "Pet": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "friend": {"$ref": "#/components/schemas/Pet"}},
                "required": ["name"],
            },
            "Unused": {"type": "string"},
        },
    },
}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async def pet(request: web.Request) -> web.StreamResponse:
        echo = {
            "method": request.method,
            "id": request.match_info.get("id"),
            "tags": request.query.getall("tags", []),
            "trace": request.headers.get("X-Trace"),
            "auth": request.headers.get("Authorization"),
            "body": (await request.json()) if request.method == "POST" else None,
        }
        if "Idempotency-Key" in request.headers:
            echo["key"] = request.headers["Idempotency-Key"]
        return web.json_response(echo, status=404 if echo["id"] == "none" else 200)

    pages = {
        "/openapi.json": page(json.dumps(DOCUMENT), "application/json"),
        "/v1/pets/{id}": pet,
        "/v1/pets": pet,
    }
    async with serving(pages) as running:
        yield running


async def test_each_operation_is_a_tool(case: Case, site: Site) -> None:
    headers = {"Authorization": "Bearer s3cret"}
    tools = await case.add("zoo", openapi=f"{site.url}/openapi.json", headers=headers)
    assert tools == ["zoo_getPet", "zoo_delete_pets_id", "zoo_add_pet"]
    card = await case.card("zoo_getPet")
    assert set(card.input_schema["properties"]) == {"id", "tags", "X-Trace"}
    assert card.input_schema["properties"]["id"]["description"] == "Whose." and card.labels["read_only"]
    assert (await case.card("zoo_delete_pets_id")).labels["destructive"]

    result = await case.use("zoo_getPet", **{"id": "a b?c#d;e", "tags": ["x", "y"], "X-Trace": True})
    assert result.structured == {
        "method": "GET",
        "id": "a b?c#d;e",
        "tags": ["x", "y"],
        "trace": "true",
        "auth": "***",
        "body": None,
    }
    assert site.requests[-1].headers["Authorization"] == "Bearer s3cret"
    posted = await case.use("zoo_add_pet", body={"name": "Rex", "friend": {"name": "Tom"}})
    assert posted.structured is not None and posted.structured["body"]["friend"] == {"name": "Tom"}
    with pytest.raises(InvalidRequest, match=r"arguments\.body\.friend"):
        await case.use("zoo_add_pet", body={"name": "Rex", "friend": {}})
    failed_result = await case.use("zoo_getPet", id="none")
    assert failed_result.is_error and "status 404" in failed_result.text


async def test_the_key_of_a_call_is_passed_on(case: Case, site: Site, tmp_path: Path) -> None:
    """Commands and functions get it in the environment, APIs in the header of requests that change something."""
    (tmp_path / "keyed.py").write_text(
        "import os\n\ndef key() -> str:\n    return os.environ['PORTICO_IDEMPOTENCY_KEY']\n"
    )
    code = "import os; print(os.environ.get('PORTICO_IDEMPOTENCY_KEY'), end='')"
    await case.add("program", command=[sys.executable, "-c", code])
    await case.add("python", function="keyed:key", folder=str(tmp_path))
    await case.add("zoo", openapi=f"{site.url}/openapi.json")

    async def keyed(tool: str, key: str, **arguments: Any) -> ToolResult:
        result, _events = await case.daemon.call(f"tool/{tool}", ToolCall(arguments, key=key))
        assert isinstance(result, ToolResult)
        return result

    for name in ("program", "python"):
        assert [(await keyed(name, key)).text for key in ("run_1:a[0]", "run_1:b")] == [
            "run_1:a[0]",
            "run_1:b",
        ]
    assert (await keyed("program", "")).text == "None"
    posted = await keyed("zoo_add_pet", "run_1:schön[0]", body={"name": "Rex"})
    assert posted.structured is not None and posted.structured["key"] == "run_1:sch%C3%B6n[0]"
    tool_result = await keyed("zoo_getPet", "run_1:a", id="b")
    assert tool_result.structured is not None and "key" not in tool_result.structured


async def test_operations_are_allowed_and_denied(case: Case, site: Site) -> None:
    document = f"{site.url}/openapi.json"
    assert await case.add("zoo", openapi=document, deny=["delete_*", "add*"]) == ["zoo_getPet"]
    with pytest.raises(PorticoError, match="no operation"):
        await case.add("none", openapi=document, allow=["nothing"])


async def test_an_openapi_document_in_yaml_is_read_from_a_folder(
    case: Case, site: Site, tmp_path: Path
) -> None:
    text = "openapi: 3.0.3\npaths:\n  /pets: {post: {operationId: add}}\n"
    (tmp_path / "api.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PorticoError, match="url"):
        await case.add("zoo", openapi="api.yaml", folder=str(tmp_path))
    tools = await case.add("zoo", openapi="api.yaml", folder=str(tmp_path), url=f"{site.url}/v1")
    assert tools == ["zoo_add"]


@pytest.mark.parametrize("text", ["", "[1", "swagger: '2.0'", "openapi: 3.0.0", "- 1", "\x00"])
async def test_an_invalid_openapi_document_is_refused(case: Case, tmp_path: Path, text: str) -> None:
    (tmp_path / "api.json").write_text(text, encoding="utf-8")
    with pytest.raises(PorticoError) as caught:
        await case.add("zoo", openapi="api.json", folder=str(tmp_path), url="http://x.example/")
    assert caught.value.code == "invalid_openapi"


# --- all kinds of tools
# -----------------------------------------------------------------------------------------


async def test_added_tools_survive_a_restart_and_configured_ones_cannot_be_removed(tmp_path: Path) -> None:
    async with opened(tmp_path) as case:
        await case.add("show", command=[*SHOW, "{text}"])
        for tool_name in ("show", "current_time"):
            with pytest.raises(Conflict):
                await case.add(tool_name, command=["true"])
        assert [info.name for info in case.added.every()] == ["show"]
    configured = parse({"name": "file", "command": ["true"]})
    async with opened(tmp_path, configured) as case:
        change_event = asyncio.Event()
        case.daemon.registry.watch(lambda _kind: change_event.set())
        while any(info.state != "ready" for info in case.added.every()):
            await change_event.wait()
            change_event.clear()
        assert (await case.use("show", text="x")).text == '["x"]\n'
        with pytest.raises(Conflict, match="configuration"):
            await case.added.remove("file")
        await case.added.remove("show")
        with pytest.raises(NotFound):
            await case.use("show", text="x")
    async with opened(tmp_path) as case:
        assert case.added.every() == []


HELD = """
import pathlib
pathlib.Path({gate!r}).read_text()

def lookup(word: str) -> str:
    "Look a word up."
    return word.upper()
"""


async def test_a_call_waits_for_a_starting_tool_but_not_for_a_failed_one(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "held_tools.py").write_text(HELD.format(gate=str(gate)))
    slow_spec = parse({"name": "lookup", "function": "held_tools:lookup", "folder": str(tmp_path)})
    failing_spec = parse({"name": "gone", "function": "no_such_module:lookup", "folder": str(tmp_path)})
    async with opened(tmp_path, slow_spec, failing_spec) as case:
        case.daemon.registry.late_sources.add(case.added)
        calls = [asyncio.ensure_future(case.use("lookup", word="x")) for _number in range(3)]
        unknown = asyncio.ensure_future(case.use("gone", word="x"))
        with pytest.raises(NotFound):
            await case.use("nowhere")
        with pytest.raises(NotFound):
            await unknown
        assert not any(call.done() for call in calls)
        await asyncio.to_thread(gate.write_text, "now")  # until the module reads it
        assert [(await call).text for call in calls] == ["X"] * 3


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "x"}, "one of 'command', 'function', 'openapi' and 'database'"),
        ({"name": "x", "command": ["a"], "function": "m:f"}, "one of"),
        ({"name": "a/b", "command": ["a"]}, "letters"),
        ({"name": "x", "command": "ls -la"}, "list of texts"),
        ({"name": "x", "command": ["{program}"]}, "program cannot be an argument"),
        ({"name": "x", "command": ["ls"], "parameters": {"y": {}}}, "does not occur in the command"),
        ({"name": "x", "command": ["ls", "{y}"], "parameters": {"y": "text"}}, "JSON schemas"),
        ({"name": "x", "function": "os.system"}, "module:function"),
        ({"name": "x", "function": "a:b; import os"}, "module:function"),
        ({"name": "x", "command": ["ls"], "timeout": 0}, "seconds"),
        ({"name": "x", "command": ["ls"], "repeat": "never"}, "ask or same_key"),
        ({"name": "x", "command": ["ls"], "read_only": "yes"}, "true or false"),
        ({"name": "x", "command": ["ls"], "shell": True}, "no field 'shell'"),
    ],
)
def test_a_wrong_spec_names_its_field(item: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(item)


def test_a_spec_is_unchanged_after_a_json_round_trip() -> None:
    spec = parse(
        {"name": "x", "command": ["ls", "{y}"], "env": {"A": 1}, "parameters": {"y": {"type": "string"}}}
    )
    assert parse(spec.to_json()) == spec
