"""Tasks, artifacts and updates in their wire format. Pure."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from portico_server.db.agent_tasks import timestamp
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.tasks import TaskView


def task_document(
    view: TaskView, base: str, *, history: int | None = None, artifacts: bool = True
) -> dict[str, Any]:
    """Return a task as a document. ``history`` limits the number of messages; ``base`` is the daemon's address for
    links to files.
    """
    document = orjson.loads(view.response.document)
    task: dict[str, Any] = {
        "id": view.row.id,
        "contextId": view.row.context_id,
        "status": _status(view, document),
        "metadata": {"run": view.row.run_id, "model": view.row.app},
    }
    if document.get("usage"):
        task["metadata"]["usage"] = document["usage"]
    if artifacts:
        items = document["output"] if view.ended else ()
        task["artifacts"] = [artifact for item in items if (artifact := _artifact(item, base))]
    if history != 0:
        task["history"] = orjson.loads(view.row.messages)[-history if history else None :]
    return task


def _status(view: TaskView, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's state with its question or the reason why it ended. ``document`` is the task's response."""
    status: dict[str, Any] = {
        "state": f"TASK_STATE_{view.state.upper()}",
        "timestamp": timestamp(view.changed_at),
    }
    parts: list[dict[str, Any]] = []
    if view.state == "input_required" and view.question is not None:
        question = view.question
        asked_question = {
            "question": question.id,
            "kind": question.kind,
            "name": question.name,
            "arguments": question.arguments,
            "answerSchema": question.answer_schema,
            "expiresAt": timestamp(question.expires_at),
        }
        waits = "approved" if question.kind == "approval" else "answered"
        text = question.message or f"'{question.name}' is waiting to be {waits}."
        parts = [{"text": text}, {"data": asked_question}]
    elif view.state == "failed":
        error = document.get("error") or {}
        parts = [{"text": str(error.get("message") or "The task failed.")}]
    elif view.response.status == "incomplete":
        reason = (document.get("incomplete_details") or {}).get("reason")
        parts = [{"text": f"The answer was cut off ({reason})."}]
    if parts:
        status["message"] = {
            "messageId": f"{view.row.id}-{view.state}",
            "contextId": view.row.context_id,
            "taskId": view.row.id,
            "role": "ROLE_AGENT",
            "parts": parts,
        }
    return status


def _artifact(item: Mapping[str, Any], base: str) -> dict[str, Any] | None:
    """Return an item of a response as an artifact, or ``None`` for an intermediate item."""
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
    """Return the files of an answer as links."""
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
    """Return the passages that support an answer, as metadata."""
    file_citations = [note for note in _notes(item) if note["type"] == "file_citation"]
    return {"metadata": {"citations": file_citations}} if file_citations else {}


def _notes(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in item.get("content") or ():
        yield from part.get("annotations") or ()


def status_update(view: TaskView) -> dict[str, Any]:
    """Return the stream event that reports the state of a task."""
    document = orjson.loads(view.response.document)
    status = _status(view, document)
    update = {"taskId": view.row.id, "contextId": view.row.context_id, "status": status}
    usage = document.get("usage") if view.ended else None
    return {"statusUpdate": {**update, "metadata": {"usage": usage}} if usage else update}


def artifact_updates(
    events: Sequence[Event], view: TaskView, seen_ids: set[str], base: str
) -> list[dict[str, Any]]:
    """Return the events of a response as updates of a task's artifacts. Consecutive pieces of text become one update.

    ``seen_ids`` are the ids of items already sent in part; new ids are added.
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
            updates.append(_update(view, artifact, append=item_id in seen_ids, last=False))
            seen_ids.add(item_id)
        elif kind == "response.output_item.done":
            item = event["item"]
            whole = _artifact(item, base)
            if whole is None:
                continue
            is_known = item["id"] in seen_ids
            if is_known:  # the item's text was already sent
                whole["parts"] = whole["parts"][1:] or [{"text": ""}]
            updates.append(_update(view, whole, append=is_known, last=True))
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
