"""The operations of a specification: each is parsed from the fields of a step into a value defined in
`portico_server.features.flows.spec`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol, get_args

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.pattern import require_python_pattern
from portico_server.features.flows import expression
from portico_server.features.flows.expression import VALUE, CodeExpression, ReferenceExpression, are_equal
from portico_server.features.flows.fields import FlowFields
from portico_server.features.flows.spec import (
    AgentStep,
    ApproveStep,
    BranchStep,
    Case,
    ClientStep,
    CodeStep,
    DiverterStep,
    EmbedStep,
    EmitStep,
    FlowStep,
    GraphStep,
    HttpStep,
    IntentStep,
    Join,
    LlmStep,
    LoopStep,
    Op,
    OutputFormat,
    ParallelStep,
    PipelineStep,
    RerankStep,
    RetrieveStep,
    SubflowStep,
    SwitchStep,
    ToolStep,
    WarpStep,
)
from portico_server.features.flows.tree import references


class StepParser(Protocol):
    """Parses the steps inside a step."""

    def steps(self, fields: FlowFields) -> tuple[FlowStep, ...]: ...

    def inner(self, fields: FlowFields, key: str, *, is_needed: bool = True) -> FlowStep | None: ...


def _format(fields: FlowFields) -> OutputFormat:
    value = fields.raw("format")
    return OutputFormat() if value is None else format_of(value, fields.path("format"))


def format_of(value: Any, at: str) -> OutputFormat:
    """Parse a formatter: a name, or an object with ``type`` and options."""
    inner = FlowFields({"type": value} if isinstance(value, str) else value, at)
    kind = inner.text("type") or "json"
    if kind not in ("text", "json", "yaml", "regex", "last"):
        raise InvalidRequest(
            f"{at}.type is '{kind}'; it must be one of text, json, yaml, regex, last.", param=at
        )
    pattern = inner.text("pattern")
    if kind == "regex":
        if not pattern:
            raise InvalidRequest(f"{at} needs a 'pattern'.", param=f"{at}.pattern")
        require_python_pattern(pattern, f"{at}.pattern")
    output_format = OutputFormat(
        type=kind,  # type: ignore[arg-type]  # it is one of them
        schema=inner.mapping("schema"),
        pattern=pattern,
        group=inner.integer("group", 0, limit=99),
        attempts=inner.integer("attempts", 2, minimum=1, limit=10),
    )
    inner.check_unread()
    return output_format


def _llm(_reader: StepParser, fields: FlowFields) -> Op:
    return LlmStep(
        model=fields.text("model") or "default",
        system=fields.prompt("system"),
        user=fields.prompt("user"),
        messages=fields.expression("messages"),
        history=fields.expression("history"),
        few_shot=fields.expression("few_shot"),
        options=fields.options("options"),
        format=_format(fields),
    )


def _intent(_reader: StepParser, fields: FlowFields) -> Op:
    given_intents = fields.mapping("intents") or {}
    at = fields.path("intents")
    if not given_intents:
        raise InvalidRequest(f"{at} must name at least one intent, as an object NAME: DESCRIPTION.", param=at)
    intents: dict[str, Mapping[str, Any]] = {}
    for name, item in given_intents.items():
        inner = FlowFields({"description": item} if isinstance(item, str) else item, f"{at}.{name}")
        intents[name] = {"description": inner.text("description"), "examples": inner.texts("examples")}
        inner.check_unread()
    default = fields.text("default")
    if default and default not in intents:
        raise InvalidRequest(
            f"{fields.path('default')} is '{default}', which is not one of the "
            f"intents.{nearest(default, intents)}",
            param=fields.path("default"),
        )
    return IntentStep(
        text=fields.expression("text", VALUE) or VALUE,
        intents=intents,
        model=fields.text("model") or "default",
        embedding=fields.text("embedding"),
        history=fields.expression("history"),
        default=default,
    )


def _embed(_reader: StepParser, fields: FlowFields) -> Op:
    return EmbedStep(fields.text("model") or "default-embedding", fields.expression("text", VALUE) or VALUE)


def _agent(_reader: StepParser, fields: FlowFields) -> Op:
    inline = fields.mapping("agent") if fields.is_mapping("agent") else None
    if inline is None:
        name = fields.required_text("agent", "the name of an agent or app, or an agent specification")
    else:
        name = str(inline.get("name") or "agent")
    return AgentStep(name, fields.prompt("message") or VALUE, fields.expression("session"), inline)


def _tool(_reader: StepParser, fields: FlowFields) -> Op:
    return ToolStep(
        fields.required_text("tool", "the name of a tool"), fields.expression("arguments", VALUE) or VALUE
    )


def _retrieve(_reader: StepParser, fields: FlowFields) -> Op:
    stores = fields.texts("stores") or ((fields.text("store"),) if fields.has("store") else ())
    if not stores or not all(stores):
        raise InvalidRequest(
            f"{fields.at} requires 'store', the name of a store, or 'stores'.", param=fields.path("store")
        )
    ranker = fields.text("ranker") or "auto"
    rankers = ("auto", "lexical", "vector", "hybrid", "rrf")
    if ranker not in rankers:
        at = fields.path("ranker")
        raise InvalidRequest(f"{at} is '{ranker}'; it must be one of {', '.join(rankers)}.", param=at)
    return RetrieveStep(
        stores=stores,
        query=fields.expression("query", VALUE) or VALUE,
        top_k=fields.integer("top_k", 10, minimum=1, limit=1000),
        groups=fields.texts("groups"),
        ranker=ranker,  # type: ignore[arg-type]  # it is one of them
        threshold=fields.number("threshold", 0.0, maximum=1.0) or 0.0,
        filters=fields.expression("filters"),
    )


def _rerank(_reader: StepParser, fields: FlowFields) -> Op:
    query = fields.expression("query")
    if query is None:
        raise InvalidRequest(
            f'{fields.at} requires \'query\', such as {{"$ref": "input"}}.', param=fields.path("query")
        )
    top_k = fields.integer("top_k", 0, limit=10_000)
    return RerankStep(
        model=fields.required_text("model", "the name of a rerank model"),
        query=query,
        documents=fields.expression("documents", VALUE) or VALUE,
        top_k=top_k or None,
    )


def _code(_reader: StepParser, fields: FlowFields) -> Op:
    source = fields.required_text("source", "the source of a Python function or lambda")
    args, kwargs = fields.arguments()
    return CodeStep(CodeExpression(source, (VALUE,) if args is None else args, kwargs, fields.path("source")))


def _client(_reader: StepParser, fields: FlowFields) -> Op:
    args, kwargs = fields.arguments()
    return ClientStep(
        function=fields.required_text("function", "the name under which a client serves the function"),
        args=(VALUE,) if args is None else args,
        kwargs=kwargs,
        limit=fields.number("limit", 300.0, minimum=0.01, maximum=604_800) or 300.0,
    )


def _approve(_reader: StepParser, fields: FlowFields) -> Op:
    return ApproveStep(
        message=fields.prompt("message") or VALUE,
        answer_schema=fields.mapping("answer_schema"),
        limit=fields.number("limit", 86_400.0, minimum=0.01, maximum=31_536_000) or 86_400.0,
    )


def _subflow(reader: StepParser, fields: FlowFields) -> Op:
    app = fields.text("app")
    step = reader.inner(fields, "step", is_needed=not app)
    if app and step is not None:
        raise InvalidRequest(
            f"{fields.at} has both 'app' and 'step'; omit one of them.", param=fields.path("step")
        )
    return SubflowStep(app, step, VALUE)


def _emit(_reader: StepParser, fields: FlowFields) -> Op:
    return EmitStep(fields.prompt("text") or VALUE)


def _http(_reader: StepParser, fields: FlowFields) -> Op:
    url = fields.prompt("url")
    if url is None:
        raise InvalidRequest(f"{fields.at} needs 'url'.", param=fields.path("url"))
    method = (fields.text("method") or "GET").upper()
    if method not in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        raise InvalidRequest(
            f"{fields.path('method')} is '{method}', which is not an HTTP method.",
            param=fields.path("method"),
        )
    return HttpStep(method, url, fields.expression("headers"), fields.expression("body"))


def _pipeline(reader: StepParser, fields: FlowFields) -> Op:
    return PipelineStep(reader.steps(fields), fields.expression("output"))


def _read_join(reader: StepParser, fields: FlowFields) -> tuple[tuple[FlowStep, ...], Join, str, int, bool]:
    join = fields.text("join") or "list"
    if join not in get_args(Join):
        at = fields.path("join")
        raise InvalidRequest(f"{at} is '{join}'; it must be one of {', '.join(get_args(Join))}.", param=at)
    return (
        reader.steps(fields),
        join,  # type: ignore[return-value]  # it is one of them
        fields.text("separator", "\n"),
        fields.integer("concurrency", 0, limit=10_000),
        bool(fields.flag("collect")),
    )


def _parallel(reader: StepParser, fields: FlowFields) -> Op:
    return ParallelStep(*_read_join(reader, fields))


def _diverter(reader: StepParser, fields: FlowFields) -> Op:
    return DiverterStep(*_read_join(reader, fields))


def _warp(reader: StepParser, fields: FlowFields) -> Op:
    step = reader.inner(fields, "step")
    assert step is not None
    return WarpStep(
        step=step,
        over=fields.expression("over", VALUE) or VALUE,
        concurrency=fields.integer("concurrency", 8, minimum=1, limit=10_000),
        collect=bool(fields.flag("collect")),
    )


def _switch(reader: StepParser, fields: FlowFields) -> Op:
    items = fields.items("cases")
    if not items:
        raise InvalidRequest(
            f"{fields.at} requires 'cases', a list with at least one case.", param=fields.path("cases")
        )
    cases: list[Case] = []
    seen_values: list[Any] = []
    for number, item in enumerate(items):
        inner = FlowFields(item, f"{fields.path('cases')}[{number}]")
        case = Case(
            equals=inner.expression("equals"), when=inner.expression("when"), step=_read_need(reader, inner)
        )
        inner.check_unread()
        if (case.equals is None) == (case.when is None):
            raise InvalidRequest(f"{inner.at} requires either 'equals' or 'when'.", param=inner.at)
        if isinstance(case.equals, expression.LiteralExpression):
            if any(are_equal(case.equals.value, seen_value) for seen_value in seen_values):
                raise InvalidRequest(
                    f"{inner.at} is unreachable: an earlier case has the same 'equals'.",
                    code="unreachable_step",
                    param=inner.at,
                )
            seen_values.append(case.equals.value)
        cases.append(case)
    return SwitchStep(
        fields.expression("on", VALUE) or VALUE,
        tuple(cases),
        reader.inner(fields, "default", is_needed=False),
    )


def _read_need(reader: StepParser, fields: FlowFields) -> FlowStep:
    step = reader.inner(fields, "step")
    assert step is not None
    return step


def _branch(reader: StepParser, fields: FlowFields) -> Op:
    condition = fields.expression("condition", VALUE) or VALUE
    flow_step = reader.inner(fields, "then")
    assert flow_step is not None
    return BranchStep(condition, flow_step, reader.inner(fields, "else", is_needed=False))


def _loop(reader: StepParser, fields: FlowFields) -> Op:
    at = fields.path("limit")
    if not fields.has("limit"):
        raise InvalidRequest(
            f"{fields.at} requires 'limit', the maximum number of rounds.", code="loop_without_end", param=at
        )
    on_exhausted = fields.text("exhausted") or "return"
    if on_exhausted not in ("return", "fail"):
        raise InvalidRequest(
            f"{fields.path('exhausted')} is 'return' or 'fail'.", param=fields.path("exhausted")
        )
    return LoopStep(
        step=_read_need(reader, fields),
        limit=fields.integer("limit", 1, minimum=1, limit=1_000_000),
        until=fields.expression("until"),
        state=fields.expression("state"),
        exhausted=on_exhausted,  # type: ignore[arg-type]  # it is one of them
    )


def _graph(reader: StepParser, fields: FlowFields) -> Op:
    dependencies = fields.mapping("after") or {}
    steps = reader.steps(fields)
    names = [step.name for step in steps]
    step_names = frozenset(names)
    after: dict[str, frozenset[str]] = {}
    for step in steps:
        at = f"{fields.path('after')}.{step.name}"
        wanted_names = dependencies.pop(step.name, [])
        if not isinstance(wanted_names, list) or not all(isinstance(name, str) for name in wanted_names):
            raise InvalidRequest(f"{at} must be a list of step names.", param=at)
        for name in wanted_names:
            _require_known(name, names, at)
        after[step.name] = frozenset(wanted_names) | (references(step) & step_names) - {step.name}
    for name in dependencies:
        _require_known(name, names, fields.path("after"))
    order = _sort_steps(after, fields.at)
    output = fields.expression("output") or ReferenceExpression("steps", names[-1], (), fields.path("output"))
    return GraphStep(steps, after, order, output, fields.integer("concurrency", 0, limit=10_000))


def _require_known(name: str, names: Sequence[str], at: str) -> None:
    if name not in names:
        raise InvalidRequest(
            f"{at}: the step '{name}' does not exist.{nearest(name, names)}", code="unknown_step", param=at
        )


def _sort_steps(after: Mapping[str, frozenset[str]], at: str) -> tuple[str, ...]:
    """Return the names of the steps in the order of their dependencies. Raise `InvalidRequest` if steps wait for each
    other.
    """
    try:
        return tuple(TopologicalSorter(after).static_order())
    except CycleError as error:
        circle = sorted(set(error.args[1]))
        raise InvalidRequest(
            f"{at}: the steps {', '.join(circle[:20])} wait for each other.", code="cycle", param=at
        ) from error


OPS: Mapping[str, Callable[[StepParser, FlowFields], Op]] = {
    "llm": _llm,
    "intent": _intent,
    "embed": _embed,
    "agent": _agent,
    "tool": _tool,
    "retrieve": _retrieve,
    "rerank": _rerank,
    "code": _code,
    "client": _client,
    "approve": _approve,
    "subflow": _subflow,
    "emit": _emit,
    "http": _http,
    "pipeline": _pipeline,
    "parallel": _parallel,
    "diverter": _diverter,
    "warp": _warp,
    "switch": _switch,
    "branch": _branch,
    "loop": _loop,
    "graph": _graph,
}
