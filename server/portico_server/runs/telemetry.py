"""Runs and their steps as OpenTelemetry spans, under the names of its conventions for generative AI.

Sent by OTLP over HTTP to the setting ``otel_endpoint``. Without it nothing here is made. The ids of spans follow from
the run and the path of the step: a run that is taken up again goes on in its own trace, and a step knows its parent
before that has ended. Names: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from portico._installed import how_to_add
from portico.wire import ErrorBody, Usage
from portico_server import __version__
from portico_server.core import threads
from portico_server.core.errors import Unavailable
from portico_server.db.steps import StepRow, used
from portico_server.runs.run import Run

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanContext

logger = logging.getLogger(__name__)

OPERATION: Final = "gen_ai.operation.name"
MODEL: Final = "gen_ai.request.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
TOOL: Final = "gen_ai.tool.name"
ERROR: Final = "error.type"
RUN: Final = "portico.run.id"
STEP: Final = "portico.step.path"
KIND: Final = "portico.step.kind"
ATTEMPT: Final = "portico.step.attempt"
HIT: Final = "portico.step.cached"
COST: Final = "portico.usage.cost"

OPERATIONS: Final[Mapping[str, str]] = {
    "chat/completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "agent": "invoke_agent",
    "llm": "chat",
    "intent": "chat",
    "embed": "embeddings",
    "tool": "execute_tool",
    "http": "execute_tool",
}
"""By the kind of a run or of a step: what the conventions call it. Others have no such name."""

PATIENCE: Final = 5_000
"""Milliseconds in which the last spans must be gone when the daemon ends."""

_INNER = re.compile(r"\[\d+\]$|#\d+$")


class Telemetry:
    """Takes what has ended and sends it in the background; what cannot be sent is dropped.

    Raises `Unavailable` at its making without the extra ``otel``.
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
        """A run has ended."""
        operation = OPERATIONS.get(run.kind)
        attributes: dict[str, Any] = {RUN: run.id, **_tokens(run.usage)}
        if operation is not None:
            attributes |= {OPERATION: operation, MODEL: run.name}
        self._send(
            f"{operation or run.kind} {run.name}",
            _context(run.id, ""),
            None,
            attributes,
            run.created_at,
            (run.finished_at or run.created_at) - run.created_at,
            run.error,
        )

    def steps(self, run_id: str) -> Callable[[StepRow], None]:
        """What is told of each step of a run that has ended."""

        def step(row: StepRow) -> None:
            self._step(run_id, row)

        return step

    def _step(self, run_id: str, row: StepRow) -> None:
        operation = OPERATIONS.get(row.kind)
        usage = used(row)
        attributes: dict[str, Any] = {RUN: run_id, STEP: row.path, KIND: row.kind, **_tokens(usage)}
        if row.attempt > 1:
            attributes[ATTEMPT] = row.attempt
        if row.hit:
            attributes[HIT] = True
        if operation is not None:
            attributes[OPERATION] = operation
            attributes |= _asked(row)
        error = ErrorBody(**orjson.loads(row.error)) if row.error else None
        self._send(
            f"{operation or row.kind} {row.path.rpartition('.')[2]}",
            _context(run_id, row.path),
            _context(run_id, parent(row.path)),
            attributes,
            row.started_at,
            row.milliseconds / 1e3,
            error,
        )

    def _send(
        self,
        name: str,
        context: SpanContext,
        above: SpanContext | None,
        attributes: Mapping[str, Any],
        begun: float,
        seconds: float,
        error: ErrorBody | None,
    ) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        given = dict(attributes)
        status = Status(StatusCode.UNSET)
        if error is not None:
            given[ERROR] = error.code or error.type
            status = Status(StatusCode.ERROR, error.message)
        start = int(begun * 1e9)
        self._processor.on_end(
            ReadableSpan(
                name,
                context,
                parent=above,
                resource=self._resource,
                attributes=given,
                kind=SpanKind.INTERNAL if above else SpanKind.SERVER,
                status=status,
                start_time=start,
                end_time=start + int(max(seconds, 0.0) * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    async def close(self) -> None:
        """Send what is left."""
        await threads.LOADING.run(self._processor.force_flush, PATIENCE)
        await threads.LOADING.run(self._processor.shutdown)


def parent(path: str) -> str:
    """The path of the step that a step lies in; empty for the outermost one."""
    outer = path.rpartition(".")[0]
    while match := _INNER.search(outer):
        outer = outer[: match.start()]
    return outer


def _context(run_id: str, path: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    trace = hashlib.sha256(run_id.encode()).digest()[:16]
    span = hashlib.sha256(f"{run_id}\n{path}".encode()).digest()[:8]
    return SpanContext(
        int.from_bytes(trace, "big"), int.from_bytes(span, "big"), False, TraceFlags(TraceFlags.SAMPLED)
    )


def _tokens(usage: Usage) -> dict[str, Any]:
    found = {
        INPUT_TOKENS: usage.prompt_tokens,
        OUTPUT_TOKENS: usage.completion_tokens,
        CACHED_TOKENS: usage.cached_tokens,
        COST: usage.cost,
    }
    return {name: value for name, value in found.items() if value}


def _asked(row: StepRow) -> dict[str, Any]:
    """The model or the tool that a step asked, as far as its input tells."""
    try:
        given = orjson.loads(row.input or b"null")
    except orjson.JSONDecodeError:
        return {}
    if row.kind == "http":
        return {TOOL: "http_request"}
    model = given.get("model") if isinstance(given, dict) else None
    return {MODEL: model} if isinstance(model, str) and row.kind == "llm" else {}
