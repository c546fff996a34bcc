"""A client for servers like llama.cpp's. It requests each choice as a stream, and combines the streams into one OpenAI
answer. Imports aiohttp.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.fields import LOGIT_BIAS
from portico_server.core.relay import Relay, RelayResponse, single_chunk
from portico_server.models.embedding_wire import (
    dimensions_of,
    document,
    encoding_of,
    shorten,
    texts_of,
    vector_of,
)
from portico_server.models.engines.openai_client.choice_chunks import (
    ChoicePiece,
    ChoiceReader,
    ResponseEnvelope,
)
from portico_server.models.engines.openai_client.choices import ChoiceCall, ChoiceCalls
from portico_server.models.engines.openai_client.requests import (
    CALL_SCHEMA,
    PreparedRequest,
    check_alternatives,
    prepare_chat,
    prepare_completion,
)
from portico_server.models.openai_wire import error_from_json, error_of, frame
from portico_server.models.protocol import EngineClient, ModelDescription
from portico_server.models.server_process import ServerProcess
from portico_server.models.token_usage import usage_from_json
from portico_server.models.transport import (
    CONNECTION_ERRORS,
    EngineRoute,
    EngineTransport,
    deadline_exceeded,
    read_all,
    read_frames,
)

DONE = b"data: [DONE]\n\n"

MAX_SCHEMA_ALTERNATIVES = 500
"""Maximum number of alternatives in a schema for llama.cpp.

Between two steps of all calls, llama.cpp tries each alternative on each token of the vocabulary, which takes 5 to 20
ms per alternative on two cores. A schema with 2,000 alternatives stopped all other answers for more than 25 s.
"""

MAX_REASON_CHARS = 300
"""Maximum number of characters of a server's error message that are passed on."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Facts that the running server reports about itself.

    ``context_length`` is the context of one slot. ``sees`` means that the model accepts images. ``max_alternatives``
    is the maximum number of alternatives in a schema with which the server's grammar does not delay other calls.
    ``makes_grammars`` means that the server is llama.cpp's, which enforces a part of JSON Schema. ``vocabulary`` is the
    number of tokens that the model knows.
    """

    context_length: int | None
    template_has_tools: bool
    fingerprint: str | None
    sees: bool = False
    max_alternatives: int | None = None
    makes_grammars: bool = False
    vocabulary: int | None = None

    @classmethod
    def read(
        cls, props: Mapping[str, Any], vocabulary: int | None = None, *, makes_grammars: bool = False
    ) -> ServerFacts:
        """Read the facts from the response to llama.cpp's ``/props``, or to another server's in the same format."""
        settings = props.get("default_generation_settings") or {}
        caps = props.get("chat_template_caps") or {}
        return cls(
            settings.get("n_ctx"),
            bool(caps.get("supports_tools")),
            props.get("build_info"),
            bool((props.get("modalities") or {}).get("vision")),
            MAX_SCHEMA_ALTERNATIVES,
            makes_grammars,
            vocabulary,
        )

    def check_tokens(self, name: str, tokens: Iterable[int], param: str) -> None:
        """Raise `InvalidRequest` for ``param`` if a token is not in the vocabulary of the model ``name``."""
        if self.vocabulary is None:
            return
        unknown = next((token for token in tokens if not 0 <= token < self.vocabulary), None)
        if unknown is not None:
            raise InvalidRequest(
                f"Token {unknown} is not in the vocabulary of '{name}', which has {self.vocabulary:,} tokens. "
                "Send token ids of this model; POST /tokenize returns them.",
                code="invalid_token",
                param=param,
            )


def _echoed(request: PreparedRequest) -> list[ChoicePiece]:
    """Return the text with which each choice begins before the model continues it."""
    return [ChoicePiece(index, {"content": text}) for index, text in enumerate(request.echoes)]


class ChoiceStreamClient:
    """An `EngineClient` that requests each choice of an answer as a separate stream."""

    scores_prompts = False
    """Whether `open` accepts ``echo``, with log-probabilities of the prompt, and completions without further text."""

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        facts: ServerFacts,
        description: ModelDescription,
    ) -> None:
        self._transport = transport
        self._child = child
        self._name = name
        self._facts = facts
        self._dimensions = description.dimensions
        endpoint = child.endpoint(name)
        self._routes = {
            operation: EngineRoute(endpoint, operation)
            for operation in ("chat/completions", "completions", "embeddings", "rerank")
        }

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        if request.operation == "embeddings":
            return await self._embed(request.body, deadline)
        if request.operation == "rerank":
            return await self._rerank(request.body, deadline)
        is_chat = request.operation == "chat/completions"
        prepared_request = self._prepare(request)
        adapter = self._adapter_fields(request)
        calls = ChoiceCalls(
            [
                ChoiceCall(
                    self,
                    request.operation,
                    {**body, **adapter},
                    ChoiceReader(index, prepared_request, chat=is_chat),
                    deadline,
                )
                for index, body in enumerate(prepared_request.bodies)
            ]
        )
        name = request.adapter.name if request.adapter is not None else self._name
        envelope = ResponseEnvelope(is_chat, name, self._facts.fingerprint)
        try:
            await calls.open()
            if not request.stream:
                pieces = [*_echoed(prepared_request), *[piece async for piece in calls.pieces()]]
                usage = calls.usage(prepared_request)
                data = envelope.document(pieces, len(prepared_request.bodies), usage)
                return RelayResponse(
                    "application/json", single_chunk(data), usage, unenforced=prepared_request.unenforced
                )
        except BaseException:
            await calls.close()
            raise
        options = request.body.get("stream_options") or {}
        relay_response = RelayResponse(
            "text/event-stream", single_chunk(b""), unenforced=prepared_request.unenforced
        )
        relay_response.chunks = self._frames(
            calls,
            prepared_request,
            envelope,
            relay_response,
            wants_usage=options.get("include_usage") is True,
        )
        return relay_response

    def _prepare(self, request: Relay) -> PreparedRequest:
        """Return the request to the server for a chat or a completion."""
        biases = request.body.get("logit_bias")
        if biases:
            # checked here too, because the field may come from a flow or an agent
            LOGIT_BIAS.check(biases, "logit_bias")
            self._facts.check_tokens(self._name, map(int, biases), "logit_bias")
        if request.operation == "completions":
            prepared_request = prepare_completion(request.body, scores_prompts=self.scores_prompts)
            for body in prepared_request.bodies:
                if isinstance(body["prompt"], list):
                    self._facts.check_tokens(self._name, body["prompt"], "prompt")
        else:
            if self._facts.max_alternatives is not None:
                check_alternatives(request.body, self._name, self._facts.max_alternatives)
            prepared_request = prepare_chat(
                request.body,
                template_has_tools=self._facts.template_has_tools,
                sees=self._facts.sees,
                makes_grammars=self._facts.makes_grammars,
            )
        for body in prepared_request.bodies:
            if body.get("stop"):
                body["verbose"] = True  # so that the last chunk names the stop sequence
        return prepared_request

    def _adapter_fields(self, request: Relay) -> dict[str, Any]:
        """Return the request fields that select an adapter. By default, none are needed, because each adapter has its
        own model name.
        """
        return {"model": self._name if request.adapter is None else request.adapter.name}

    async def _frames(
        self,
        calls: ChoiceCalls,
        request: PreparedRequest,
        envelope: ResponseEnvelope,
        relay_response: RelayResponse,
        *,
        wants_usage: bool,
    ) -> AsyncIterator[bytes]:
        try:
            if envelope.chat:
                for index in range(len(request.bodies)):
                    yield envelope.opening(index)
            for piece in _echoed(request):
                yield envelope.chunk(piece)
            async for piece in calls.pieces():
                yield envelope.chunk(piece)
            relay_response.usage = calls.usage(request)
            if wants_usage:
                yield envelope.usage(relay_response.usage)
            yield DONE
        except PorticoError as error:
            relay_response.usage = calls.usage(request)
            yield frame(error)
            raise
        finally:
            await asyncio.shield(calls.close())

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Start a streamed call and yield its frames. Raises `PorticoError`."""
        try:
            response = await self._transport.post(
                self._routes[operation], orjson.dumps(body), deadline=deadline, reuse=False
            )
            if response.status != 200:
                data = await read_all(response, deadline=deadline)
                raise self._schema_refusal(data, body) or self._refusal(
                    response.status, data, "prompt" if operation == "completions" else "messages"
                )
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        return read_frames(response, deadline=deadline)

    async def explain(self, error: BaseException) -> PorticoError:
        """Return the error for a broken connection."""
        return (
            deadline_exceeded(self._name) if type(error) is TimeoutError else await self._child.explain(error)
        )

    def failure(self, document: Mapping[str, Any]) -> PorticoError:
        """Return the error for an error document in the middle of a stream."""
        inner = document.get("error")
        code = inner.get("code") if isinstance(inner, Mapping) else None
        return error_from_json(code if isinstance(code, int) else 500, document, self._name)

    def _schema_refusal(self, data: bytes, body: Mapping[str, Any]) -> PorticoError | None:
        """Return the error for a schema that llama.cpp cannot convert to a grammar, without llama.cpp's internals.
        Return ``None`` for any other error.
        """
        text = data.decode("utf-8", "replace")
        _before, mark, reason = text.partition("JSON schema error at ")
        if not mark and "failed to parse grammar" in text:
            mark, reason = (
                "grammar",
                "it repeats something too often, or refers to itself before anything else",
            )
        if not mark and ("response_format" in body or "tools" in body):
            _before, mark, reason = text.partition("Automatic parser generation failed: ")
        if not mark:
            return None
        form = body.get("response_format") or {}
        is_call_schema = form.get("json_schema", {}).get("name") == CALL_SCHEMA
        param = "tools" if is_call_schema or "tools" in body else "response_format"
        cause = reason.partition('"')[0].removeprefix("#: ").strip()[:MAX_REASON_CHARS]
        return InvalidRequest(
            f"'{self._name}' cannot follow the schema in '{param}': {cause}.",
            code="invalid_schema",
            param=param,
        )

    def _refusal(self, status: int, data: bytes, param: str = "input") -> PorticoError:
        try:
            error: Any = orjson.loads(data)["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            error = {}
        if isinstance(error, Mapping) and error.get("type") == "exceed_context_size_error":
            return self._too_long(str(error.get("n_prompt_tokens")), error.get("n_ctx"), param)
        message = str(error.get("message", "")) if isinstance(error, Mapping) else ""
        if "too large to process" in message:
            return InvalidRequest(
                f"A text is longer than '{self._name}' can embed in one call ({self._facts.context_length} "
                f"tokens): {message}.",
                code="context_length_exceeded",
                param="input",
            )
        return error_of(status, data, self._name)

    def _too_long(self, tokens: str, context: int | None, param: str) -> InvalidRequest:
        return InvalidRequest(
            f"The prompt has {tokens} tokens, but the context of '{self._name}' has {context}, and the answer needs "
            "at least one. Shorten the prompt, or choose a model with a larger context.",
            code="context_length_exceeded",
            param=param,
        )

    async def _embed(self, body: dict[str, Any], deadline: float | None) -> RelayResponse:
        texts = texts_of(body)
        dimensions = dimensions_of(body, self._dimensions)
        encoding = encoding_of(body)
        request_body = {"input": texts, "encoding_format": "base64", **self._embedding_fields(body)}
        try:
            response = await self._transport.post(
                self._routes["embeddings"], orjson.dumps(request_body), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        if response.status != 200:
            raise self._refusal(response.status, data)
        try:
            answered_document = orjson.loads(data)
            rows = sorted(answered_document["data"], key=lambda row: row["index"])
            vectors = [shorten(vector_of(row["embedding"]), dimensions) for row in rows]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"The engine of '{self._name}' returned something other than embeddings."
            ) from error
        usage = usage_from_json(answered_document.get("usage") or {})
        return RelayResponse(
            "application/json",
            single_chunk(orjson.dumps(document(vectors, encoding, self._name, usage))),
            usage,
        )

    def _embedding_fields(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the additional fields for requests other than for vectors of whole texts."""
        return {}

    async def _rerank(self, body: dict[str, Any], deadline: float | None) -> RelayResponse:
        request_body = {name: body[name] for name in ("query", "documents", "top_n") if name in body}
        try:
            response = await self._transport.post(
                self._routes["rerank"], orjson.dumps(request_body), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        if response.status != 200:
            raise self._refusal(response.status, data)
        try:
            answered_document = orjson.loads(data)
            rows = [
                (int(row["index"]), float(row["relevance_score"])) for row in answered_document["results"]
            ]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"The engine of '{self._name}' returned something other than a ranking."
            ) from error
        usage = usage_from_json(answered_document.get("usage") or {})
        return RelayResponse(
            "application/json", single_chunk(orjson.dumps(ranking_of(rows, self._name, usage))), usage
        )


def ranking_of(rows: list[tuple[int, float]], name: str, usage: Usage) -> dict[str, Any]:
    """Return scores in the format of Jina and Cohere, in [0, 1] and best first.

    llama.cpp returns the output of the model's last layer, which is a logit for a cross-encoder. If one score is
    outside [0, 1], all scores are treated as logits.
    """
    if any(not 0 <= score <= 1 for _, score in rows):
        rows = [(index, 1 / (1 + math.exp(-max(-60.0, min(60.0, score))))) for index, score in rows]
    sorted_rows = sorted(rows, key=lambda row: -row[1])
    return {
        "object": "list",
        "model": name,
        "results": [{"index": index, "relevance_score": score} for index, score in sorted_rows],
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
    }


# Tools on a server that does not know the model's call format: the model can write only a call or, if
# allowed, an answer, in JSON. vLLM (as of 0.32) parses calls, and enforces ``tool_choice: required`` and a
# named function, only if it was configured with the model's call format. What LMDeploy enforces depends on
# its backend. Both enforce a JSON schema. Imports aiohttp.


class ConstrainedTools:
    """An `EngineClient` that wraps another client and constrains the output of chats with tools."""

    def __init__(
        self,
        inner: EngineClient,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        description: ModelDescription,
    ) -> None:
        facts = ServerFacts(description.context_length, template_has_tools=False, fingerprint=None, sees=True)
        self._inner = inner
        self._strict = ChoiceStreamClient(transport, child, name, facts, description)

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        offers_tools = bool(request.body.get("tools")) and request.body.get("tool_choice") != "none"
        if request.operation == "chat/completions" and offers_tools:
            return await self._strict.relay(request, deadline)
        return await self._inner.relay(request, deadline)


def requires_tool_call(body: Mapping[str, Any]) -> bool:
    """Return whether the model must answer with a tool call."""
    choice = body.get("tool_choice")
    return bool(body.get("tools")) and (choice == "required" or isinstance(choice, Mapping))
