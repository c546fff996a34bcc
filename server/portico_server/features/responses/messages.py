"""Conversion of items into the messages that a chat model reads. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from portico_server.core.errors import InvalidRequest
from portico_server.core.request import Message
from portico_server.features.responses.compaction import as_user_text, join_user_messages, window
from portico_server.features.responses.items import MODEL_OUTPUT, Item
from portico_server.features.responses.request import model_name

CALLS: Final = {
    "function_call": "function_call_output",
    "tool_search_call": "tool_search_output",
    "shell_call": "shell_call_output",
    "local_shell_call": "local_shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
}
"""Maps the calls that the client answers to the item types of the answers."""

TOOL_SEARCH: Final = "tool_search"
"""Name of the function that a model calls to search for tools."""

NOTHING_FOUND: Final = "No further tool fits. Try other words, or do without."

REFUSED: Final = "The user did not allow this call."

Media = Mapping[str, str]
"""Maps the ids of uploaded files to ``data:`` URLs."""


def check_pairs(items: Sequence[Item]) -> None:
    """Check that every output follows its call and every call has an output, because models reject conversations with
    unpaired items.
    """
    items = window(items)
    open_calls: dict[tuple[str, str], None] = {}
    answered_calls: set[tuple[str, str]] = set()
    for item in items:
        kind, call_id = item["type"], item.get("call_id")
        if kind in CALLS and call_id:
            open_calls[CALLS[kind], call_id] = None
        elif kind in CALLS.values() and call_id:
            if (kind, call_id) not in open_calls:
                raise InvalidRequest(
                    f"No tool call found for {_text_type(kind)} with call_id {call_id}. Send the call before "
                    "its output, or send 'previous_response_id' of the response that made the call.",
                    param="input",
                )
            answered_calls.add((kind, call_id))
    for kind, call_id in open_calls:
        if (kind, call_id) not in answered_calls:
            raise InvalidRequest(
                f"No tool output found for {_text_type(kind).removesuffix(' output')} {call_id}. "
                f"Send a '{kind}' for each call.",
                param="input",
            )


def _text_type(kind: str) -> str:
    return kind.replace("_", " ")


def messages_of(items: Sequence[Item], instructions: str = "", media: Media | None = None) -> list[Message]:
    """Convert items to chat messages. ``media`` maps the ids of files in the items to their contents.

    Of the items before a compaction item, only what the compaction keeps is included. The output of a call directly
    follows the call, wherever the output item is in the input. Reasoning and earlier searches are left out, because
    their results are in the answers.
    """
    items = window(items)
    writer = _Writer(items, media or {})
    if instructions:
        writer.messages.append({"role": "system", "content": instructions})
    for item in items:
        writer.add(item)
    writer.settle()
    is_compacted = any(item["type"] == "compaction" for item in items)
    return join_user_messages(writer.messages) if is_compacted else writer.messages


class _Writer:
    def __init__(self, items: Sequence[Item], media: Media) -> None:
        self.messages: list[Message] = []
        self._media = media
        self._open: list[str] = []
        self._outputs = {item["call_id"]: _output(item) for item in items if item["type"] in CALLS.values()}
        self._query = ""
        self._requests = {item["id"]: item for item in items if item["type"] == "mcp_approval_request"}

    def add(self, item: Item) -> None:
        match item["type"]:
            case "message":
                self.settle()
                self._say(item)
            case "function_call":
                name = model_name(item.get("namespace", ""), item["name"])
                self._call(item["call_id"], name, item["arguments"])
                self._open.append(item["call_id"])
            case "tool_search_call":
                self._query = orjson.dumps(item["arguments"]).decode()
                if item["call_id"]:
                    self._call(item["call_id"], TOOL_SEARCH, self._query)
                    self._open.append(item["call_id"])
            case "tool_search_output" if not item["call_id"]:
                self._add_call(item["id"], TOOL_SEARCH, self._query, loaded_text(item["tools"]))
            case "shell_call" | "local_shell_call" | "apply_patch_call":
                name, arguments = _client_call(item)
                self._call(item["call_id"], name, orjson.dumps(arguments).decode())
                self._open.append(item["call_id"])
            case kind if kind in CALLS.values():
                self.settle()  # a call after this output depends on it
            case "file_search_call" if MODEL_OUTPUT in item:
                query = orjson.dumps({"query": "; ".join(item["queries"])}).decode()
                self._add_call(item["id"], "file_search", query, item[MODEL_OUTPUT])
            case "code_interpreter_call":
                code = orjson.dumps({"code": item["code"] or ""}).decode()
                self._add_call(
                    item["id"], "code_interpreter", code, item.get(MODEL_OUTPUT) or code_text(item)
                )
            case "image_generation_call":
                prompt = orjson.dumps({"prompt": item.get("revised_prompt") or ""}).decode()
                drew = "The picture was drawn and shown." if item.get("result") else "No picture was drawn."
                self._add_call(item["id"], "image_generation", prompt, item.get(MODEL_OUTPUT) or drew)
            case "mcp_call":
                self._add_call(
                    item["id"], item["name"], item["arguments"], item.get(MODEL_OUTPUT) or mcp_text(item)
                )
            case "compaction":
                self.settle()
                self.messages.append({"role": "user", "content": as_user_text(item["encrypted_content"])})
            case "mcp_approval_response" if not item["approve"]:
                request = self._requests.get(item["approval_request_id"])
                if request is not None:
                    reason = f" {item['reason']}" if item.get("reason") else ""
                    self._add_call(request["id"], request["name"], request["arguments"], REFUSED + reason)

    def settle(self) -> None:
        """Add the outputs of the open calls."""
        for call_id in self._open:
            output = self._outputs.get(call_id, "")
            content = output if isinstance(output, str) else self._content(output)
            self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        self._open = []

    def _add_call(self, call_id: str, name: str, arguments: str, output: str) -> None:
        self.settle()
        self._call(call_id, name, arguments)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": output})

    def _call(self, call_id: str, name: str, arguments: str) -> None:
        call = {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments or "{}"},
        }
        last = self.messages[-1] if self.messages else {}
        if last.get("role") == "assistant" and (self._open or not last.get("tool_calls")):
            self.messages[-1] = {**last, "tool_calls": [*last.get("tool_calls", ()), call]}
        else:
            self.messages.append({"role": "assistant", "content": None, "tool_calls": [call]})

    def _say(self, item: Item) -> None:
        if item["role"] == "assistant":
            text = "".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
            self.messages.append({"role": "assistant", "content": text})
        else:
            self.messages.append({"role": item["role"], "content": self._content(item["content"])})

    def _content(self, parts: Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
        if all(part["type"] == "input_text" for part in parts):
            return "\n".join(part["text"] for part in parts)
        return [self._part(part) for part in parts]

    def _part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        match part["type"]:
            case "input_image":
                url = part["image_url"] or self._media.get(part["file_id"], "")
                image = {"url": url}
                if part["detail"] in ("low", "high"):
                    image["detail"] = part["detail"]
                return {"type": "image_url", "image_url": image}
            case "input_file":
                data = part.get("file_data") or self._media.get(part.get("file_id", ""))
                if data is None:
                    return {"type": "file", "file": {"file_id": part["file_id"]}}
                return {
                    "type": "file",
                    "file": {"filename": part.get("filename") or "file", "file_data": data},
                }
            case _:
                return {"type": "text", "text": part["text"]}


def loaded_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the text that tells the model which tools a search returned. The model can call these tools from now
    on.
    """
    names = [model_name(namespace, name) for namespace, name, _label in list_loaded_tools(tools)]
    return f"These tools can be called now: {', '.join(names)}" if names else NOTHING_FOUND


def list_loaded_tools(tools: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yield (namespace, name, label of the MCP server) of each tool that a search returned."""
    for tool in tools:
        match tool.get("type"):
            case "function":
                yield "", str(tool.get("name", "")), ""
            case "namespace":
                for inner in tool.get("tools") or ():
                    yield str(tool.get("name", "")), str(inner.get("name", "")), ""
            case "mcp":
                for name in tool.get("allowed_tools") or ():
                    yield "", str(name), str(tool.get("server_label", ""))


def _client_call(item: Item) -> tuple[str, dict[str, Any]]:
    """Return the function name and arguments that represent a shell or patch call to a model."""
    if item["type"] == "apply_patch_call":
        return "apply_patch", item["operation"]
    action = {name: value for name, value in item["action"].items() if value is not None and name != "type"}
    return item["type"].removesuffix("_call"), action


def _output(item: Item) -> Any:
    """Return the output of a call in the form that the model receives."""
    if MODEL_OUTPUT in item:
        return item[MODEL_OUTPUT]
    if item["type"] == "tool_search_output":
        return loaded_text(item["tools"])
    if item["type"] == "apply_patch_call_output":
        return item["output"] or (
            "Done." if item["status"] == "completed" else "The patch could not be applied."
        )
    if item["type"] != "shell_call_output":
        return item["output"]
    texts = []
    for output_part in item["output"]:
        outcome = output_part["outcome"]
        end = (
            "took too long and was stopped"
            if outcome["type"] == "timeout"
            else f"exit status {outcome['exit_code']}"
        )
        texts += [output_part["stdout"].rstrip("\n"), output_part["stderr"].rstrip("\n"), f"[{end}]"]
    return "\n".join(filter(None, texts))


def code_text(item: Item) -> str:
    """Return the output of code in the form that the model receives."""
    logs = [output["logs"] for output in item.get("outputs") or () if output.get("type") == "logs"]
    return "\n".join(logs) or "Done. Nothing was printed."


def mcp_text(item: Item) -> str:
    """Return the output of a tool, or the reason why it failed."""
    error = item.get("error")
    if not error:
        return str(item.get("output") or "")
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("content")
    message = error if isinstance(error, str) else orjson.dumps(error).decode()
    return f"The call failed: {message}"
