"""The specification of a flow as typed values: what `portico_server.apps.flow.read` makes of the JSON.

Field names are those of the JSON (docs/flow-spec.md). ``at`` is the place of a step in it, for messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from portico_server.apps.flow.expression import CodeExpression, Expression
from portico_server.core.dataclass import dataclass

VERSION = 1
"""The value of ``portico_flow`` that this code reads."""

Durability: TypeAlias = Literal["off", "normal", "full"]
Join: TypeAlias = Literal["list", "dict", "sum", "text", "zip"]
FormatType: TypeAlias = Literal["text", "json", "yaml", "regex", "last"]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How a model's text becomes a value. ``schema`` constrains JSON; ``attempts`` counts askings in all."""

    type: FormatType = "text"
    schema: Mapping[str, Any] | None = None
    pattern: str = ""
    group: int = 0
    attempts: int = 2


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Try again up to ``times`` times, after ``delay`` seconds, each time ``factor`` longer.

    ``on`` holds the codes or types of the errors that are worth it; none: what may pass by itself.
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
    """Ask a chat model. Without ``user`` and ``messages`` the value that flows in is what the user says."""

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
    """Choose one of ``intents`` (name → what it is, with examples) for a text: by a model, or by embeddings alone."""

    text: Expression
    intents: Mapping[str, Mapping[str, Any]]
    model: str = "default"
    embedding: str = ""
    history: Expression | None = None
    default: str = ""


@dataclass(frozen=True, slots=True)
class EmbedStep:
    """Vectors for a text or a list of texts."""

    model: str
    text: Expression


@dataclass(frozen=True, slots=True)
class AgentStep:
    """Ask an agent or any app that takes chat messages; ``session`` names its memory.

    ``agent``: the specification of one that stands in the flow itself and need not be deployed.
    """

    name: str
    message: Expression
    session: Expression | None = None
    agent: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolStep:
    """Call a tool. Without ``arguments`` the object that flows in is taken."""

    name: str
    arguments: Expression


@dataclass(frozen=True, slots=True)
class RetrieveStep:
    """Search stores; the passages of several are put in one ranking."""

    stores: tuple[str, ...]
    query: Expression
    top_k: int = 10
    groups: tuple[str, ...] = ()
    ranker: Literal["auto", "lexical", "vector", "hybrid", "rrf"] = "auto"
    threshold: float = 0.0
    filters: Expression | None = None


@dataclass(frozen=True, slots=True)
class RerankStep:
    """Put documents (texts, or passages with ``text``) in the order in which they answer a question."""

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
    """Call a function that lives with the client; ``limit``: seconds to wait for it."""

    function: str
    args: tuple[Expression, ...]
    kwargs: Mapping[str, Expression]
    limit: float = 300.0


@dataclass(frozen=True, slots=True)
class ApproveStep:
    """Wait for a person. The value that flowed in continues; with ``answer_schema`` what the person entered does."""

    message: Expression
    answer_schema: Mapping[str, Any] | None = None
    limit: float = 86_400.0


@dataclass(frozen=True, slots=True)
class SubflowStep:
    """Run a deployed app (``app``) or a step of its own (``step``), which sees only its input."""

    app: str
    step: FlowStep | None
    value: Expression


@dataclass(frozen=True, slots=True)
class EmitStep:
    """Send text to whoever listens to the run; the value that flowed in continues."""

    text: Expression


@dataclass(frozen=True, slots=True)
class HttpStep:
    """Ask a web address, by the tool ``http_request``."""

    method: str
    url: Expression
    headers: Expression | None = None
    body: Expression | None = None


@dataclass(frozen=True, slots=True)
class PipelineStep:
    """One step after the other, each fed with the output of the one before."""

    steps: tuple[FlowStep, ...]
    output: Expression | None = None


@dataclass(frozen=True, slots=True)
class _Abreast:
    """Steps at once, and what is made of their outputs. ``collect``: an error of a step becomes its output."""

    steps: tuple[FlowStep, ...]
    join: Join = "list"
    separator: str = "\n"
    concurrency: int = 0
    collect: bool = False


class ParallelStep(_Abreast):
    """The same value to every step."""

    __slots__ = ()


class DiverterStep(_Abreast):
    """The first item to the first step, the second to the second."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class WarpStep:
    """One step for every item, ``concurrency`` at once; outputs in the order of the items."""

    step: FlowStep
    over: Expression
    concurrency: int = 8
    collect: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One way of a switch: taken if the value equals ``equals``, or if ``when`` holds."""

    step: FlowStep
    equals: Expression | None = None
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class SwitchStep:
    """The first case that fits, or ``default``; without one, an error."""

    on: Expression
    cases: tuple[Case, ...]
    default: FlowStep | None = None


@dataclass(frozen=True, slots=True)
class BranchStep:
    """``then`` or ``otherwise``; without the latter the value continues."""

    condition: Expression
    then: FlowStep
    otherwise: FlowStep | None = None


@dataclass(frozen=True, slots=True)
class LoopStep:
    """A step again and again, its output its next input, until ``until`` holds (looked at after each round).

    ``limit`` rounds at most; reaching it is an error unless ``exhausted`` is ``return``.
    """

    step: FlowStep
    limit: int
    until: Expression | None = None
    state: Expression | None = None
    exhausted: Literal["fail", "return"] = "return"


@dataclass(frozen=True, slots=True)
class GraphStep:
    """Steps as soon as those that they refer to, or name in ``after``, have ended."""

    steps: tuple[FlowStep, ...]
    after: Mapping[str, frozenset[str]]
    """What each step waits for, references included."""
    order: tuple[str, ...]
    """Their names, each behind those that it waits for."""
    output: Expression
    concurrency: int = 0


Op: TypeAlias = (
    LlmStep | IntentStep | EmbedStep | AgentStep | ToolStep | RetrieveStep | RerankStep
    | CodeStep | ClientStep | ApproveStep | SubflowStep | EmitStep | HttpStep
    | PipelineStep | ParallelStep | DiverterStep | WarpStep | SwitchStep | BranchStep | LoopStep | GraphStep
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FlowStep:
    """A named step. ``source`` is its JSON; ``plain``: no retry, limit, cache or condition stands around it."""

    name: str
    op: Op
    kind: str
    """The word in the JSON: ``llm``, ``warp`` …"""
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
    """A whole flow. ``timeout`` in seconds; waiting for people and clients does not count."""

    name: str
    step: FlowStep
    source: Mapping[str, Any] = field(repr=False)
    voices: frozenset[str] = frozenset()
    """The places of the steps whose tokens are the flow's own answer."""
    title: str = ""
    description: str = ""
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    durability: Durability = "off"
    timeout: float | None = None
    redact: tuple[str, ...] = ()
    """Names of fields whose values are not recorded."""
    code: str = ""
    """The place of its first step that is code, if it has one."""
    owner: str | None = ""
    """Whose app it is, ``None`` for the operator's; empty for what its caller has brought along."""


EFFECTS = frozenset({"llm", "intent", "agent", "tool", "client", "approve", "http", "subflow"})
"""Kinds whose end is in the journal before the next step begins; the others can be done again without harm."""
