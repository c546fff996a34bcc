"""The specification of a flow as typed values, parsed from JSON by `portico_server.features.flows.read`.

Field names are the same as in the JSON (docs/flow-spec.md). ``at`` is a step's location in the JSON, for messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.features.flows.expression import CodeExpression, Expression

VERSION = 1
"""The ``portico_flow`` version that this module reads."""

Durability: TypeAlias = Literal["off", "normal", "full"]
Join: TypeAlias = Literal["list", "dict", "sum", "text", "zip"]
FormatType: TypeAlias = Literal["text", "json", "yaml", "regex", "last"]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How a model's text is converted to a value. ``schema`` constrains JSON; ``attempts`` is the maximum number of
    attempts.
    """

    type: FormatType = "text"
    schema: Mapping[str, Any] | None = None
    pattern: str = ""
    group: int = 0
    attempts: int = 2


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry up to ``times`` times. The first retry is after ``delay`` seconds; each further delay is ``factor`` times
    as long.

    ``on`` lists the codes or types of the errors to retry; if empty, temporary errors are retried.
    """

    times: int
    delay: float = 0.5
    factor: float = 2.0
    on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """What replaces an error: a value, or a jump to a later step of the same pipeline (``goto``)."""

    value: Expression | None = None
    goto: str = ""


@dataclass(frozen=True, slots=True)
class LlmStep:
    """Call a chat model. Without ``user`` and ``messages``, the input value is the user's message."""

    model: str
    system: Expression | None = None
    user: Expression | None = None
    messages: Expression | None = None
    history: Expression | None = None
    few_shot: Expression | None = None
    options: Expression | None = None
    format: OutputFormat = OutputFormat()


@dataclass(frozen=True, slots=True)
class IntentStep:
    """Choose one of ``intents`` (name → description, with examples) for a text, with a model or only with
    embeddings.
    """

    text: Expression
    intents: Mapping[str, Mapping[str, Any]]
    model: str = "default"
    embedding: str = ""
    history: Expression | None = None
    default: str = ""


@dataclass(frozen=True, slots=True)
class EmbedStep:
    """Embed a text or a list of texts."""

    model: str
    text: Expression


@dataclass(frozen=True, slots=True)
class AgentStep:
    """Call an agent, or another app that accepts chat messages; ``session`` is the name of the conversation that it
    remembers.

    ``agent``: the specification of an inline agent, which need not be deployed.
    """

    name: str
    message: Expression
    session: Expression | None = None
    agent: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolStep:
    """Call a tool. Without ``arguments``, the input value must be an object with the arguments."""

    name: str
    arguments: Expression


@dataclass(frozen=True, slots=True)
class RetrieveStep:
    """Search stores. The passages from several stores are ranked together."""

    stores: tuple[str, ...]
    query: Expression
    top_k: int = 10
    groups: tuple[str, ...] = ()
    ranker: Literal["auto", "lexical", "vector", "hybrid", "rrf"] = "auto"
    threshold: float = 0.0
    filters: Expression | None = None


@dataclass(frozen=True, slots=True)
class RerankStep:
    """Rank documents (texts, or passages with ``text``) by how well they answer a question."""

    model: str
    query: Expression
    documents: Expression
    top_k: int | None = None


@dataclass(frozen=True, slots=True)
class CodeStep:
    """Call a function in the sandbox."""

    code: CodeExpression


@dataclass(frozen=True, slots=True)
class ClientStep:
    """Call a function that a client serves; ``limit``: seconds to wait for a client and for its answer."""

    function: str
    args: tuple[Expression, ...]
    kwargs: Mapping[str, Expression]
    limit: float = 300.0


@dataclass(frozen=True, slots=True)
class ApproveStep:
    """Wait for a person. The output is the input value; with ``answer_schema``, it is the value that the person
    entered.
    """

    message: Expression
    answer_schema: Mapping[str, Any] | None = None
    limit: float = 86_400.0


@dataclass(frozen=True, slots=True)
class SubflowStep:
    """Run a deployed app (``app``), or an inline step (``step``) that can refer only to its own input."""

    app: str
    step: FlowStep | None
    value: Expression


@dataclass(frozen=True, slots=True)
class EmitStep:
    """Send text to the listener of the run. The output is the input value."""

    text: Expression


@dataclass(frozen=True, slots=True)
class HttpStep:
    """Send a request to a web address, using the tool ``http_request``."""

    method: str
    url: Expression
    headers: Expression | None = None
    body: Expression | None = None


@dataclass(frozen=True, slots=True)
class PipelineStep:
    """Steps one after another, each with the output of the previous step as its input."""

    steps: tuple[FlowStep, ...]
    output: Expression | None = None


@dataclass(frozen=True, slots=True)
class _Abreast:
    """Concurrent steps, and how their outputs are joined. ``collect``: if a step fails, its error becomes its
    output.
    """

    steps: tuple[FlowStep, ...]
    join: Join = "list"
    separator: str = "\n"
    concurrency: int = 0
    collect: bool = False


class ParallelStep(_Abreast):
    """Pass the same value to every step."""

    __slots__ = ()


class DiverterStep(_Abreast):
    """Pass the first item to the first step, the second item to the second step, and so on."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class WarpStep:
    """Run one step for every item, ``concurrency`` items at a time. The outputs are in the order of the items."""

    step: FlowStep
    over: Expression
    concurrency: int = 8
    collect: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a switch. It is chosen if the value equals ``equals``, or if ``when`` is true."""

    step: FlowStep
    equals: Expression | None = None
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class SwitchStep:
    """Run the first case that matches, or ``default``; without a default, raise an error."""

    on: Expression
    cases: tuple[Case, ...]
    default: FlowStep | None = None


@dataclass(frozen=True, slots=True)
class BranchStep:
    """Run ``then`` or ``otherwise``. Without ``otherwise``, the output is the input value if the condition is false."""

    condition: Expression
    then: FlowStep
    otherwise: FlowStep | None = None


@dataclass(frozen=True, slots=True)
class LoopStep:
    """Repeat a step until ``until`` is true, which is checked after each round. The output of each round is the input
    of the next.

    Runs at most ``limit`` rounds. If the limit is reached, the step fails, unless ``exhausted`` is ``return``.
    """

    step: FlowStep
    limit: int
    until: Expression | None = None
    state: Expression | None = None
    exhausted: Literal["fail", "return"] = "return"


@dataclass(frozen=True, slots=True)
class GraphStep:
    """Run each step as soon as all steps that it refers to, or names in ``after``, have ended."""

    steps: tuple[FlowStep, ...]
    after: Mapping[str, frozenset[str]]
    """The names of the steps on which each step depends, including steps that it refers to."""
    order: tuple[str, ...]
    """The names of the steps in the order of their dependencies."""
    output: Expression
    concurrency: int = 0


Op: TypeAlias = (
    LlmStep | IntentStep | EmbedStep | AgentStep | ToolStep | RetrieveStep | RerankStep
    | CodeStep | ClientStep | ApproveStep | SubflowStep | EmitStep | HttpStep
    | PipelineStep | ParallelStep | DiverterStep | WarpStep | SwitchStep | BranchStep | LoopStep | GraphStep
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FlowStep:
    """A named step. ``source`` is its JSON; ``plain``: it has no retry, time limit, cache or condition."""

    name: str
    op: Op
    kind: str
    """The name of the operation in the JSON: ``llm``, ``warp`` …"""
    at: str
    source: Mapping[str, Any] = field(repr=False)
    input: Expression | None = None
    when: Expression | None = None
    retry: RetryPolicy | None = None
    timeout: float | None = None
    cache: float | None = None
    on_error: ErrorPolicy | None = None
    save: str = ""
    stream: bool | None = None
    output_schema: Mapping[str, Any] | None = None

    @property
    def plain(self) -> bool:
        return (
            self.when is None
            and self.retry is None
            and self.timeout is None
            and self.cache is None
            and self.on_error is None
            and not self.save
            and self.output_schema is None
        )


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """A whole flow. ``timeout`` is in seconds; time spent waiting for people and clients does not count."""

    name: str
    step: FlowStep
    source: Mapping[str, Any] = field(repr=False)
    voices: frozenset[str] = frozenset()
    """The locations of the steps whose tokens form the flow's own answer."""
    title: str = ""
    description: str = ""
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    durability: Durability = "off"
    timeout: float | None = None
    redact: tuple[str, ...] = ()
    """Names of fields whose values are not recorded."""
    code: str = ""
    """The location of the flow's first code step; empty if it has none."""
    owner: str | None = ""
    """The owner of the flow's app, ``None`` for the operator; empty for a flow that the caller supplied."""


EFFECTS = frozenset({"llm", "intent", "agent", "tool", "client", "approve", "http", "subflow"})
"""Kinds of steps whose end is written to the journal before the next step begins. All other steps can be repeated
safely.
"""
