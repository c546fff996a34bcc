"""Exports runs and their steps as OpenTelemetry spans, named by OpenTelemetry's conventions for generative AI.

The spans are sent by OTLP over HTTP to the setting ``otel_endpoint``. Without this setting, no spans are created. A
run is a SERVER span in the trace of a client that sent a ``traceparent``; the run's calls are child spans, of the kind
CLIENT for models. Span ids derive from the id of the run and the path of the step, so a step knows its parent before
the parent has ended. Names: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import orjson

from portico._installed import how_to_add
from portico.wire import ErrorBody, Usage
from portico_server import __version__
from portico_server.core import pools, trace
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.core.media import Draw, Speak, Transcribe
from portico_server.core.origins import ORIGINS
from portico_server.core.relay import Relay
from portico_server.core.request import (
    Chat,
    ChatReply,
    Detokenize,
    Embed,
    Moderate,
    Ranked,
    Request,
    Rerank,
    Search,
    Tokenize,
    ToolCall,
    Vectors,
)
from portico_server.core.servable import Card
from portico_server.core.trace import Trace
from portico_server.db.steps import StepRow, step_usage
from portico_server.runs.run import Run

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanContext

SpanKind: TypeAlias = Literal["server", "client", "internal"]


OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
AGENT: Final = "gen_ai.agent.name"
WORKFLOW: Final = "gen_ai.workflow.name"
STORE: Final = "gen_ai.data_source.id"
TOOL: Final = "gen_ai.tool.name"
ERROR: Final = "error.type"
RUN: Final = "portico.run.id"
STEP: Final = "portico.step.path"
KIND: Final = "portico.step.kind"
ATTEMPT: Final = "portico.step.attempt"
HIT: Final = "portico.step.cached"
COST: Final = "portico.usage.cost"
BECAUSE: Final = "portico.because_of"

OPERATIONS: Final[Mapping[str, str]] = {
    "chat/completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "search": "retrieval",
    "agent": "invoke_agent",
    "llm": "chat",
    "intent": "chat",
    "embed": "embeddings",
    "retrieve": "retrieval",
    "tool": "execute_tool",
    "http": "execute_tool",
}
"""The conventions' names for kinds of runs and steps. Kinds that are not listed have no such name."""

REQUESTS: Final[Mapping[type, str]] = {
    Chat: "chat",
    Embed: "embeddings",
    Search: "retrieval",
    ToolCall: "execute_tool",
    Rerank: "rerank",
    Moderate: "moderations",
    Speak: "audio/speech",
    Transcribe: "audio/transcriptions",
    Draw: "images/generations",
    Tokenize: "tokenize",
    Detokenize: "detokenize",
}
"""Operation for each request within a run. The first four operations are names of the conventions."""

NAMED: Final[Mapping[str, str]] = {
    "invoke_agent": AGENT,
    "invoke_workflow": WORKFLOW,
    "retrieval": STORE,
    "execute_tool": TOOL,
}
"""Attribute for the name of the called object, by operation. The name of a model is in `MODEL`."""

PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The conventions' names for providers that Portico names differently."""

OPTIONS: Final[Mapping[str, str]] = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "n": "gen_ai.request.choice.count",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_k": "gen_ai.request.top_k",
    "top_p": "gen_ai.request.top_p",
}
"""Request options that are exported, with their attributes."""

NO_USAGE: Final = Usage()

FLUSH_TIMEOUT_MS: Final = 5_000
"""Maximum milliseconds for sending the last spans when the daemon ends."""

_INNER = re.compile(r"\[\d+\]$|#\d+$")


class Telemetry:
    """Collects ended calls and sends them in the background; spans that cannot be sent are dropped.

    The constructor raises `Unavailable` without the extra ``otel``.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise Unavailable(
                f"The setting 'otel_endpoint' needs OpenTelemetry. Install it: {how_to_add('otel')}",
                code="extra_missing",
            ) from error
        self._processor: BatchSpanProcessor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        )
        self._resource = Resource.create({"service.name": "portico", "service.version": __version__})
        self._scope = InstrumentationScope("portico", __version__)

    def run(self, run: Run) -> None:
        """Export an ended run."""
        operation = OPERATIONS.get(run.kind)
        attributes: dict[str, Any] = {RUN: run.id, **_tokens(run.usage)}
        if operation is not None:
            attributes |= {OPERATION: operation, NAMED.get(operation, MODEL): run.name}
        self.send(
            f"{operation or run.kind} {run.name}",
            trace.of_run(run.id, within=run.trace),
            run.trace,
            attributes,
            run.created_at,
            (run.finished_at or run.created_at) - run.created_at,
            run.error,
            kind="server",
        )

    def begin(self, name: str, card: Card | None, request: Request | Relay, above: Trace) -> Span:
        """Start the span of a call below ``above``. `Span.end` sends the span."""
        options: Mapping[str, Any] = {}
        if isinstance(request, Relay):
            operation, options = OPERATIONS.get(request.operation, request.operation), request.body
        else:
            operation = REQUESTS.get(type(request), "call")
            if isinstance(request, Chat):
                options = request.options
        if card is not None and card.kind == "app":
            operation = "invoke_agent" if card.labels.get("kind") == "agent" else "invoke_workflow"
        attributes: dict[str, Any] = {OPERATION: operation}
        if card is None or card.kind == "model":
            attributes |= {MODEL: name, PROVIDER: _provider(card), RESPONSE_MODEL: _model(card, name)}
            attributes |= {OPTIONS[key]: value for key, value in options.items() if _is_exported(key, value)}
            if options.get("stream") is True:
                attributes[STREAM] = True
            return Span(self, f"{operation} {name}", "client", above, attributes)
        attributes[NAMED.get(operation, TOOL)] = str(card.labels.get("id") or card.name)
        if isinstance(request, ToolCall) and (origins := ORIGINS.get()):
            attributes[BECAUSE] = list(origins)
        return Span(self, f"{operation} {card.name}", "internal", above, attributes)

    @contextmanager
    def calling(self, name: str, card: Card, request: Request) -> Iterator[Span]:
        """Wrap a call of a run in a span below the current span. The calls that it makes become child spans."""
        above = trace.CURRENT.get()
        assert above is not None, "a run must have its own span"
        span = self.begin(name, card, request, above)
        try:
            with trace.at(span.trace):
                yield span
        except PorticoError as error:
            span.end(NO_USAGE, error.body())
            raise
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            words = "The call was cancelled." if is_cancelled else "The call failed."
            code = "cancelled" if is_cancelled else "internal_error"
            span.end(NO_USAGE, ErrorBody(words, "server_error", code))
            raise
        span.attributes |= _answer_attributes(span.result)
        span.end(getattr(span.result, "usage", NO_USAGE), None)

    def steps(self, run_id: str) -> Callable[[StepRow], None]:
        """Return a callback that exports each ended step of a run."""
        within = trace.CURRENT.get()

        def step(row: StepRow) -> None:
            self._step(run_id, row, within)

        return step

    def _step(self, run_id: str, row: StepRow, within: Trace | None) -> None:
        operation = OPERATIONS.get(row.kind)
        usage = step_usage(row)
        attributes: dict[str, Any] = {RUN: run_id, STEP: row.path, KIND: row.kind, **_tokens(usage)}
        if row.attempt > 1:
            attributes[ATTEMPT] = row.attempt
        if row.hit:
            attributes[HIT] = True
        if operation is not None:
            attributes[OPERATION] = operation
            attributes |= _target_of(row)
        error = ErrorBody(**orjson.loads(row.error)) if row.error else None
        self.send(
            f"{operation or row.kind} {row.path.rpartition('.')[2]}",
            trace.of_run(run_id, row.path, within),
            trace.of_run(run_id, parent(row.path), within),
            attributes,
            row.started_at,
            row.milliseconds / 1e3,
            error,
        )

    def send(
        self,
        name: str,
        trace: Trace,
        above: Trace | None,
        attributes: Mapping[str, Any],
        start_time: float,
        seconds: float,
        error: ErrorBody | None,
        *,
        kind: SpanKind = "internal",
    ) -> None:
        """Export an ended span, unless the client's trace is not sampled."""
        if not trace.sampled:
            return
        from opentelemetry import trace as otel
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace.status import Status, StatusCode

        attribute_values = dict(attributes)
        status = Status(StatusCode.UNSET)
        if error is not None:
            attribute_values[ERROR] = error.code or error.type
            status = Status(StatusCode.ERROR, error.message)
        start = int(start_time * 1e9)
        self._processor.on_end(
            ReadableSpan(
                name,
                _context(trace),
                parent=None if above is None else _context(above, remote=not above.recorded),
                resource=self._resource,
                attributes=attribute_values,
                kind=otel.SpanKind[kind.upper()],
                status=status,
                start_time=start,
                end_time=start + int(max(seconds, 0.0) * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    async def close(self) -> None:
        """Send the remaining spans."""
        await pools.LOADING.run(self._processor.force_flush, FLUSH_TIMEOUT_MS)
        await pools.LOADING.run(self._processor.shutdown)


def parent(path: str) -> str:
    """Return the path of the step that contains a step; empty for an outermost step."""
    outer = path.rpartition(".")[0]
    while match := _INNER.search(outer):
        outer = outer[: match.start()]
    return outer


class Span:
    """A call in progress, below the span ``above``. ``result`` is set once the call has a result."""

    def __init__(
        self, telemetry: Telemetry, name: str, kind: SpanKind, above: Trace, attributes: dict[str, Any]
    ) -> None:
        self._telemetry = telemetry
        self._name = name
        self._kind = kind
        self._above = above
        self._started_at, self._clock = time.time(), time.perf_counter()
        self.attributes = attributes
        self.trace = above._replace(span_id=os.urandom(8).hex(), recorded=True)
        self.result: Any = None
        self.first: float | None = None
        """Seconds until the first piece of the answer, or ``None`` if the answer did not arrive in pieces."""

    def answered_by(self, card: Card) -> None:
        """Record that a model other than the requested one answers."""
        self.attributes |= {PROVIDER: _provider(card), RESPONSE_MODEL: _model(card, card.name)}

    def end(self, usage: Usage, error: ErrorBody | None) -> None:
        """End the span and send it."""
        attributes = {**self.attributes, **_tokens(usage)}
        if self.first is not None and STREAM in attributes:
            attributes[FIRST_CHUNK] = self.first
        seconds = time.perf_counter() - self._clock
        self._telemetry.send(
            self._name, self.trace, self._above, attributes, self._started_at, seconds, error, kind=self._kind
        )


def _context(at: Trace, *, remote: bool = False) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState.from_header([at.state]) if at.state else None
    flags = TraceFlags(TraceFlags.SAMPLED if at.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(at.trace_id, 16), int(at.span_id, 16), remote, flags, state)


def _provider(card: Card | None) -> str:
    """Return the name of the system that runs a model: the provider of a remote model, or the engine of a local
    model.
    """
    labels = card.labels if card is not None else {}
    source = str(labels.get("source") or "")
    if source.startswith("remote://"):
        name = source.removeprefix("remote://").partition("/")[0]
        return PROVIDERS.get(name, name)
    return str(labels.get("engine") or "portico")


def _model(card: Card | None, name: str) -> str:
    """Return the name of the model on the server that answers."""
    source = str(card.labels.get("source") or "") if card is not None else ""
    if source.startswith("remote://"):
        return source.removeprefix("remote://").partition("/")[2] or name
    if source.startswith(("http://", "https://")) and "#" in source:
        return source.rpartition("#")[2]
    return card.name if card is not None else name


def _is_exported(key: str, value: Any) -> bool:
    return key in OPTIONS and isinstance(value, int | float) and not isinstance(value, bool)


def _answer_attributes(result: Any) -> dict[str, Any]:
    """Return an answer's attributes."""
    attributes: dict[str, Any] = {}
    if isinstance(result, ChatReply):
        attributes[FINISH] = [result.finish_reason]
    if isinstance(result, ChatReply | Vectors | Ranked) and result.model:
        attributes[RESPONSE_MODEL] = result.model
    return attributes


def _tokens(usage: Usage) -> dict[str, Any]:
    token_attributes = {
        INPUT_TOKENS: usage.prompt_tokens,
        OUTPUT_TOKENS: usage.completion_tokens,
        CACHED_TOKENS: usage.cached_tokens,
        COST: usage.cost,
    }
    return {name: value for name, value in token_attributes.items() if value}


def _target_of(row: StepRow) -> dict[str, Any]:
    """Return the attributes of the model or tool that a step called, if its input shows them."""
    try:
        input_document = orjson.loads(row.input or b"null")
    except orjson.JSONDecodeError:
        return {}
    if row.kind == "http":
        return {TOOL: "http_request"}
    model = input_document.get("model") if isinstance(input_document, dict) else None
    return {MODEL: model} if isinstance(model, str) and row.kind == "llm" else {}
