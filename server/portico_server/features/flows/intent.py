"""Classifies the intent of a text: with a model whose output is constrained, or with embeddings and without a chat
model.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply, Embed, Message, Vectors
from portico_server.features.flows import spec


async def choose_intent(
    context: Context, op: spec.IntentStep, text: str, history: Sequence[Message]
) -> tuple[str, Usage]:
    """Return the name of the intent, and the usage of the classification."""
    if op.embedding:
        return await _by_likeness(context, op, text)
    return await _by_model(context, op, text, history)


async def _by_model(
    context: Context, op: spec.IntentStep, text: str, history: Sequence[Message]
) -> tuple[str, Usage]:
    names = list(op.intents)
    lines = [
        f"- {name}: {what['description']}" if what["description"] else f"- {name}"
        for name, what in op.intents.items()
    ]
    messages: list[Message] = [
        {"role": "system", "content": builtin.system("route-intent", intents="\n".join(lines))}
    ]
    for name, intent in op.intents.items():
        for example in intent["examples"]:
            messages.append({"role": "user", "content": example})
            messages.append({"role": "assistant", "content": orjson.dumps({"intent": name}).decode()})
    messages += [*history, {"role": "user", "content": text}]
    schema = {
        "type": "object",
        "properties": {"intent": {"enum": names}},
        "required": ["intent"],
        "additionalProperties": False,
    }
    options = {
        "temperature": 0,
        "max_tokens": 64,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "intent", "schema": schema, "strict": True},
        },
    }
    reply = await context.call(op.model, Chat(tuple(messages), options))
    assert isinstance(reply, ChatReply)
    return _read_intent(op, reply.content), reply.usage


def _read_intent(op: spec.IntentStep, content: str) -> str:
    """Return the intent in a model's answer: from JSON, or as a plain name if the engine does not constrain answers."""
    try:
        payload: Any = orjson.loads(content)
        name = payload.get("intent") if isinstance(payload, dict) else payload
    except orjson.JSONDecodeError:
        # Longest names first, because one name may be part of another.
        name = next(
            (intent for intent in sorted(op.intents, key=len, reverse=True) if intent in content), None
        )
    if isinstance(name, str) and name in op.intents:
        return name
    if op.default:
        return op.default
    raise InvalidRequest(
        f"The model named none of the intents {', '.join(op.intents)}: {content[:80]!r}. Add a 'default' to "
        "the step.",
        code="format_failed",
    )


async def _by_likeness(context: Context, op: spec.IntentStep, text: str) -> tuple[str, Usage]:
    """Return the intent whose description or example is most similar to the text."""
    owners: list[str] = []
    texts: list[str] = [text]
    for name, intent in op.intents.items():
        for sample in (*intent["examples"], intent["description"] or name):
            owners.append(name)
            texts.append(sample)
    vectors = await context.call(op.embedding, Embed(tuple(texts)))
    if not isinstance(vectors, Vectors):
        raise InvalidRequest(f"'{op.embedding}' is not an embedding model.", param="embedding")
    target, *arrays = [array("f", data) for data in vectors.data]
    scores = [_cosine(target, vector) for vector in arrays]
    best = max(range(len(scores)), key=scores.__getitem__)
    return owners[best], vectors.usage


def _cosine(vector: Sequence[float], other_vector: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(vector, other_vector, strict=True))
    norm = math.sqrt(sum(a * a for a in vector)) * math.sqrt(sum(b * b for b in other_vector))
    return dot / norm if norm else 0.0
