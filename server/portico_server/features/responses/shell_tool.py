"""``shell`` and ``apply_patch``, run in a container of the daemon or by the client, and ``local_shell``, always run by
the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from portico_server.core.errors import PorticoError
from portico_server.core.request import CalledTool, ToolCall, ToolResult
from portico_server.features.agents.tools import cut
from portico_server.features.responses.code_tool import find_uploads, place_of
from portico_server.features.responses.items import MODEL_OUTPUT, Item
from portico_server.features.responses.request import ShellSkill, ShellTool
from portico_server.features.responses.tool_context import OfferedTool, ToolContext

MAX_COMMANDS: Final = 50

COMMANDS: Final = {
    "type": "object",
    "properties": {
        "commands": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_COMMANDS,
            "items": {"type": "string"},
            "description": "Commands of a shell, run one after the other.",
        },
        "timeout_ms": {"type": "integer", "minimum": 1},
        "max_output_length": {"type": "integer", "minimum": 0},
    },
    "required": ["commands"],
    "additionalProperties": False,
}

_EXEC: Final = {
    "type": "object",
    "properties": {
        "command": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1_000,
            "items": {"type": "string"},
            "description": "A program and its arguments.",
        },
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer", "minimum": 1},
    },
    "required": ["command"],
    "additionalProperties": False,
}

_PATCH: Final = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        "path": {"type": "string", "description": "Relative to the working folder."},
        "diff": {
            "type": "string",
            "description": "Of a new file each line behind '+'. Else hunks: '@@' and perhaps a line above the place, "
            "then lines that stay behind ' ', that go behind '-', that come behind '+'.",
        },
    },
    "required": ["type", "path"],
    "additionalProperties": False,
}


async def shell_call(bench: ToolContext, tool: ShellTool, at: str) -> None:
    """Offer the shell, run in a container of the daemon or by the client. Raises `NotFound`, `Forbidden`."""
    if not tool.hosted:
        about = "Run commands of a shell on the user's machine, one after the other."

        async def ask(call: CalledTool, arguments: Mapping[str, Any]) -> None:
            await _ask(bench, _shell_item(bench, call, arguments, {"type": "local"}))

        _offer(bench, "shell", _with_skills(about, tool.skills), COMMANDS, ask)
        return
    await bench.around.registry.resolve("tool/shell", bench.context.caller)
    param = f"{at}.environment.container_id"
    place = bench.shell = await place_of(bench, tool.container, param, fresh=bool(tool.files))
    files = await find_uploads(bench, tool.files, f"{at}.environment.file_ids")
    skills = [
        await _locate_skill(bench, skill, f"{at}.environment.skills[{n}]")
        for n, skill in enumerate(tool.skills)
    ]

    async def run(call: CalledTool, arguments: Mapping[str, Any]) -> None:
        container = await place()
        environment = {"type": "container_reference", "container_id": container}
        await _run(bench, container, files, skills, _shell_item(bench, call, arguments, environment))
        files.clear()  # the container now contains the files

    shell_skills = skills
    if tool.container:  # the named container has its own skills
        shell_skills = [
            ShellSkill(skill.id, skill.name, skill.description, f"/skills/{skill.name}")
            for skill in await bench.around.containers.skills(tool.container, bench.context.caller)
        ]
    about = "Run commands of a shell in a sandbox without network, one after the other; the folder stays."
    _offer(bench, "shell", _with_skills(about, shell_skills), COMMANDS, run)


async def _locate_skill(bench: ToolContext, skill: ShellSkill, at: str) -> ShellSkill:
    """Return a skill with its name and location. Raises `NotFound` for an unknown skill, and `InvalidRequest` for an
    invalid archive.
    """
    try:
        if skill.archive:
            about = await bench.around.skills.read_archive(skill.archive)
        else:
            about = await bench.around.skills.about(skill.ref, bench.context.caller, skill.version)
    except PorticoError as error:
        error.param = f"{at}.source.data" if skill.archive else f"{at}.skill_id"
        raise
    return replace(
        skill, ref=about.id, name=about.name, description=about.description, path=f"/skills/{about.name}"
    )


async def patch_call(bench: ToolContext) -> None:
    """Offer patches, applied in the container of a hosted shell, or else by the client. Raises `NotFound`,
    `Forbidden`.
    """
    shell = bench.shell
    if shell is not None:
        await bench.around.registry.resolve("tool/apply_patch", bench.context.caller)

    async def use(call: CalledTool, arguments: Mapping[str, Any]) -> None:
        item = _patch_item(bench, call, arguments)
        if shell is not None:
            await _patch(bench, await shell(), item)
        else:
            await _ask(bench, item)

    _offer(bench, "apply_patch", "Create, update or delete a file by a diff.", _PATCH, use)


def local_shell_call(bench: ToolContext) -> None:
    """Offer the local shell, whose programs the client runs."""

    async def ask(call: CalledTool, arguments: Mapping[str, Any]) -> None:
        command = arguments.get("command")
        command_words = (
            command if isinstance(command, list) else ["bash", "-c", str(command or call.arguments)]
        )
        action: dict[str, Any] = {"type": "exec", "command": [str(word) for word in command_words], "env": {}}
        for name, kind in (("working_directory", str), ("timeout_ms", int)):
            if isinstance(arguments.get(name), kind):
                action[name] = arguments[name]
        item = {"id": bench.machine.mint("lsh_"), "type": "local_shell_call", "call_id": bench.call_id(call)}
        await _ask(bench, {**item, "action": action})

    about = "Run a program on the user's machine."
    _offer(bench, "local_shell", about, _EXEC, ask)


def _offer(bench: ToolContext, name: str, about: str, schema: Mapping[str, Any], use: Any) -> None:
    bench.offers[name] = OfferedTool(name, about, schema, use, name, repeats=False)


def _with_skills(about: str, skills: Sequence[ShellSkill]) -> str:
    if not skills:
        return about
    lines = [f"- {skill.name} ({skill.path}): {skill.description}" for skill in skills]
    return "\n".join(
        (f"{about} Skills, each a folder: before a task that one is for, read its SKILL.md.", *lines)
    )


def _shell_item(
    bench: ToolContext, call: CalledTool, arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> Item:
    # Some models send a single command instead of a list.
    commands = arguments.get("commands", arguments.get("command", call.arguments))
    command_list = commands if isinstance(commands, list) else [commands]
    action: dict[str, Any] = {"commands": [str(command) for command in command_list][:MAX_COMMANDS]}
    for name in ("timeout_ms", "max_output_length"):
        value = arguments.get(name)
        action[name] = (
            value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
        )
    item = {"id": bench.machine.mint("sh_"), "type": "shell_call", "call_id": bench.call_id(call)}
    return {**item, "action": action, "environment": dict(environment)}


def _patch_item(bench: ToolContext, call: CalledTool, arguments: Mapping[str, Any]) -> Item:
    kind = arguments.get("type")
    operation_types = ("create_file", "update_file", "delete_file")
    operation = {
        "type": kind if kind in operation_types else "update_file",
        "path": str(arguments.get("path") or ""),
    }
    if operation["type"] != "delete_file":
        operation["diff"] = str(arguments.get("diff") or "")
    item = {"id": bench.machine.mint("apc_"), "type": "apply_patch_call", "call_id": bench.call_id(call)}
    return {**item, "operation": operation}


async def _ask(bench: ToolContext, item: Item) -> None:
    """Leave the call to the client: the response ends with the call."""
    await bench.emit(_begin(bench, item))
    bench.waits = True


def _begin(bench: ToolContext, item: Item) -> list[dict[str, Any]]:
    """Return all events that send a complete call item to the client."""
    machine = bench.machine
    index, events = machine.add({**item, "status": "in_progress"})
    for number, command in enumerate((item.get("action") or {}).get("commands") or ()):
        at = {"command_index": number}
        events += [
            machine.tell(index, "response.shell_call_command.added", command="", **at),
            machine.tell(index, "response.shell_call_command.delta", delta=command, **at),
            machine.tell(index, "response.shell_call_command.done", command=command, **at),
        ]
    return [*events, machine.finish(index, status="completed")]


async def _run(
    bench: ToolContext,
    container: str,
    files: Sequence[Mapping[str, str]],
    skills: Sequence[ShellSkill],
    item: Item,
) -> None:
    machine, action = bench.machine, item["action"]
    await bench.emit(_begin(bench, item))
    arguments: dict[str, Any] = {"commands": action["commands"], "session": container}
    arguments |= {name: action[name] for name in ("timeout_ms", "max_output_length") if action[name]}
    if files:
        arguments["files"] = list(files)
    if skills:
        arguments["skills"] = [
            {"archive": skill.archive} if skill.archive else {"skill": skill.ref, "version": skill.version}
            for skill in skills
        ]
    result = await _call(bench, "shell", arguments, item["id"])
    bench.made += [(artifact, container) for artifact in result.artifacts]
    output_item = {"id": machine.mint("sho_"), "type": "shell_call_output", "call_id": item["call_id"]}
    index, events = machine.add(
        {
            **output_item,
            "status": "in_progress",
            "output": [],
            "max_output_length": action["max_output_length"],
        }
    )
    outputs = _outputs(result)
    for number, output in enumerate(outputs):
        delta = {"stdout": output["stdout"], "stderr": output["stderr"]}
        events += [
            machine.tell(
                index, "response.shell_call_output_content.delta", command_index=number, delta=delta
            ),
            machine.tell(
                index, "response.shell_call_output_content.done", command_index=number, output=[output]
            ),
        ]
    status = "incomplete" if result.structured is None else "completed"
    last = machine.finish(index, status=status, output=outputs, **{MODEL_OUTPUT: cut(result.text)})
    await bench.emit([*events, last])


def _outputs(result: ToolResult) -> list[dict[str, Any]]:
    if result.structured is None:  # nothing ran
        return [{"stdout": "", "stderr": cut(result.text), "outcome": {"type": "exit", "exit_code": 1}}]
    return [
        {
            "stdout": command_result["stdout"],
            "stderr": command_result["stderr"],
            "outcome": {"type": "timeout"}
            if command_result["exit_code"] is None
            else {"type": "exit", "exit_code": command_result["exit_code"]},
        }
        for command_result in result.structured["results"]
    ]


async def _patch(bench: ToolContext, container: str, item: Item) -> None:
    machine = bench.machine
    await bench.emit(_begin(bench, item))
    result = await _call(bench, "apply_patch", {**item["operation"], "session": container}, item["id"])
    output_item = {"id": machine.mint("apco_"), "type": "apply_patch_call_output", "call_id": item["call_id"]}
    index, events = machine.add(
        {**output_item, "status": "failed" if result.is_error else "completed", "output": result.text}
    )
    await bench.emit([*events, machine.finish(index, **{MODEL_OUTPUT: cut(result.text)})])


async def _call(bench: ToolContext, tool: str, arguments: Mapping[str, Any], item_id: str) -> ToolResult:
    try:
        key = f"{bench.context.run}:{item_id}"
        result = await bench.context.call(f"tool/{tool}", ToolCall(arguments, key=key))
        assert isinstance(result, ToolResult)
    except PorticoError as error:
        return ToolResult(f"'{tool}' failed: {error.message}", is_error=True)
    return result
