"""What goes over the wire: agent cards, tasks, artifacts and updates, and messages as parts of a request. Pure."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson

from portico_server import __version__
from portico_server.apps.responses.open_items import Event
from portico_server.apps.responses.tasks import TaskAnswer, TaskView
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.servable import Card
from portico_server.db.agent_tasks import timestamp

VERSION: Final = "1.0"
"""The version of the protocol."""

CARD_PATH: Final = "/.well-known/agent-card.json"

MAX_PARTS: Final = 100
"""Parts of one message."""

MAX_BESIDE_BYTES: Final = 16 * 1024
"""Bytes, as JSON, of what a message has beside the contents of its parts, such as metadata: its task keeps it."""

_CONTENTS: Final = ("text", "raw", "url", "data")
_TEXTS: Final = ("text/", "application/json", "application/xml", "application/yaml")
_ROLE: Final = "ROLE_USER"
_OUTPUTS: Final = ("text/plain", "application/octet-stream", "image/png")


# --- cards --------------------------------------------------------------------------------------------------------


def agent_card(card: Card, name: str, base: str, others: Sequence[Card], *, keyed: bool) -> dict[str, Any]:
    """The card of what answers under ``name``. ``others`` are agents that it names as skills; ``keyed``: whether a key
    is needed.
    """
    url = f"{base}/a2a/{quote(name)}"
    found: dict[str, Any] = {
        "name": card.title or card.name,
        "description": _about(card),
        "supportedInterfaces": [
            {"url": url, "protocolBinding": binding, "protocolVersion": VERSION}
            for binding in ("JSONRPC", "HTTP+JSON")
        ],
        "provider": {"organization": "Portico", "url": base},
        "version": __version__,
        "documentationUrl": f"{base}/docs",
        "capabilities": {"streaming": True, "pushNotifications": True, "extendedAgentCard": False},
        "securitySchemes": {
            "key": {
                "httpAuthSecurityScheme": {
                    "scheme": "Bearer",
                    "description": "A key of this daemon, 'pk-…', which its operator makes.",
                }
            }
        },
        "defaultInputModes": ["text/plain", "application/json", "image/png", "image/jpeg"],
        "defaultOutputModes": list(_OUTPUTS),
        "skills": [_skill(card, ""), *(_skill(one, f"{base}/a2a/{quote(one.name)}") for one in others)],
    }
    if keyed:
        found["securityRequirements"] = [{"schemes": {"key": {"list": []}}}]
    return found


def _about(card: Card) -> str:
    return card.description or f"Answers messages as the {card.kind} '{card.name}'."


def _skill(card: Card, url: str) -> dict[str, Any]:
    """What an agent can do; ``url`` is its own address, if this card is another one's."""
    elsewhere = f" It is an agent of its own at {url}." if url else ""
    return {
        "id": card.name,
        "name": card.title or card.name,
        "description": f"{_about(card)}{elsewhere}",
        "tags": [card.kind],
    }


# --- messages that come in ----------------------------------------------------------------------------------------


def check_message(message: Any, at: str = "message") -> None:
    """Raise `InvalidRequest` unless it is a message of a client."""
    if not isinstance(message, Mapping):
        wrong_type(at, "an object", message)
    for name in ("messageId", "role", "parts"):
        if message.get(name) in (None, "", []):
            missing(f"{at}.{name}")
    for name in ("messageId", "contextId", "taskId"):
        value = message.get(name)
        if value is not None and not isinstance(value, str):
            wrong_type(f"{at}.{name}", "a string", value)
        if value is not None and len(value) > 256:
            wrong(f"{at}.{name}", "is longer than 256 characters")
    if message["role"] != _ROLE:
        not_one_of(f"{at}.role", message["role"], (_ROLE,))
    parts = message["parts"]
    if not isinstance(parts, list):
        wrong_type(f"{at}.parts", "a list of parts", parts)
    if len(parts) > MAX_PARTS:
        wrong(f"{at}.parts", f"has {len(parts)} parts; at most {MAX_PARTS} are taken")
    for number, part in enumerate(parts):
        _check_part(part, f"{at}.parts[{number}]")
    beside = [{name: part[name] for name in part if name not in _CONTENTS} for part in parts]
    size = len(orjson.dumps({**message, "parts": beside}))
    if size > MAX_BESIDE_BYTES:
        wrong(
            at, f"has {size:,} bytes beside the contents of its parts; at most {MAX_BESIDE_BYTES:,} are taken"
        )


def _check_part(part: Any, at: str) -> None:
    if not isinstance(part, Mapping):
        wrong_type(at, "an object", part)
    given = [name for name in _CONTENTS if name in part]
    if len(given) != 1:
        wrong(at, f"must have one of {', '.join(_CONTENTS)}")
    for name in (*_CONTENTS[:3], "filename", "mediaType"):
        if (part.get(name) is not None or name == given[0]) and not isinstance(part[name], str):
            wrong_type(f"{at}.{name}", "a string", part[name])


def content_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message as the content of a response's input. Raises `InvalidRequest`."""
    return [_content(part, f"message.parts[{number}]") for number, part in enumerate(message["parts"])]


def _content(part: Mapping[str, Any], at: str) -> dict[str, Any]:
    if "text" in part:
        return {"type": "input_text", "text": part["text"]}
    if "data" in part:
        return {"type": "input_text", "text": orjson.dumps(part["data"]).decode()}
    name = part.get("filename") or ""
    kind = part.get("mediaType") or mimetypes.guess_type(name or part.get("url", ""))[0] or ""
    if "url" in part:
        if not kind.startswith("image/"):
            wrong(at, "is a link to a file, which is not fetched; send its bytes as 'raw'", code=_NOT_TAKEN)
        return {"type": "input_image", "image_url": part["url"]}
    try:
        data = base64.b64decode(part["raw"], validate=True)
    except (binascii.Error, ValueError):
        wrong(f"{at}.raw", "is not base64")
    if kind.startswith("image/"):
        return {"type": "input_image", "image_url": f"data:{kind};base64,{part['raw']}"}
    if kind.startswith(_TEXTS) or not kind:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            wrong(at, "has bytes without a 'mediaType', and they are not text", code=_NOT_TAKEN)
        return {"type": "input_text", "text": f"{name}:\n{text}" if name else text}
    return {
        "type": "input_file",
        "filename": name or "file",
        "file_data": f"data:{kind};base64,{part['raw']}",
    }


_NOT_TAKEN: Final = "content_type_not_supported"


def answer_of(message: Mapping[str, Any]) -> TaskAnswer:
    """A message as the answer to what a task asks."""
    data = next((part["data"] for part in message["parts"] if "data" in part), None)
    return TaskAnswer("\n".join(part["text"] for part in message["parts"] if "text" in part), data)


# --- tasks that go out --------------------------------------------------------------------------------------------


def task_document(
    view: TaskView, base: str, *, history: int | None = None, artifacts: bool = True
) -> dict[str, Any]:
    """A task. ``history``: at most so many messages; ``base``: where files are fetched from."""
    document = orjson.loads(view.response.document)
    found: dict[str, Any] = {
        "id": view.row.id,
        "contextId": view.row.context_id,
        "status": _status(view, document),
        "metadata": {"run": view.row.run_id, "model": view.row.app},
    }
    if document.get("usage"):
        found["metadata"]["usage"] = document["usage"]
    if artifacts:
        items = document["output"] if view.ended else ()
        found["artifacts"] = [made for item in items if (made := _artifact(item, base))]
    if history != 0:
        found["history"] = orjson.loads(view.row.messages)[-history if history else None :]
    return found


def _status(view: TaskView, document: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a task, whose response is ``document``, and what it asks or why it ended."""
    found: dict[str, Any] = {
        "state": f"TASK_STATE_{view.state.upper()}",
        "timestamp": timestamp(view.changed_at),
    }
    parts: list[dict[str, Any]] = []
    if view.state == "input_required" and view.question is not None:
        question = view.question
        asked = {
            "question": question.id,
            "kind": question.kind,
            "name": question.name,
            "arguments": question.arguments,
            "answerSchema": question.answer_schema,
            "expiresAt": timestamp(question.expires_at),
        }
        waits = "approved" if question.kind == "approval" else "answered"
        text = question.message or f"'{question.name}' waits to be {waits}."
        parts = [{"text": text}, {"data": asked}]
    elif view.state == "failed":
        error = document.get("error") or {}
        parts = [{"text": str(error.get("message") or "The task failed.")}]
    elif view.response.status == "incomplete":
        reason = (document.get("incomplete_details") or {}).get("reason")
        parts = [{"text": f"The answer was cut off ({reason})."}]
    if parts:
        found["message"] = {
            "messageId": f"{view.row.id}-{view.state}",
            "contextId": view.row.context_id,
            "taskId": view.row.id,
            "role": "ROLE_AGENT",
            "parts": parts,
        }
    return found


def _artifact(item: Mapping[str, Any], base: str) -> dict[str, Any] | None:
    """An item of a response as an artifact; ``None`` for what is only of its making."""
    if item["type"] == "image_generation_call" and item.get("result"):
        kind = f"image/{item.get('output_format') or 'png'}"
        part = {"raw": item["result"], "mediaType": kind, "filename": f"picture.{kind.partition('/')[2]}"}
        return {"artifactId": item["id"], "name": "picture", "parts": [part]}
    if item["type"] != "message":
        return None
    text = "".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
    parts = [{"text": text, "mediaType": "text/plain"}, *_files(item, base)]
    return {"artifactId": item["id"], "name": "answer", "parts": parts, **_citations(item)}


def _files(item: Mapping[str, Any], base: str) -> list[dict[str, Any]]:
    """The files that an answer came with, as links."""
    return [
        {
            "url": f"{base}/v1/files/{note['file_id']}/content",
            "filename": note["filename"],
            "mediaType": mimetypes.guess_type(note["filename"])[0] or "application/octet-stream",
        }
        for note in _notes(item)
        if note["type"] == "container_file_citation"
    ]


def _citations(item: Mapping[str, Any]) -> dict[str, Any]:
    """Which passages an answer stands on, as metadata."""
    cited = [note for note in _notes(item) if note["type"] == "file_citation"]
    return {"metadata": {"citations": cited}} if cited else {}


def _notes(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in item.get("content") or ():
        yield from part.get("annotations") or ()


def status_update(view: TaskView) -> dict[str, Any]:
    """The event of a stream that says what state a task is in."""
    document = orjson.loads(view.response.document)
    status = _status(view, document)
    update = {"taskId": view.row.id, "contextId": view.row.context_id, "status": status}
    usage = document.get("usage") if view.ended else None
    return {"statusUpdate": {**update, "metadata": {"usage": usage}} if usage else update}


def artifact_updates(
    events: Sequence[Event], view: TaskView, seen: set[str], base: str
) -> list[dict[str, Any]]:
    """Events of a response as updates of a task's artifacts: words that came together are one. ``seen``: the items of
    which something was sent.
    """
    updates: list[dict[str, Any]] = []
    for event in events:
        kind = event["type"]
        if kind in ("response.output_text.delta", "response.refusal.delta") and event["delta"]:
            item_id = event["item_id"]
            last = updates[-1]["artifactUpdate"] if updates else None
            if last is not None and last["artifact"]["artifactId"] == item_id and not last["lastChunk"]:
                last["artifact"]["parts"][0]["text"] += event["delta"]
                continue
            part = {"text": event["delta"], "mediaType": "text/plain"}
            artifact = {"artifactId": item_id, "name": "answer", "parts": [part]}
            updates.append(_update(view, artifact, append=item_id in seen, last=False))
            seen.add(item_id)
        elif kind == "response.output_item.done":
            item = event["item"]
            whole = _artifact(item, base)
            if whole is None:
                continue
            known = item["id"] in seen
            if known:  # its text is there already
                whole["parts"] = whole["parts"][1:] or [{"text": ""}]
            updates.append(_update(view, whole, append=known, last=True))
    return updates


def _update(view: TaskView, artifact: dict[str, Any], *, append: bool, last: bool) -> dict[str, Any]:
    update = {
        "taskId": view.row.id,
        "contextId": view.row.context_id,
        "artifact": artifact,
        "append": append,
        "lastChunk": last,
    }
    return {"artifactUpdate": update}
