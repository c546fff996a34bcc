"""Compose flows in Python; the daemon runs them.

A flow consists of steps: models, stores, tools and functions, combined by combinators. Composing a flow executes
nothing: `Client.run` sends the flow's specification (docs/flow-spec.md) to a daemon, which validates and runs it.
`Client.apps.deploy` gives the flow a name under which it can be called like a model.

Functions are steps too. A function that needs nothing from its surroundings is sent as source and runs in the daemon's
sandbox. Any other function stays in this process, and the daemon calls it during the run.

A function receives the output of the previous step. If that output is a list with an item for each of several branches
(`parallel`, `diverter`, `warp`), the items are spread over the function's parameters; if only one parameter is
unbound, it receives the whole list. Parameters named in `bind` receive the bound values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, Unpack

from portico._keywords import exact, with_options
from portico._request import without_none
from portico._source import Bound, portable
from portico._step import (
    Argument,
    Join,
    Reference,
    Step,
    StepLike,
    StepMaker,
    Template,
    format_of,
    identifier,
    join_fields,
    step_of,
    steps_of,
)
from portico._types import Incoming
from portico._write import Writer, subject_of
from portico.errors import InvalidRequest
from portico.functions import Function, schema_of
from portico.model_options import MODEL_OPTIONS, ModelOptions

VERSION: Final = 1
"""The version of the specification that this SDK writes."""

Durability: TypeAlias = Literal["off", "normal", "full"]

__all__ = [
    "Flow",
    "Reference",
    "Step",
    "agent",
    "approve",
    "bind",
    "branch",
    "client",
    "code",
    "diverter",
    "embed",
    "emit",
    "flow",
    "graph",
    "history",
    "http",
    "index",
    "input",
    "intent",
    "item",
    "llm",
    "loop",
    "output",
    "parallel",
    "pipeline",
    "rerank",
    "retrieve",
    "state",
    "subflow",
    "switch",
    "template",
    "tool",
    "value",
    "warp",
]

input: Final = Reference("input")
"""The input of the whole flow."""
value: Final = Reference("value")
"""The input of the current step."""
history: Final = Reference("history")
"""The messages before the last one, if the flow is called as a chat model."""
item: Final = Reference("item")
"""The current item, within a warp."""
index: Final = Reference("index")
"""The current index, from 0, within a warp or a loop."""
state: Final = Reference("state")
"""Values that steps of the enclosing loop have stored with `Step.save`."""


_0: Final = Argument(0)
_1: Final = Argument(1)
_2: Final = Argument(2)
_3: Final = Argument(3)
_4: Final = Argument(4)


ELSEWHERE: Final = {
    "ifs": "branch",
    "ifelse": "branch",
    "barrier": "parallel",
    "formatter": "template",
    "prompter": "template",
    "document": "retrieve",
    "retriever": "retrieve",
    "reranker": "rerank",
    "embedding": "embed",
    "trainablemodule": "llm",
    "onlinechatmodule": "llm",
    "onlineembeddingmodule": "embed",
    "automodel": "llm",
    "chatprompter": "llm",
    "alpacaprompter": "llm",
    "intentclassifier": "intent",
    "httptool": "http",
    "codeinterpreter": "code",
    "functioncall": "agent",
    "functioncallagent": "agent",
    "reactagent": "agent",
    "planandsolveagent": "agent",
    "rewooagent": "agent",
    "gptapi": "llm",
    "agentlist": "pipeline",
    "sequential": "pipeline",
}
"""Lowercase terms of LazyLLM and Lagent, mapped to their counterparts in this module. A term that differs from a name
in this module only in case, such as ``Pipeline``, means that name.
"""


def __getattr__(name: str) -> Any:
    word = name.lower()
    counterpart = ELSEWHERE.get(word) or (word if word in __all__ else None)
    if counterpart is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise ImportError(
        f"portico.flow has no '{name}'. Use '{counterpart}': from portico.flow import {counterpart}",
        name=__name__,
    )


@exact
def output(name: str) -> Reference:
    """Return a reference to the output of an earlier step."""
    return Reference(f"steps.{name}")


def template(text: str, **variables: Any) -> Any:
    """Return a template: text with ``{name}`` placeholders for the given variables. Double a brace to keep it as
    text.
    """
    return Template(text, variables)


@with_options(MODEL_OPTIONS)
def llm(
    model: str = "default",
    *,
    system: Any = None,
    user: Any = None,
    messages: Any = None,
    history: Any = None,
    few_shot: Sequence[Mapping[str, Any]] | None = None,
    format: Any = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **options: Unpack[ModelOptions],
) -> Step:
    """Call a chat model. Without ``user`` and ``messages``, the incoming value is the user's message.

    ``{name}`` in ``system`` and ``user`` is a key of the incoming value, or a variable set by `Step.bind`.
    ``history``: True for the conversation so far, or a list of messages. ``format``: a type (the answer is JSON of
    that type), a JSON schema, or one of "json", "yaml", "last", {"type": "regex", "pattern": …}. ``options`` are
    OpenAI's; options that only some models support must be passed in ``extra_body``.
    """
    return Step(
        "llm",
        without_none(
            model=model,
            system=system,
            user=user,
            messages=messages,
            history=history,
            few_shot=list(few_shot) if few_shot else None,
            format=format_of(format),
            options={**options, **without_none(tools=list(tools) if tools else None)} or None,
        ),
    )


@exact
def intent(
    intents: Mapping[str, Any] | Sequence[str] = (),
    *,
    model: str = "default",
    embedding: str = "",
    history: Any = None,
    default: str = "",
    text: Any = None,
) -> Step:
    """Classify the intent of a text with a model, or with ``embedding`` by similarity alone.

    ``intents``: names, or a mapping from names to descriptions or to ``{"description": …, "examples": […]}``. As the
    ``on`` of a `switch`, the step uses the intents of the cases: ``switch({"chat": …, "drawing": …}, on=intent())``.
    """
    intent_map = intents if isinstance(intents, Mapping) else dict.fromkeys(intents, "")
    return Step(
        "intent",
        without_none(
            intents={name: description or {} for name, description in intent_map.items()},
            model=model,
            embedding=embedding or None,
            history=history,
            default=default or None,
            text=text,
        ),
    )


@exact
def embed(model: str = "default-embedding", *, text: Any = None) -> Step:
    """Compute the vector of a text, or the vectors of a list of texts."""
    return Step("embed", without_none(model=model, text=text))


@exact
def agent(name: str | StepMaker, *, message: Any = None, session: Any = None) -> Step:
    """Call an agent, or any app that accepts chat messages: the name of a deployment, or a `portico.agent.Agent`."""
    fields = without_none(message=message, session=session)
    if isinstance(name, str):
        return Step("agent", {"agent": name, **fields})
    step = name.as_step()
    if fields and step.kind != "agent":
        raise InvalidRequest(
            f"'{step.name}' runs in this process as a function: its message is the incoming value.",
            param=next(iter(fields)),
        )
    return replace(step, fields={**step.fields, **fields})


@exact
def tool(name: str, **arguments: Any) -> Step:
    """Call a tool. Without arguments, the incoming object provides them."""
    return Step("tool", without_none(tool=name, arguments=arguments or None))


@exact
def retrieve(
    *stores: str,
    query: Any = None,
    top_k: int = 10,
    group: str | Sequence[str] = (),
    ranker: str | None = None,
    threshold: float | None = None,
    filters: Any = None,
) -> Step:
    """Search stores and return passages in rank order, each with ``text``, ``score``, ``filename`` and ``place``."""
    groups = [group] if isinstance(group, str) else list(group)
    return Step(
        "retrieve",
        without_none(
            stores=list(stores),
            query=query,
            top_k=top_k,
            groups=groups or None,
            ranker=ranker,
            threshold=threshold,
            filters=filters,
        ),
    )


@exact
def rerank(model: str, *, query: Any = None, top_k: int | None = None, documents: Any = None) -> Step:
    """Sort passages or texts by how well they answer ``query``, which defaults to the flow's `input`."""
    return Step(
        "rerank",
        without_none(model=model, query=input if query is None else query, top_k=top_k, documents=documents),
    )


@exact
def code(function: Callable[..., Any] | str) -> Step:
    """Run a function in the daemon's sandbox. If the function cannot be sent, raise `InvalidRequest` with the
    reason.
    """
    if isinstance(function, str):
        return Step("code", {"source": function})
    source = portable(function)
    if isinstance(source, Bound):
        raise InvalidRequest(
            f"{subject_of(function)} cannot run in the sandbox: {source.reason}. Make it self-contained, or use "
            "client()."
        )
    return Step("code", {}, function=function)


@exact
def client(function: Callable[..., Any] | str, *, limit: float = 300.0) -> Step:
    """Run a function in this process: during `Client.run`, or for a deployed app while `Client.serve` runs.

    ``limit``: seconds that the run waits for the function's result.
    """
    if isinstance(function, str):
        return Step("client", {"function": function, "limit": limit})
    return Step("client", {"limit": limit}, function=function)


@exact
def approve(message: Any, *, returns: Any = None, limit: float = 86_400.0) -> Step:
    """Wait until a person approves. With ``returns`` (a type or JSON schema), a person must enter a value instead."""
    schema = (
        None if returns is None else dict(returns) if isinstance(returns, Mapping) else schema_of(returns)
    )
    return Step("approve", without_none(message=message, answer_schema=schema, limit=limit))


@exact
def subflow(app: StepLike | str) -> Step:
    """Call a deployed app by name, or run a step that sees only its own input."""
    return Step("subflow", {"app": app} if isinstance(app, str) else {"step": app})


@exact
def emit(text: Any) -> Step:
    """Send text to the clients that listen to the run."""
    return Step("emit", {"text": text})


@exact
def http(url: Any, *, method: str = "GET", headers: Any = None, body: Any = None) -> Step:
    """Send a request to a public URL. The result is an object with ``status``, ``headers`` and ``text``."""
    return Step("http", without_none(method=method, url=url, headers=headers, body=body))


def pipeline(*steps: StepLike, **named: StepLike) -> Step:
    """Run the steps one after another, each with the output of the previous step as input."""
    return Step("pipeline", {"steps": steps_of(steps, named)})


def parallel(
    *steps: StepLike,
    join: Join = "list",
    separator: str = "\n",
    concurrency: int = 0,
    collect: bool = False,
    **named: StepLike,
) -> Step:
    """Pass the same value to every step, and run the steps in parallel.

    ``join``: how the outputs become one value. ``list``: a list of all outputs. ``dict``: an object keyed by step
    name. ``sum``: numbers are added, lists and texts concatenated. ``text``: texts are joined with ``separator``.
    ``zip``: the first items of all outputs together, then the second items, and so on. ``collect``: an error becomes
    the output of its step, instead of ending the flow.
    """
    return Step("parallel", join_fields(steps, named, join, separator, concurrency, collect))


def diverter(
    *steps: StepLike,
    join: Join = "list",
    separator: str = "\n",
    concurrency: int = 0,
    collect: bool = False,
    **named: StepLike,
) -> Step:
    """Pass the first item to the first step, the second item to the second step, and so on, in parallel. See
    `parallel`.
    """
    return Step("diverter", join_fields(steps, named, join, separator, concurrency, collect))


@exact
def warp(step: StepLike, *, over: Any = None, concurrency: int = 8, collect: bool = False) -> Step:
    """Run a step for every item, up to ``concurrency`` at a time. Return a list of the outputs in the order of the
    items.
    """
    return Step("warp", without_none(step=step, over=over, concurrency=concurrency, collect=collect or None))


@exact
def switch(cases: Mapping[Any, StepLike], *, on: Any = None, default: StepLike | None = None) -> Step:
    """Run the step of the first matching case, or ``default``. A key is a value to compare with, or a predicate
    function.

    ``on``: the value to test, by default the incoming value; or a step that computes it, such as `intent`. The chosen
    step always receives the incoming value.
    """
    if not isinstance(on, Step):
        return Step("switch", without_none(cases=list(cases.items()), on=on, default=default))
    router = on
    if on.kind == "intent" and not on.fields["intents"]:
        router = replace(on, fields={**on.fields, "intents": {str(case): {} for case in cases}})
    name = on.name or on.kind
    step = switch(cases, on=output(name), default=default)
    return Step("graph", {"steps": {name: router, "case" if name != "case" else "chosen": step}})


@exact
def branch(condition: Any, then: StepLike, otherwise: StepLike | None = None) -> Step:
    """Run ``then`` if the condition (a function of the incoming value, or a value) is true. Otherwise, run
    ``otherwise`` if given.
    """
    return Step("branch", {"condition": condition, "then": then, "else": otherwise})


@exact
def loop(
    step: StepLike,
    *,
    limit: int,
    until: Any = None,
    state: Mapping[str, Any] | None = None,
    exhausted: Literal["return", "fail"] = "return",
) -> Step:
    """Repeat a step, with each output as the next input, until the function ``until`` returns true for an output.

    The step runs at most ``limit`` times. ``exhausted``: whether reaching this limit is an error.
    """
    return Step(
        "loop",
        without_none(
            step=step,
            limit=limit,
            until=until,
            state=state,
            exhausted=exhausted if exhausted != "return" else None,
        ),
    )


def graph(
    *,
    output: Any = None,
    after: Mapping[str, Sequence[str]] | None = None,
    concurrency: int = 0,
    **named: StepLike,
) -> Step:
    """Run each step once all steps that it refers to, or that ``after`` lists for it, have ended. ``output`` defaults
    to the output of the last step.
    """
    return Step(
        "graph",
        without_none(
            steps=steps_of((), named),
            after={name: list(dependencies) for name, dependencies in after.items()} if after else None,
            output=output,
            concurrency=concurrency or None,
        ),
    )


def bind(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Step:
    """Bind the arguments of a function: ``bind(join, _0, sep=input.sep)``. `_0` is the first incoming value."""
    return step_of(function).bind(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Flow:
    """A step together with the settings of the whole flow; see `flow`. ``functions`` are the functions that run in
    this process, keyed by name.

    Example::

        from portico import Client
        from portico.flow import flow, llm, pipeline

        letter = flow(pipeline(draft=llm("default", system="Write a letter.")), name="letter", input=str)
        with Client() as client:
            print(client.run(letter, "Thank you"))
    """

    spec: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]
    reasons: Mapping[str, str]
    """The reason why each of ``functions`` must run in this process."""
    near: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """The functions of agents in the flow, keyed by the names under which a run started by this process calls them."""
    tools: Mapping[str, Function] = field(default_factory=dict)
    """The functions of agents in the flow, keyed by the names under which they are served for a deployed app."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])


@exact
def flow(
    step: StepLike,
    *,
    name: str = "",
    title: str = "",
    description: str = "",
    input: Any = None,
    output: Any = None,
    durability: Durability = "off",
    timeout: float | None = None,
    redact: Sequence[str] = (),
) -> Flow:
    """Define a whole flow. ``input`` and ``output`` are types or JSON schemas; ``timeout`` is in seconds; ``redact``
    names fields whose values are not recorded.

    ``durability``: ``normal`` keeps a journal, so that a run continues even if the daemon was killed; ``full``
    protects against a power failure as well.
    """
    root = step_of(step)
    flow_name = name or root.name or root.kind
    writer = Writer()
    spec: dict[str, Any] = {"portico_flow": VERSION, "name": flow_name}
    for key, value in (("title", title), ("description", description), ("timeout", timeout)):
        if value:
            spec[key] = value
    for key, kind in (("input_schema", input), ("output_schema", output)):
        if kind is not None:
            spec[key] = dict(kind) if isinstance(kind, Mapping) else schema_of(kind)
    if durability != "off":
        spec["durability"] = durability
    if redact:
        spec["redact"] = list(redact)
    spec["step"] = writer.step(
        root, root.name or identifier(flow_name), Incoming(spec.get("input_schema", {}))
    )
    return Flow(spec, writer.functions, writer.reasons, writer.near, writer.tools)


def flow_of(value: Flow | StepLike | Mapping[str, Any]) -> Flow:
    """Convert a `Flow`, a step, or a JSON specification to a `Flow`."""
    if isinstance(value, Flow):
        return value
    if isinstance(value, Mapping):
        return Flow(value, {}, {})
    return flow(value)
