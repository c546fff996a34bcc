"""The specification of a flow as typed values, parsed from JSON by `portico_server.apps.flow.read`.

Field names are those of the JSON (docs/flow-spec.md). ``at`` is the location of a step in it, for messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from portico_server.apps.flow.expression import CodeExpression, Expression
from portico_server.core.dataclass import dataclass

VERSION = 1
"""The ``portico_flow`` version that this code reads."""

Durability: TypeAlias = Literal["off", "normal", "full"]
Join: TypeAlias = Literal["list", "dict", "sum", "text", "zip"]
FormatType: TypeAlias = Literal["text", "json", "yaml", "regex", "last"]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How a model's text becomes a value. ``schema`` constrains JSON; ``attempts`` is the total number of attempts."""

    type: FormatType = "text"
    schema: Mapping[str, Any] | None = None
    pattern: str = ""
    group: int = 0
    attempts: int = 2


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry up to ``times`` times, after ``delay`` seconds, each time ``factor`` longer.

    ``on`` lists the codes or types of the errors to retry; if empty, temporary errors are retried.
    """

    times: int
    delay: float = 0.5
    factor: float = 2.0
    on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """What an error becomes: a value, or a jump to a later step of the same pipeline (``goto``)."""

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
    """Choose one of ``intents`` (name → description, with examples) for a text: by a model, or by embeddings alone."""

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
    """Call an agent or any app that accepts chat messages; ``session`` names its memory.

    ``agent``: the specification of an inline agent, which need not be deployed.
    """

    name: str
    message: Expression
    session: Expression | None = None
    agent: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolStep:
    """Call a tool. Without ``arguments``, the input object is passed."""

    name: str
    arguments: Expression


@dataclass(frozen=True, slots=True)
class RetrieveStep:
    """Search stores; the passages of several stores are ranked together."""

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
    """Call a function of a client; ``limit``: seconds to wait for it."""

    function: str
    args: tuple[Expression, ...]
    kwargs: Mapping[str, Expression]
    limit: float = 300.0


@dataclass(frozen=True, slots=True)
class ApproveStep:
    """Wait for a person. The input value continues; with ``answer_schema``, the person's entry continues instead."""

    message: Expression
    answer_schema: Mapping[str, Any] | None = None
    limit: float = 86_400.0


@dataclass(frozen=True, slots=True)
class SubflowStep:
    """Run a deployed app (``app``) or an inline step (``step``), which sees only its input."""

    app: str
    step: FlowStep | None
    value: Expression


@dataclass(frozen=True, slots=True)
class EmitStep:
    """Send text to the listener of the run; the input value continues."""

    text: Expression


@dataclass(frozen=True, slots=True)
class HttpStep:
    """Send a request to a web address, with the tool ``http_request``."""

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
    """Concurrent steps, and how their outputs are joined. ``collect``: an error of a step becomes its output."""

    steps: tuple[FlowStep, ...]
    join: Join = "list"
    separator: str = "\n"
    concurrency: int = 0
    collect: bool = False


class ParallelStep(_Abreast):
    """Pass the same value to every step."""

    __slots__ = ()


class DiverterStep(_Abreast):
    """Pass the first item to the first step, the second to the second."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class WarpStep:
    """Run one step for every item, ``concurrency`` at a time; outputs are in the order of the items."""

    step: FlowStep
    over: Expression
    concurrency: int = 8
    collect: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a switch: chosen if the value equals ``equals``, or if ``when`` is true."""

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
    """Run ``then`` or ``otherwise``; without the latter, the value continues."""

    condition: Expression
    then: FlowStep
    otherwise: FlowStep | None = None


@dataclass(frozen=True, slots=True)
class LoopStep:
    """Repeat a step, with its output as its next input, until ``until`` is true (checked after each round).

    Runs at most ``limit`` rounds; reaching the limit is an error unless ``exhausted`` is ``return``.
    """

    step: FlowStep
    limit: int
    until: Expression | None = None
    state: Expression | None = None
    exhausted: Literal["fail", "return"] = "return"


@dataclass(frozen=True, slots=True)
class GraphStep:
    """Run steps as soon as all steps that they refer to, or name in ``after``, have ended."""

    steps: tuple[FlowStep, ...]
    after: Mapping[str, frozenset[str]]
    """The dependencies of each step, including references."""
    order: tuple[str, ...]
    """The step names in dependency order."""
    output: Expression
    concurrency: int = 0


Op: TypeAlias = (
    LlmStep | IntentStep | EmbedStep | AgentStep | ToolStep | RetrieveStep | RerankStep
    | CodeStep | ClientStep | ApproveStep | SubflowStep | EmitStep | HttpStep
    | PipelineStep | ParallelStep | DiverterStep | WarpStep | SwitchStep | BranchStep | LoopStep | GraphStep
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FlowStep:
    """A named step. ``source`` is its JSON; ``plain``: it has no retry, limit, cache or condition."""

    name: str
    op: Op
    kind: str
    """The op in the JSON: ``llm``, ``warp`` …"""
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
    """A whole flow. ``timeout`` is in seconds; waiting for people and clients does not count."""

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
    """The location of its first code step, if it has one."""
    owner: str | None = ""
    """The owner of its app, ``None`` for the operator; empty for a flow supplied by its caller."""


EFFECTS = frozenset({"llm", "intent", "agent", "tool", "client", "approve", "http", "subflow"})
"""Kinds of steps whose end is journaled before the next step begins; all other steps can be repeated safely."""
