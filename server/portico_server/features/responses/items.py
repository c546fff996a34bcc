"""The items of an input, parsed into the full form in which they are stored and returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from portico_server.core import json_values
from portico_server.core.invalid import missing, not_one_of, unsupported, wrong
from portico_server.features.responses.compaction import decode_conversation
from portico_server.features.responses.ids import ItemIds, Prefix

Item: TypeAlias = dict[str, Any]
"""An item as OpenAI defines it, with all its fields."""

ROLES: Final = ("user", "assistant", "system", "developer")
PARTS: Final = ("input_text", "input_image", "input_file")
DETAILS: Final = ("auto", "low", "high", "original")

MAX_ID_CHARS: Final = 256
MAX_ITEMS: Final = 10_000

EXECUTIONS: Final = ("server", "client")
SETTINGS: Final = ("additional_tools", "agent_reasoning", "configuration_update", "ghost_snapshot")
"""Types of items that say nothing in the conversation. Editors send them; the first type
adds tools to the request.
"""

OPERATIONS: Final = ("create_file", "update_file", "delete_file")

UNREADABLE_PART: Final = "[a part that only the provider of its sender can read]"

MODEL_OUTPUT: Final = "_told"
"""Item field with the part of a call's result that the model received. It is kept only while the response is being
made; clients do not see it.
"""


def without_model_output(item: Item) -> Item:
    """Return an item in the form that is stored once its response has ended."""
    return (
        {name: value for name, value in item.items() if name != MODEL_OUTPUT}
        if MODEL_OUTPUT in item
        else item
    )


def read(value: Any, mint: ItemIds, at: str = "input") -> list[Item]:
    """Parse the items of an input; a string becomes a user message. Raises `InvalidRequest` that names the invalid
    item.
    """
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    item_list = json_values.items(value, at, "a string or a list of items")
    if len(item_list) > MAX_ITEMS:
        wrong(at, f"has {len(item_list)} items; the maximum is {MAX_ITEMS}")
    return [
        _item(item, mint, f"{at}[{number}]")
        for number, item in enumerate(item_list)
        if not (isinstance(item, dict) and item.get("type") in SETTINGS)
    ]


def _item(value: Any, mint: ItemIds, at: str) -> Item:
    fields = json_values.mapping(value, at, "an object with a 'type'")
    kind = fields.get("type", "message" if "role" in fields else None)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        if kind is None:
            missing(f"{at}.type")
        not_one_of(f"{at}.type", kind, tuple(_READERS))
    new_item = reader(fields, at)
    prefix = _PREFIXES.get(new_item["type"])
    if prefix is None:
        return new_item
    item_id = (
        "" if new_item["type"] == "local_shell_call_output" else _id(fields, at)
    )  # the fallback may be the id of the call
    return {"id": item_id or mint(prefix), **new_item}


def _id(fields: Mapping[str, Any], at: str) -> str:
    item_id = fields.get("id")
    if item_id is None:
        return ""
    if len(json_values.text(item_id, f"{at}.id")) > MAX_ID_CHARS:
        wrong(f"{at}.id", f"is longer than {MAX_ID_CHARS} characters")
    return str(item_id)


def _message(fields: Mapping[str, Any], at: str) -> Item:
    role = json_values.one_of(fields.get("role"), f"{at}.role", ROLES)
    content = fields.get("content")
    if content is None:
        missing(f"{at}.content")
    is_spoken = role == "assistant"
    if isinstance(content, str):
        content = [{"type": "output_text" if is_spoken else "input_text", "text": content}]
    parts = json_values.items(content, f"{at}.content", "a string or a list of content parts")
    part = _output_part if is_spoken else _input_part
    content_parts = [
        part(content_part, f"{at}.content[{number}]") for number, content_part in enumerate(parts)
    ]
    return {"type": "message", "status": "completed", "role": role, "content": content_parts}


def _agent_message(fields: Mapping[str, Any], at: str) -> Item:
    """Return what another agent of an editor said, as a message of the user. Encrypted parts are named."""
    parts = json_values.items(fields.get("content") or [], f"{at}.content", "a list of content parts")
    texts = [
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else UNREADABLE_PART
        for part in parts
    ]
    return _message({"role": "user", "content": "\n".join(texts)}, at)


def _input_part(value: Any, at: str) -> dict[str, Any]:
    fields = json_values.mapping(value, at, "an object with a 'type'")
    kind = fields.get("type")
    if kind not in PARTS:
        not_one_of(f"{at}.type", kind, PARTS)
    if kind == "input_image":
        return _image(fields, at)
    if kind == "input_file":
        return _file(fields, at)
    return {"type": "input_text", "text": json_values.text(fields.get("text"), f"{at}.text")}


def _output_part(value: Any, at: str) -> dict[str, Any]:
    fields = json_values.mapping(value, at, "an object with a 'type'")
    kind = fields.get("type")
    if kind == "refusal":
        return {"type": "refusal", "refusal": json_values.text(fields.get("refusal"), f"{at}.refusal")}
    if kind not in ("output_text", "input_text"):
        not_one_of(f"{at}.type", kind, ("output_text", "refusal"))
    noted_annotations = json_values.shallow(
        json_values.items(fields.get("annotations") or [], f"{at}.annotations"), at
    )
    text = json_values.text(fields.get("text"), f"{at}.text")
    return {"type": "output_text", "text": text, "annotations": noted_annotations, "logprobs": []}


def _image(fields: Mapping[str, Any], at: str) -> dict[str, Any]:
    detail = json_values.one_of(fields.get("detail") or "auto", f"{at}.detail", DETAILS)
    url, file_id = fields.get("image_url"), fields.get("file_id")
    if (url is None) == (file_id is None):
        wrong(at, "needs either 'image_url' or 'file_id'", code="missing_required_parameter")
    if url is not None:
        json_values.text(url, f"{at}.image_url")
    else:
        json_values.text(file_id, f"{at}.file_id")
    return {"type": "input_image", "detail": detail, "image_url": url, "file_id": file_id}


def _file(fields: Mapping[str, Any], at: str) -> dict[str, Any]:
    if fields.get("file_url") is not None:
        unsupported(
            f"{at}.file_url",
            "is not supported: upload the file and name its 'file_id', or send 'file_data'",
        )
    names = [name for name in ("file_id", "file_data") if fields.get(name) is not None]
    if len(names) != 1:
        wrong(at, "needs either 'file_id' or 'file_data'", code="missing_required_parameter")
    file_part = {name: json_values.text(fields[name], f"{at}.{name}") for name in names}
    if fields.get("filename") is not None:
        file_part["filename"] = json_values.text(fields["filename"], f"{at}.filename")
    return {"type": "input_file", **file_part}


def _function_call(fields: Mapping[str, Any], at: str) -> Item:
    arguments = fields.get("arguments")
    return {
        "type": "function_call",
        "status": "completed",
        "call_id": json_values.needed(fields, "call_id", at),
        "name": json_values.needed(fields, "name", at),
        "arguments": json_values.text("" if arguments is None else arguments, f"{at}.arguments"),
        **({"namespace": json_values.needed(fields, "namespace", at)} if fields.get("namespace") else {}),
    }


def _function_call_output(fields: Mapping[str, Any], at: str) -> Item:
    output = fields.get("output")
    if output is None:
        missing(f"{at}.output")
    if not isinstance(output, str):
        parts = json_values.items(output, f"{at}.output", "a string or a list of content parts")
        output = [
            _input_part(output_part, f"{at}.output[{number}]") for number, output_part in enumerate(parts)
        ]
    call_id = json_values.needed(fields, "call_id", at)
    return {"type": "function_call_output", "status": "completed", "call_id": call_id, "output": output}


def _tool_search_call(fields: Mapping[str, Any], at: str) -> Item:
    arguments = fields.get("arguments")
    return {
        "type": "tool_search_call",
        "status": "completed",
        **_searched(fields, at),
        "arguments": {} if arguments is None else json_values.shallow(arguments, f"{at}.arguments"),
    }


def _tool_search_output(fields: Mapping[str, Any], at: str) -> Item:
    tools = _objects(fields.get("tools"), f"{at}.tools")
    if tools is None:
        missing(f"{at}.tools")
    return {"type": "tool_search_output", "status": "completed", **_searched(fields, at), "tools": tools}


def _searched(fields: Mapping[str, Any], at: str) -> Item:
    """Return the fields of a search item that say who runs the search; only a client's search has a call id."""
    call_id = json_values.optional_text(fields, "call_id", at)
    execution = fields.get("execution") or ("server" if call_id is None else "client")
    json_values.one_of(execution, f"{at}.execution", EXECUTIONS)
    if execution == "client" and not call_id:
        missing(f"{at}.call_id")
    return {"call_id": call_id, "execution": execution}


def _reasoning(fields: Mapping[str, Any], at: str) -> Item:
    item: Item = {"type": "reasoning", "summary": []}
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        for number, summary_part in enumerate(json_values.items(fields.get(name) or [], f"{at}.{name}")):
            path = f"{at}.{name}[{number}]"
            text = json_values.text(json_values.mapping(summary_part, path).get("text"), f"{path}.text")
            item.setdefault(name, []).append({"type": kind, "text": text})
    if fields.get("encrypted_content") is not None:
        item["encrypted_content"] = json_values.text(fields["encrypted_content"], f"{at}.encrypted_content")
    return item


def _reference(fields: Mapping[str, Any], at: str) -> Item:
    return {"type": "item_reference", "id": json_values.needed(fields, "id", at)}


def _file_search(fields: Mapping[str, Any], at: str) -> Item:
    return {
        "type": "file_search_call",
        "status": "completed",
        "queries": json_values.texts(fields.get("queries") or [], f"{at}.queries"),
        "results": _objects(fields.get("results"), f"{at}.results"),
    }


def _code(fields: Mapping[str, Any], at: str) -> Item:
    outputs = _objects(fields.get("outputs"), f"{at}.outputs")
    for number, output in enumerate(outputs or ()):
        field = "url" if output.get("type") == "image" else "logs"
        json_values.text(output.get(field), f"{at}.outputs[{number}].{field}")
    return {
        "type": "code_interpreter_call",
        "status": "completed",
        "code": json_values.optional_text(fields, "code", at),
        "container_id": json_values.needed(fields, "container_id", at),
        "outputs": outputs,
    }


def _picture(fields: Mapping[str, Any], at: str) -> Item:
    item: Item = {"type": "image_generation_call", "status": "completed"}
    item["result"] = json_values.optional_text(fields, "result", at)
    for name in ("revised_prompt", "size", "quality", "background", "output_format", "action"):
        if fields.get(name) is not None:
            item[name] = json_values.text(fields[name], f"{at}.{name}")
    return item


def _mcp_call(fields: Mapping[str, Any], at: str) -> Item:
    return {
        **_mcp_named(fields, at),
        "type": "mcp_call",
        "status": "completed",
        "approval_request_id": json_values.optional_text(fields, "approval_request_id", at),
        "output": json_values.optional_text(fields, "output", at),
        "error": json_values.shallow(fields.get("error"), f"{at}.error"),
    }


def _mcp_named(fields: Mapping[str, Any], at: str) -> Item:
    return {
        "server_label": json_values.needed(fields, "server_label", at),
        "name": json_values.needed(fields, "name", at),
        "arguments": json_values.text(fields.get("arguments") or "", f"{at}.arguments"),
    }


def _mcp_tools(fields: Mapping[str, Any], at: str) -> Item:
    return {
        "type": "mcp_list_tools",
        "server_label": json_values.needed(fields, "server_label", at),
        "tools": _objects(fields.get("tools"), f"{at}.tools") or [],
        "error": json_values.shallow(fields.get("error"), f"{at}.error"),
    }


def _approval_request(fields: Mapping[str, Any], at: str) -> Item:
    return {"type": "mcp_approval_request", **_mcp_named(fields, at)}


def _approval(fields: Mapping[str, Any], at: str) -> Item:
    return {
        "type": "mcp_approval_response",
        "approval_request_id": json_values.needed(fields, "approval_request_id", at),
        "approve": json_values.flag(fields.get("approve"), f"{at}.approve"),
        "reason": json_values.optional_text(fields, "reason", at),
    }


def _compaction(fields: Mapping[str, Any], at: str) -> Item:
    content = json_values.needed(fields, "encrypted_content", at)
    compacted_conversation = decode_conversation(content)
    if compacted_conversation is None:
        wrong(
            f"{at}.encrypted_content",
            "was not created by this daemon, or was modified: send the compaction item unchanged, or the "
            "items that it replaces",
        )
    # A client may have changed the content, so the content is parsed like any other input.
    inner = read(compacted_conversation.items, ItemIds(), f"{at}.encrypted_content")
    if any(item["type"] in ("compaction", "item_reference") for item in inner):
        wrong(f"{at}.encrypted_content", "was modified: send the item as this daemon returned it")
    return {"type": "compaction", "encrypted_content": replace(compacted_conversation, items=inner).sealed()}


def _shell_call(fields: Mapping[str, Any], at: str) -> Item:
    action = json_values.mapping(fields.get("action"), f"{at}.action")
    item: Item = {
        "type": "shell_call",
        "status": "completed",
        "call_id": json_values.needed(fields, "call_id", at),
        "action": {
            "commands": json_values.texts(action.get("commands"), f"{at}.action.commands"),
            **{name: _count(action, name, f"{at}.action") for name in ("timeout_ms", "max_output_length")},
        },
    }
    environment = json_values.shallow(fields.get("environment"), f"{at}.environment")
    return {
        **item,
        "environment": None if environment is None else json_values.mapping(environment, f"{at}.environment"),
    }


def _shell_output(fields: Mapping[str, Any], at: str) -> Item:
    output_list = json_values.items(fields.get("output"), f"{at}.output", "a list of objects")
    outputs = []
    for number, output_item in enumerate(output_list):
        place = f"{at}.output[{number}]"
        output = json_values.mapping(output_item, place)
        outcome = json_values.mapping(output.get("outcome"), f"{place}.outcome", "an object with a 'type'")
        if outcome.get("type") not in ("exit", "timeout"):
            not_one_of(f"{place}.outcome.type", outcome.get("type"), ("exit", "timeout"))
        item: Item = {"type": outcome["type"]}
        if item["type"] == "exit":
            item["exit_code"] = json_values.integer(
                outcome.get("exit_code"), f"{place}.outcome.exit_code", -(2**31)
            )
        texts = {name: json_values.text(output.get(name), f"{place}.{name}") for name in ("stdout", "stderr")}
        outputs.append({**texts, "outcome": item})
    return {
        "type": "shell_call_output",
        "status": "completed",
        "call_id": json_values.needed(fields, "call_id", at),
        "output": outputs,
        "max_output_length": _count(fields, "max_output_length", at),
    }


def _local_call(fields: Mapping[str, Any], at: str) -> Item:
    action = json_values.mapping(fields.get("action"), f"{at}.action")
    json_values.shallow(action, f"{at}.action")
    json_values.texts(action.get("command"), f"{at}.action.command")
    return {
        "type": "local_shell_call",
        "status": "completed",
        "call_id": json_values.needed(fields, "call_id", at),
        "action": {"env": {}, **action, "type": "exec"},
    }


def _local_output(fields: Mapping[str, Any], at: str) -> Item:
    # OpenAI's types call this field 'id', and its guide 'call_id'.
    call_id = fields.get("call_id") or json_values.needed(fields, "id", at)
    output = json_values.text(fields.get("output"), f"{at}.output")
    return {
        "type": "local_shell_call_output",
        "status": "completed",
        "call_id": json_values.text(call_id, f"{at}.call_id"),
        "output": output,
    }


def _patch_call(fields: Mapping[str, Any], at: str) -> Item:
    place = f"{at}.operation"
    operation = json_values.mapping(fields.get("operation"), place, "an object with a 'type'")
    kind = operation.get("type")
    if kind not in OPERATIONS:
        not_one_of(f"{place}.type", kind, OPERATIONS)
    item: Item = {"type": kind, "path": json_values.needed(operation, "path", place)}
    if kind != "delete_file":
        item["diff"] = json_values.text(operation.get("diff"), f"{place}.diff")
    call_id = json_values.needed(fields, "call_id", at)
    return {"type": "apply_patch_call", "status": "completed", "call_id": call_id, "operation": item}


def _patch_output(fields: Mapping[str, Any], at: str) -> Item:
    status = fields.get("status")
    if status not in ("completed", "failed"):
        not_one_of(f"{at}.status", status, ("completed", "failed"))
    return {
        "type": "apply_patch_call_output",
        "status": status,
        "call_id": json_values.needed(fields, "call_id", at),
        "output": json_values.optional_text(fields, "output", at),
    }


def _count(fields: Mapping[str, Any], name: str, at: str) -> int | None:
    return None if fields.get(name) is None else json_values.integer(fields[name], f"{at}.{name}", 0)


def _objects(value: Any, at: str) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    object_list = json_values.items(json_values.shallow(value, at), at, "a list of objects")
    return [json_values.mapping(item, f"{at}[{number}]") for number, item in enumerate(object_list)]


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Item]] = {
    "message": _message,
    "agent_message": _agent_message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
    "tool_search_call": _tool_search_call,
    "tool_search_output": _tool_search_output,
    "reasoning": _reasoning,
    "item_reference": _reference,
    "file_search_call": _file_search,
    "code_interpreter_call": _code,
    "image_generation_call": _picture,
    "mcp_list_tools": _mcp_tools,
    "mcp_call": _mcp_call,
    "mcp_approval_request": _approval_request,
    "mcp_approval_response": _approval,
    "compaction": _compaction,
    "shell_call": _shell_call,
    "shell_call_output": _shell_output,
    "local_shell_call": _local_call,
    "local_shell_call_output": _local_output,
    "apply_patch_call": _patch_call,
    "apply_patch_call_output": _patch_output,
}

_PREFIXES: Mapping[str, Prefix] = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "tool_search_call": "tsc_",
    "tool_search_output": "tso_",
    "reasoning": "rs_",
    "file_search_call": "fs_",
    "code_interpreter_call": "ci_",
    "image_generation_call": "ig_",
    "mcp_list_tools": "mcpl_",
    "mcp_call": "mcp_",
    "mcp_approval_request": "mcpr_",
    "mcp_approval_response": "mcpa_",
    "compaction": "cmp_",
    "shell_call": "sh_",
    "shell_call_output": "sho_",
    "local_shell_call": "lsh_",
    "local_shell_call_output": "lsho_",
    "apply_patch_call": "apc_",
    "apply_patch_call_output": "apco_",
}
