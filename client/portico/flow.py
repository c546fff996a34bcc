"""Compose flows in Python; the daemon runs them.

A flow consists of steps: models, stores, tools and functions, combined by combinators. Composing a flow executes
nothing: `Client.run` sends its specification (docs/flow-spec.md) to a daemon, which validates and runs it;
`Client.apps.deploy` gives it a name under which it answers like a model.

Functions are steps too. A function that needs nothing from its surroundings is sent as source and runs in the daemon's
sandbox; any other function stays in this process, and is called back during the run.

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
"""Values that steps have stored with `Step.save`, within a loop."""


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
"""Lowercase terms of LazyLLM and Lagent, each with its counterpart in this module. A term that differs from a name of
this module only in case, such as ``Pipeline``, means that name.
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
    """Return the output of an earlier step."""
    return Reference(f"steps.{name}")


def template(text: str, **variables: Any) -> Any:
    """Return text with ``{name}`` placeholders for the given variables; double a brace to keep it as text."""
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
    ``history``: True for the conversation so far, or messages. ``format``: a type (the answer is JSON of that type), a
    JSON schema, or one of "json", "yaml", "last", {"type": "regex", "pattern": …}. ``options`` are OpenAI's; options
    that only some models support go into ``extra_body``.
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
    """Classify the intent of a text: by a model, or with ``embedding`` by similarity alone.

    ``intents``: names, or names with descriptions, or with ``{"description": …, "examples": […]}``. As the subject of
    a `switch`, it uses the intents of the cases: ``switch({"chat": …, "drawing": …}, on=intent())``.
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
    """Return the vector of a text, or the vectors of a list of texts."""
    return Step("embed", without_none(model=model, text=text))


@exact
def agent(name: str | StepMaker, *, message: Any = None, session: Any = None) -> Step:
    """Call an agent, or any app that accepts chat messages: a deployment by name, or a `portico.agent.Agent`."""
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
    """Call a tool; without arguments, pass the incoming object."""
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
    """Order passages or texts by how well they answer a question, by default the flow's `input`."""
    return Step(
        "rerank",
        without_none(model=model, query=input if query is None else query, top_k=top_k, documents=documents),
    )


@exact
def code(function: Callable[..., Any] | str) -> Step:
    """Run a function in the daemon's sandbox. Raises `InvalidRequest` with the reason if it cannot be sent."""
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
    """Run a function in this process: during `Client.run`, or for a deployed app while `Client.serve` serves it.

    ``limit``: seconds that the run waits for it.
    """
    if isinstance(function, str):
        return Step("client", {"function": function, "limit": limit})
    return Step("client", {"limit": limit}, function=function)


@exact
def approve(message: Any, *, returns: Any = None, limit: float = 86_400.0) -> Step:
    """Wait until a person approves. With ``returns`` (a type or JSON schema), the person enters a value instead."""
    schema = (
        None if returns is None else dict(returns) if isinstance(returns, Mapping) else schema_of(returns)
    )
    return Step("approve", without_none(message=message, answer_schema=schema, limit=limit))


@exact
def subflow(app: StepLike | str) -> Step:
    """Use a deployed app by name, or a step that sees only its own input."""
    return Step("subflow", {"app": app} if isinstance(app, str) else {"step": app})


@exact
def emit(text: Any) -> Step:
    """Send text to the listeners of the run."""
    return Step("emit", {"text": text})


@exact
def http(url: Any, *, method: str = "GET", headers: Any = None, body: Any = None) -> Step:
    """Request a public web address; the result is an object with ``status``, ``headers`` and ``text``."""
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
    """Pass the same value to every step, in parallel.

    ``join``: how the outputs become one value. ``list``: all of them. ``dict``: by step name. ``sum``: added (numbers)
    or concatenated (lists, texts). ``text``: joined with ``separator``. ``zip``: the first items together, the second,
    and so on. ``collect``: an error becomes the output of its step, instead of ending the flow.
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
    """Pass the first item to the first step, the second to the second, in parallel. See `parallel`."""
    return Step("diverter", join_fields(steps, named, join, separator, concurrency, collect))


@exact
def warp(step: StepLike, *, over: Any = None, concurrency: int = 8, collect: bool = False) -> Step:
    """Run a step for every item, ``concurrency`` in parallel; return a list in the order of the items."""
    return Step("warp", without_none(step=step, over=over, concurrency=concurrency, collect=collect or None))


@exact
def switch(cases: Mapping[Any, StepLike], *, on: Any = None, default: StepLike | None = None) -> Step:
    """Run the first matching case, or ``default``. A key is a value to compare with, or a predicate function.

    ``on``: the value to test, by default the incoming value; or a step that computes it, such as `intent`. The step of
    the case receives the incoming value in all cases.
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
    """Run ``then`` if the condition (a function of the incoming value, or a value) is true; otherwise ``otherwise``,
    or nothing.
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
    """Repeat a step with its output as the next input, until the function ``until`` returns true for it.

    At most ``limit`` rounds; ``exhausted``: whether reaching the limit is an error.
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
    """Run each step once the steps it refers to, or names in ``after``, have ended. ``output``: by default the last
    step's.
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
    """Bind arguments of a function: ``bind(join, _0, sep=input.sep)``. `_0` is the first incoming value."""
    return step_of(function).bind(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Flow:
    """A step with the settings of the whole flow: see `flow`. ``functions`` are the functions that stay in this
    process, by name.

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
    """The reason for each function that stays."""
    near: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """The functions of its agents, by the names used in a run that is followed from this process."""
    tools: Mapping[str, Function] = field(default_factory=dict)
    """The same functions, by the names under which they are served for a deployed app."""

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
    """Define the whole flow. ``input`` and ``output`` are types or JSON schemas; ``timeout`` is in seconds; ``redact``
    names fields whose values are not recorded.

    ``durability``: ``normal`` keeps a journal, so that a run continues after the daemon was killed; ``full`` also
    after a power failure.
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
    """Return a `Flow` from a `Flow`, a step, or a specification as JSON."""
    if isinstance(value, Flow):
        return value
    if isinstance(value, Mapping):
        return Flow(value, {}, {})
    return flow(value)
