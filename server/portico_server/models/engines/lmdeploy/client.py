"""Speaks to LMDeploy's server: what it is asked, token spellings, stop texts, each choice a stream. Imports aiohttp."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.relay import Relay
from portico_server.models.answers import close_chunks
from portico_server.models.engines.openai_client.client import (
    ChoiceStreamClient,
    ServerFacts,
    requires_tool_call,
)
from portico_server.models.engines.openai_client.requests import (
    PreparedRequest,
    prepare_chat,
    prepare_completion,
)
from portico_server.models.protocol import ModelDescription
from portico_server.models.server_process import ServerProcess
from portico_server.models.transport import CONNECTION_ERRORS, EngineRoute, EngineTransport, read_all

# What LMDeploy is asked: one body per choice, and nothing that it would leave out without a word. Pure.


_ITS_OWN = frozenset({"session_id", "migration_request", "with_cache", "preserve_cache"})
"""Fields with which LMDeploy's servers speak to each other."""


def requests_for(request: Relay, name: str, *, template_has_tools: bool, biases: bool) -> PreparedRequest:
    """The bodies for a chat or a completion. ``biases``: its backend changes the odds of single tokens.

    Raises `InvalidRequest` for what LMDeploy cannot do.
    """
    body = {key: value for key, value in request.body.items() if key not in _ITS_OWN}
    _refuse(body, name, biases=biases)
    if request.operation == "completions":
        return _completion(body, name)
    native = template_has_tools and not requires_tool_call(body)
    if native:
        prepared = prepare_chat({**body, "messages": []}, template_has_tools=True)
        if prepared.tools is None:  # what the messages hold is for the model's own template
            return _thoughtless(_with(prepared, messages=body.get("messages") or []))
    prepared = prepare_chat(body, template_has_tools=native, sees=True)
    # A model that is held to a call writes JSON, which is not what a stop is meant for.
    return _thoughtless(prepared if prepared.tools is None else _with(prepared, stop=None))


def _refuse(body: Mapping[str, Any], name: str, *, biases: bool) -> None:
    for key in ("presence_penalty", "frequency_penalty"):
        if body.get(key):
            raise _cannot(
                f"LMDeploy, which serves '{name}', has no '{key}'; it has 'repetition_penalty'.", key
            )
    if body.get("logit_bias") and not biases:
        raise _cannot(
            f"LMDeploy's backend turbomind has no 'logit_bias': give '{name}' the parameter 'backend: pytorch'.",
            "logit_bias",
        )


def _completion(body: dict[str, Any], name: str) -> PreparedRequest:
    if body.get("logprobs") is not None:
        raise _cannot(
            f"LMDeploy, which serves '{name}', returns log-probabilities of chats alone: leave 'logprobs' out.",
            "logprobs",
        )
    prompt = body.get("prompt")
    if isinstance(prompt, list) and not all(isinstance(text, str) for text in prompt):
        raise _cannot(f"LMDeploy, which serves '{name}', takes texts as 'prompt', no token ids.", "prompt")
    return prepare_completion(body)


def _thoughtless(prepared: PreparedRequest) -> PreparedRequest:
    """Without thoughts where a schema is kept to: it is from the first token on, and of a model that usually thinks
    first LMDeploy would read the whole answer as thoughts.
    """
    given = prepared.bodies[0].get("chat_template_kwargs") or {}
    if "response_format" not in prepared.bodies[0] or "enable_thinking" in given:
        return prepared
    return _with(prepared, chat_template_kwargs={**given, "enable_thinking": False})


def _with(prepared: PreparedRequest, **fields: Any) -> PreparedRequest:
    """The same with these fields in every body; those that are ``None`` are left out."""
    bodies = ({**body, **fields} for body in prepared.bodies)
    return replace(
        prepared,
        bodies=tuple({key: value for key, value in body.items() if value is not None} for body in bodies),
    )


def _cannot(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, code="unsupported_parameter", param=param)


# How tokens are spelled: LMDeploy returns them as the vocabulary writes them, with marks for spaces and bytes.


_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenSpelling:
    """``byte_level``: each character of a token stands for a byte (GPT-2's way); otherwise ``▁`` is a space."""

    def __init__(self, *, byte_level: bool) -> None:
        self._byte_level = byte_level

    @classmethod
    def of(cls, folder: Path) -> TokenSpelling:
        """Of the tokenizer in a model's folder. Blocks."""
        try:
            decoder = orjson.loads((folder / "tokenizer.json").read_bytes()).get("decoder")
        except (OSError, orjson.JSONDecodeError, AttributeError):
            decoder = None
        return cls(byte_level=_mentions(decoder, "ByteLevel"))

    def bytes_of(self, token: str) -> bytes:
        """What the token adds to the text."""
        if self._byte_level:
            table = _table()
            if all(character in table for character in token):
                return bytes(table[character] for character in token)
            return token.encode()
        if found := _BYTE.fullmatch(token):
            return bytes([int(found[1], 16)])
        return token.replace("▁", " ").encode()

    def entry(self, one: Mapping[str, Any]) -> dict[str, Any]:
        """A token with its log-probability in OpenAI's form."""
        data = self.bytes_of(str(one["token"]))
        return {"token": data.decode("utf-8", "replace"), "logprob": one["logprob"], "bytes": list(data)}

    def logprobs(self, found: Mapping[str, Any], wanted: int) -> dict[str, Any]:
        """``logprobs`` of a choice; LMDeploy leaves the chosen token out of its alternatives, of which ``wanted`` were
        asked for.
        """
        content = []
        for one in found.get("content") or ():
            chosen = self.entry(one)
            others = [self.entry(other) for other in one.get("top_logprobs") or ()]
            if len(others) < wanted:
                others.append(chosen)
            others.sort(key=lambda other: -other["logprob"])
            content.append({**chosen, "top_logprobs": others})
        return {"content": content}


def _mentions(decoder: Any, kind: str) -> bool:
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") == kind or any(_mentions(one, kind) for one in decoder.get("decoders") or ())


@cache
def _table() -> Mapping[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others are moved up."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {
        **{chr(byte): byte for byte in kept},
        **{chr(256 + place): byte for place, byte in enumerate(moved)},
    }


# Texts that end an answer, looked for in what comes: LMDeploy (0.18) knows only stops that are one token, and takes
# any token for one that has the text somewhere in it. Pure.


class StopTexts:
    """Passes text on up to the first of ``texts``; what may be the beginning of one is held back."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text]
        self._held = ""
        self.hit = False

    @property
    def holds(self) -> bool:
        """Whether text is held back."""
        return bool(self._held)

    def feed(self, text: str) -> str:
        """What may be shown now."""
        if self.hit:
            return ""
        seen = self._held + text
        ends = [place for stop in self._texts if (place := seen.find(stop)) >= 0]
        if ends:
            self.hit, self._held = True, ""
            return seen[: min(ends)]
        keep = max((_overlap(seen, stop) for stop in self._texts), default=0)
        self._held = seen[len(seen) - keep :]
        return seen[: len(seen) - keep]

    def rest(self) -> str:
        """What was held back, once no more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How much of the end of ``text`` is a beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


_SESSIONS = itertools.count(1 << 40)
"""Numbers for calls that may be ended from here; far from those that LMDeploy gives."""


class LmDeployClient(ChoiceStreamClient):
    """A `EngineClient` for one LMDeploy server. ``biases``: see `asked`."""

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        description: ModelDescription,
        *,
        template_has_tools: bool,
        biases: bool,
        spelling: TokenSpelling,
    ) -> None:
        facts = ServerFacts(description.context_length, template_has_tools, fingerprint=None, sees=True)
        super().__init__(transport, child, name, facts, description)
        self._biases = biases
        self._spelling = spelling
        self._abort = EngineRoute(child.endpoint(name, base=""), "abort_request")

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Begin a streamed call: its frames. Raises `PorticoError`, also for an error that is the first of them."""
        given = body.get("stop") or []
        stops = StopTexts([given] if isinstance(given, str) else [str(text) for text in given])
        body = {key: value for key, value in body.items() if key != "stop"}
        if given:
            body["session_id"] = next(_SESSIONS)
        frames = await super().open(operation, body, deadline)
        try:
            first = await anext(frames, b"")
            for document in _documents(first):
                if document.get("error"):
                    raise self.failure(document)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        except BaseException:
            await close_chunks(frames)
            raise
        reads = given or body.get("logprobs")
        whole = _chained(first, frames)
        return self._read(whole, body, stops, deadline) if reads else whole

    def _prepare(self, request: Relay) -> PreparedRequest:
        return requests_for(
            request, self._name, template_has_tools=self._facts.template_has_tools, biases=self._biases
        )

    async def _read(
        self, frames: AsyncIterator[bytes], body: Mapping[str, Any], stops: StopTexts, deadline: float | None
    ) -> AsyncIterator[bytes]:
        """The frames up to the first stop, with log-probabilities in OpenAI's form, and the usage."""
        held: list[Any] = []  # log-probabilities of text that is held back
        try:
            async for data in frames:
                for document in _documents(data):
                    ended = stops.hit
                    for choice in document.get("choices") or ():
                        self._cut(choice, stops, held, int(body.get("top_logprobs") or 1))
                    if not ended or not document.get("choices"):
                        yield b"data: " + orjson.dumps(document) + b"\n\n"
                    if stops.hit and not ended and not await self._end(body["session_id"], deadline):
                        return
        finally:
            await close_chunks(frames)

    def _cut(self, choice: dict[str, Any], stops: StopTexts, held: list[Any], wanted: int) -> None:
        holder, key = (choice, "text") if "text" in choice else (choice.setdefault("delta", {}), "content")
        shown = stops.feed(holder.get(key) or "")
        finish = choice.get("finish_reason")
        if finish and not stops.hit:
            shown += stops.rest()
        if stops.hit:
            choice["finish_reason"] = "stop"
        if shown or holder.get(key):
            holder[key] = shown
        if (logprobs := choice.get("logprobs")) is not None:
            held += self._spelling.logprobs(logprobs, wanted)["content"]
        choice["logprobs"] = None
        if held and not stops.hit and (shown or not stops.holds):
            choice["logprobs"] = {"content": list(held)}
            held.clear()

    async def _end(self, session: int, deadline: float | None) -> bool:
        """Have LMDeploy end a call, so that it reports what it counted; whether it does."""
        body = orjson.dumps({"session_id": session})
        with contextlib.suppress(PorticoError, *CONNECTION_ERRORS):
            response = await self._transport.post(self._abort, body, deadline=deadline, reuse=False)
            await read_all(response, deadline=deadline)
            return response.status in (200, 400)  # 400: it has ended by itself
        return False


async def _chained(first: bytes, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        if first:
            yield first
        async for data in frames:
            yield data
    finally:
        await close_chunks(frames)


def _documents(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects in some frames."""
    texts = (line.partition(b":")[2].strip() for line in data.split(b"\n") if line.startswith(b"data:"))
    found = [orjson.loads(text) for text in texts if text != b"[DONE]"]
    return [document for document in found if isinstance(document, dict)]
