"""A step that acts asks a person if its arguments, or the decision to run it, may come from foreign data.

The steps are obedient: they send to the recipient that a document names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import ApiServer, api_server
from tests.registry_fixture import FixedModel, FixedStore, passage
from tests.server.features.flows.steps import code, pipeline, ref, spec

from portico.wire import Asked, Failed, Finished
from portico_server.core.context import Context
from portico_server.core.origins import INPUT_ORIGINS, ORIGINS, Origins
from portico_server.core.principal import LOCAL
from portico_server.core.request import AppInput, ToolResult
from portico_server.core.scoped_value import ScopedValue
from portico_server.features.tools.entry import Rule
from portico_server.features.tools.tool import Tool
from portico_server.runs.run import Run

EVE = "eve@example.com"
ADA = "ada@example.com"


class MailDesk:
    """A daemon with a store that contains an order, tools that send mail, and a record of their calls."""

    def __init__(self, daemon: ApiServer) -> None:
        self.daemon = daemon
        self.mails: list[str] = []
        self.questions: list[Asked] = []
        registry = daemon.services.registry
        registry.add(FixedStore("docs", [passage(1, EVE, "handbook.pdf")]))
        registry.add(FixedModel(EVE))
        self.add("mail", read_only=False)
        self.add("inbox", read_only=True)
        self.add("echo", read_only=True, computed=True)

    def add(
        self, name: str, *, read_only: bool, computed: bool = False, rule: Rule = "data", text: str = EVE
    ) -> None:
        async def work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
            if not read_only:
                self.mails.append(arguments["to"])
            return ToolResult(str(arguments.get("to", text)))

        schema = {"type": "object", "properties": {"to": {}}}
        tool = Tool(name, "", "", schema, work, read_only=read_only, computed=computed, source="mcp:desk")
        self.daemon.services.toolbox.add(tool, rule, replace=True)

    @property
    def flows(self) -> Any:
        return self.daemon.services.features.find("flows")

    async def deploy(self, name: str, step: Mapping[str, Any]) -> dict[str, Any]:
        """Deploy a flow. Return the daemon's answer."""
        body = {"name": name, "kind": "flow", "spec": spec(step)}
        answer = await self.daemon.client.post("/api/apps", json=body)
        assert answer.is_success, answer.text
        deployed: dict[str, Any] = answer.json()
        return deployed

    async def begin(self, step: Mapping[str, Any], flow_input: Any = ADA, **fields: Any) -> Run:
        flow = await self.flows.read(spec(step, **fields), LOCAL)
        run: Run = await self.flows.begin(flow, flow_input, LOCAL)
        return run

    async def run(self, step: Mapping[str, Any], flow_input: Any = ADA, **fields: Any) -> Any:
        """Return the output of a flow, or its error. A person approves the steps that ask, and refuses all tools."""
        self.mails.clear()
        self.questions.clear()
        return await self.follow(await self.begin(step, flow_input, **fields))

    async def follow(self, run: Run, *, accepts_tools: bool = False) -> Any:
        outcome: Any = None
        async for _number, event in run.log.follow():
            if isinstance(event, Asked):
                is_tool = event.name in ("mail", "page", "http_request")
                self.questions.extend([event] if is_tool else [])
                is_accepted = accepts_tools or not is_tool
                value = True if event.answer_schema else None
                await self.daemon.services.questions.answer(
                    event.id, LOCAL, is_accepted=is_accepted, value=value
                )
            elif isinstance(event, Finished):
                outcome = event.result
            elif isinstance(event, Failed):
                outcome = event.error
        return outcome


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[MailDesk]:
    async with api_server(tmp_path, tool_hosts="127.0.0.1") as server:
        yield MailDesk(server)


FIND = {"op": "retrieve", "name": "find", "store": "docs", "query": "news"}
TEXT = code("lambda passages: passages[0]['text']", "text")
TRUE = code("lambda passages: True", "truth")
APPROVE = {"op": "approve", "name": "check", "message": "Send it?"}


def mail(to: Any = None, name: str = "mail", **fields: Any) -> dict[str, Any]:
    """Return a step that sends a mail, by default to the step's input value."""
    arguments = {"to": ref("value") if to is None else to}
    return {"op": "tool", "name": name, "tool": "mail", "arguments": arguments, **fields}


def branch(condition: Any, step: Any, **fields: Any) -> dict[str, Any]:
    return {"op": "branch", "name": "branch", "condition": condition, "then": step, **fields}


def switch(on: Any, *steps: Any, **fields: Any) -> dict[str, Any]:
    cases = [{"equals": number, "step": step} for number, step in enumerate(steps)]
    return {"op": "switch", "name": "switch", "on": on, "cases": cases, **fields}


def parallel(*steps: Any, **fields: Any) -> dict[str, Any]:
    return {"op": "parallel", "name": "parallel", "steps": list(steps), **fields}


def warp(step: Any, over: Any = None, **fields: Any) -> dict[str, Any]:
    return {"op": "warp", "name": "warp", "step": step, **({} if over is None else {"over": over}), **fields}


def loop(step: Any, **fields: Any) -> dict[str, Any]:
    return {"op": "loop", "name": "loop", "step": step, "limit": 2, **fields}


def graph(*steps: Any, **fields: Any) -> dict[str, Any]:
    return {"op": "graph", "name": "graph", "steps": list(steps), **fields}


def template(text: str, **variables: Any) -> dict[str, Any]:
    return {"$template": text, "$with": variables}


def llm(**fields: Any) -> dict[str, Any]:
    return {"op": "llm", "name": "llm", "model": "voice", **fields}


INTENT = {
    "op": "intent",
    "name": "intent",
    "model": "voice",
    "text": template("{t}", t=ref("value")),
    "intents": {"send": "Send it.", "wait": "Wait."},
    "default": "send",
}
FAILING = code("lambda passages: int(passages[0]['text'])", "failing")

ATTACKS: dict[str, Any] = {
    "retrieve, code, tool": pipeline(FIND, TEXT, mail()),
    "reference with a path": pipeline(FIND, mail(ref("value[0].text"))),
    "reference to an earlier step": pipeline(FIND, code("lambda: 1", "one", args=[]), mail(ref("steps.find[0].text"))),
    "template": pipeline(FIND, mail(template("{t}", t=ref("value[0].text")))),
    "template over the value": pipeline(
        FIND, code("lambda p: {'t': p[0]['text']}", "keyed"), llm(user="{t}"), mail()
    ),
    "comparison": pipeline(FIND, mail({"$eq": [ref("value[0].text"), EVE]})),
    "nested object": pipeline(FIND, mail({"addresses": [{"main": ref("value[0].text")}]})),
    "input of the step": pipeline(FIND, mail(input=ref("value[0].text"))),
    "default of a reference": pipeline(FIND, mail(ref("value[9].text", **{"$default": EVE}))),
    "code with arguments": pipeline(FIND, code("lambda p: p[0]['text']", "c", args=[ref("steps.find")]), mail()),
    "code with named arguments": pipeline(
        FIND, code("lambda *, p: p[0]['text']", "c", kwargs={"p": ref("steps.find")}), mail()
    ),
    "spread arguments": pipeline(
        FIND, code("lambda *p: p[0]['text']", "c", args=[{"$spread": ref("value")}]), mail()
    ),
    "llm": pipeline(FIND, TEXT, llm(), mail()),
    "llm with few-shot examples": pipeline(
        FIND,
        llm(user="To whom?", few_shot=[{"role": "user", "content": ref("value[0].text")}]),
        mail(),
    ),
    "app as a model": pipeline(llm(model="docs", user="To whom?"), mail()),
    "agent step": pipeline({"op": "agent", "name": "agent", "agent": "docs", "message": "?"}, mail()),
    "read-only tool": pipeline({"op": "tool", "name": "read", "tool": "inbox", "arguments": {}}, mail()),
    "computed tool on data": pipeline(
        FIND,
        {"op": "tool", "name": "copy", "tool": "echo", "arguments": {"to": ref("value[0].text")}},
        mail(),
    ),
    "rerank by data": pipeline(
        FIND,
        code("lambda p: {'q': p[0]['text']}", "q"),
        code("lambda q: [q['q']]", "documents"),
        mail(ref("value[0]")),
    ),
    "when": pipeline(FIND, TEXT, mail(ADA, when={"$eq": [ref("value"), EVE]})),
    "when of an outer step": pipeline(
        FIND, pipeline(mail(ADA), name="inner", when={"$eq": [ref("value[0].text"), EVE]})
    ),
    "branch condition": pipeline(FIND, TRUE, branch(ref("value"), mail(ADA))),
    "output of a branch": pipeline(
        FIND, TRUE, branch(ref("value"), code("lambda v: 'x'", "x")), mail()
    ),
    "branch without else": pipeline(FIND, TEXT, branch(False, code("lambda v: 1", "x")), mail()),
    "switch": pipeline(FIND, switch({"$eq": [ref("value[0].text"), EVE]}, mail(ADA), default=mail(ADA, "m2"))),
    "condition of a case": pipeline(
        FIND,
        {
            "op": "switch",
            "name": "s",
            "on": 1,
            "cases": [{"when": {"$eq": [ref("value[0].text"), EVE]}, "step": mail(ADA)}],
        },
    ),
    "intent and switch": pipeline(
        FIND,
        INTENT,
        {"op": "switch", "name": "s", "cases": [{"equals": "send", "step": mail(ADA)}], "default": mail(ADA, "m2")},
    ),
    "loop value": pipeline(FIND, TEXT, loop(mail())),
    "second round of a loop": loop(
        pipeline(mail(ref("value"), when={"$eq": [ref("index"), 1]}), FIND, TEXT), input=ADA
    ),
    "loop condition": loop(
        pipeline(mail(ADA), FIND), until={"$eq": [ref("value[0].text"), "stop"]}
    ),
    "state of a loop": loop(
        pipeline(
            pipeline({**FIND, "save": "passages"}, name="reading"),
            mail(ref("state.passages[0].text")),
        ),
        state={"passages": []},
    ),
    "map over data": pipeline(FIND, warp(mail(ref("item.text")))),
    "map with a literal": pipeline(FIND, warp(mail(ADA))),
    "index of a map": pipeline(FIND, warp(mail(ref("index")))),
    "output of a map": pipeline(FIND, warp(TEXT_OF := code("lambda p: p['text']", "t")), mail(ref("value[0]"))),
    "subflow": pipeline(FIND, TEXT, {"op": "subflow", "name": "sub", "step": mail()}),
    "input of a subflow": pipeline(FIND, TEXT, {"op": "subflow", "name": "sub", "step": mail(ref("input"))}),
    "deployed flow that acts": pipeline(FIND, TEXT, {"op": "subflow", "name": "sub", "app": "sender"}),
    "condition of a deployed flow": pipeline(
        FIND, {"op": "subflow", "name": "sub", "app": "reminder", "when": {"$eq": [ref("value[0].text"), EVE]}}
    ),
    "deployed flow that reads": pipeline({"op": "subflow", "name": "sub", "app": "finder"}, mail()),
    "flow as a model": pipeline(llm(model="finder", user="?"), mail()),
    "store app": pipeline({"op": "subflow", "name": "sub", "app": "docs", "input": "?"}, mail()),
    "join": pipeline(parallel(FIND, code("lambda v: 1", "one"), join="list"), mail(ref("value[0]"))),
    "nested parallel": pipeline(
        parallel(parallel(FIND, name="inner"), join="list"), mail(ref("value[0][0][0].text"))
    ),
    "parallel step": pipeline(FIND, TEXT, parallel(mail())),
    "diverter": pipeline(
        FIND, code("lambda p: [p[0]['text']]", "l"), {"op": "diverter", "name": "d", "steps": [mail()]}
    ),
    "graph": graph(FIND, mail(ref("steps.find[0].text"))),
    "output of a graph": pipeline(graph(FIND, output=ref("steps.find[0].text")), mail()),
    "output of a pipeline": pipeline(
        pipeline(FIND, code("lambda p: 1", "one"), output=ref("steps.find[0].text"), name="inner"), mail()
    ),
    "error message": pipeline(
        FIND, {**FAILING, "on_error": {"value": ref("value.error.message")}}, mail()
    ),
    "error value chosen by data": pipeline(FIND, {**FAILING, "on_error": {"value": ADA}}, mail()),
    "error of a collected step": pipeline(
        FIND, parallel(FAILING, collect=True), mail(ref("value[0].error.message"))
    ),
    "jump after an error": pipeline(
        FIND, {**FAILING, "on_error": {"goto": "mail"}}, code("lambda v: v", "between"), mail(ADA)
    ),
    "jump over an approval": pipeline(
        FIND, {**FAILING, "on_error": {"goto": "mail"}}, APPROVE, mail(ref("steps.find[0].text"))
    ),
    "approval before the data": pipeline(APPROVE, FIND, TEXT, mail()),
    "conditional approval": pipeline(FIND, TEXT, {**APPROVE, "when": {"$eq": [1, 2]}}, mail()),
    "approval in one branch": pipeline(
        FIND, TEXT, branch({"$eq": [ref("input"), "?"]}, APPROVE), mail()
    ),
    "approval whose refusal is replaced": pipeline(
        FIND, TEXT, pipeline(APPROVE, name="inner", on_error={"value": 1}), mail(ref("steps.text"))
    ),
    "approval per item of an empty list": pipeline(
        FIND, TEXT, warp(APPROVE, over=[]), mail(ref("steps.text"))
    ),
    "approval of another branch": pipeline(parallel(pipeline(FIND, name="a"), APPROVE), mail(ref("value[0]"))),
    "data after the approval": pipeline(FIND, APPROVE, {**FIND, "name": "again"}, mail(ref("value[0].text"))),
    "http method that changes something": pipeline(
        FIND,
        {
            "op": "http",
            "name": "post",
            "method": "POST",
            "url": "http://127.0.0.1:9/",
            "body": ref("value[0].text"),
        },
    ),
    "http address": pipeline(
        FIND,
        {
            "op": "http",
            "name": "delete",
            "method": "DELETE",
            "url": template("http://127.0.0.1:9/{t}", t=ref("value[0].text")),
        },
    ),
}  # fmt: skip

HARMLESS: dict[str, Any] = {
    "input": mail(ref("input")),
    "literal": mail(ADA),
    "literal after data": pipeline(FIND, mail(ADA)),
    "input after data": pipeline(FIND, TEXT, mail(ref("input"))),
    "template of the input": pipeline(FIND, mail(template("{to}", to=ref("input")))),
    "code on the input": pipeline(FIND, code("lambda to: to", "c", args=[ref("input")]), mail()),
    "model without data": pipeline(FIND, llm(user="To whom?"), mail()),
    "computed tool": pipeline(
        {"op": "tool", "name": "copy", "tool": "echo", "arguments": {"to": ref("input")}}, mail()
    ),
    "data after the call": pipeline(mail(), FIND),
    "branch on the input": pipeline(FIND, branch({"$eq": [ref("input"), ADA]}, mail(ADA))),
    "switch on the input": pipeline(FIND, switch({"$eq": [ref("input"), ADA]}, mail(ADA), default=mail(ADA, "m2"))),
    "other branch of a parallel": parallel(FIND, mail()),
    "map over the input": pipeline(FIND, warp(mail(ref("item")), over=[ADA, ADA])),
    "loop without data": loop(mail(ref("input"))),
    "loop with data and literals": loop(pipeline(FIND, mail(ADA))),
    "subflow on the input": pipeline(
        FIND, {"op": "subflow", "name": "sub", "input": ref("input"), "step": mail()}
    ),
    "deployed flow with its own recipient": pipeline(FIND, {"op": "subflow", "name": "sub", "app": "reminder"}),
    "deployed flow on the input": pipeline(
        FIND, {"op": "subflow", "name": "sub", "app": "sender", "input": ref("input")}
    ),
    "deployed flow that only computes": pipeline(
        {"op": "subflow", "name": "sub", "app": "computing", "input": ref("input")}, mail()
    ),
    "graph with independent steps": graph(FIND, mail(ref("input"))),
    "parallel pipelines": parallel(
        pipeline(FIND, TEXT, name="a"), pipeline(code("lambda v: v", "c"), mail(), name="b")
    ),
    "approved": pipeline(FIND, TEXT, APPROVE, mail()),
    "approved before a reference": pipeline(FIND, TEXT, APPROVE, mail(ref("steps.find[0].text"))),
    "approved condition": pipeline(FIND, TRUE, APPROVE, branch(ref("value"), mail(ADA))),
    "approved in an inner pipeline": pipeline(FIND, TEXT, pipeline(APPROVE, name="inner"), mail(ref("steps.text"))),
    "approved in all branches": pipeline(
        FIND,
        TEXT,
        branch({"$eq": [ref("value"), EVE]}, APPROVE, **{"else": {**APPROVE, "name": "check2"}}),
        mail(ref("steps.text")),
    ),
    "approved item": pipeline(FIND, warp(pipeline(APPROVE, mail(ref("item.text"))))),
    "approved in a loop": loop(pipeline(FIND, TEXT, APPROVE, mail())),
    "approved output in a graph": graph(
        FIND, {**APPROVE, "input": ref("steps.find")}, mail(ref("steps.check[0].text"))
    ),
    "value that a person entered": pipeline(
        FIND, {**APPROVE, "answer_schema": {"type": "boolean"}}, mail(ADA, when=ref("value"))
    ),
    "error value without data": pipeline(
        FIND, code("lambda v: v", "c", args=[ref("input")], on_error={"value": ADA}), mail()
    ),
}  # fmt: skip


async def deploy_flows(desk: MailDesk) -> None:
    await desk.deploy("sender", mail())
    await desk.deploy("reminder", pipeline(FIND, mail(ADA)))
    await desk.deploy("finder", pipeline(FIND, TEXT))
    await desk.deploy("computing", code("lambda v: v", "c"))


async def test_no_step_acts_on_foreign_data_without_a_person(desk: MailDesk) -> None:
    await deploy_flows(desk)
    silent = []
    for name, step in ATTACKS.items():
        outcome = await desk.run(step)
        if desk.mails or not desk.questions:
            silent.append((name, desk.mails[:], outcome))
        elif " Portico asks because of " not in desk.questions[0].message:
            silent.append((name, desk.questions[0].message, outcome))
    assert silent == []


async def test_no_step_without_foreign_data_asks(desk: MailDesk) -> None:
    await deploy_flows(desk)
    asking = []
    for name, step in HARMLESS.items():
        outcome = await desk.run(step)
        if desk.questions or not desk.mails:
            asking.append((name, desk.questions[:], outcome))
    assert asking == []


@pytest.mark.parametrize(
    ("rule", "mails", "question_count"),
    [("never", [EVE], 0), ("refuse", [], 0), ("data", [], 1), ("always", [], 1)],
)
async def test_the_rule_of_the_tool_decides(
    desk: MailDesk, rule: Rule, mails: Sequence[str], question_count: int
) -> None:
    desk.add("mail", read_only=False, rule=rule)
    await desk.run(ATTACKS["retrieve, code, tool"])
    assert (desk.mails, len(desk.questions)) == (mails, question_count)


@pytest.mark.parametrize(
    ("variable", "step", "is_asked"),
    [
        (INPUT_ORIGINS, mail(ref("input")), True),
        (INPUT_ORIGINS, mail(ADA), False),
        (INPUT_ORIGINS, pipeline(APPROVE, mail(ref("input"))), False),
        (ORIGINS, mail(ADA), True),
        (ORIGINS, pipeline(APPROVE, mail(ADA)), False),
    ],
)
async def test_a_flow_knows_the_data_of_its_caller(
    desk: MailDesk, variable: ContextVar[Origins], step: Mapping[str, Any], is_asked: bool
) -> None:
    with ScopedValue(variable, ("page 3",)):
        await desk.run(step)
    assert [" because of page 3." in question.message for question in desk.questions] == [True] * is_asked
    assert bool(desk.mails) is not is_asked


async def test_earlier_answers_in_a_conversation_are_foreign_data(desk: MailDesk) -> None:
    flow = await desk.flows.read(spec(mail(ref("history[1].content"))), LOCAL)
    history = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": EVE}]
    await desk.follow(await desk.flows.begin(flow, "Write to them.", LOCAL, history))
    [question] = desk.questions
    assert " because of an earlier answer." in question.message and not desk.mails


async def test_a_resumed_call_of_a_flow_knows_the_data_of_its_caller(desk: MailDesk) -> None:
    body = {"name": "sender", "kind": "flow", "spec": spec(mail(), durability="normal")}
    assert (await desk.daemon.client.post("/api/apps", json=body)).is_success
    runner = desk.daemon.services.runner
    with ScopedValue(ORIGINS, ("page 3",)):
        run = await runner.start("test", "sender", AppInput(EVE), LOCAL)
    async for _number, event in run.log.follow():
        if isinstance(event, Asked):
            break
    await run.cancel()
    await desk.daemon.services.scheduler.wait_for_end(run.id)
    await desk.flows.resume(run.id, LOCAL)
    resumed_run = await runner.arrival(run.id, 30, after=run)
    assert resumed_run is not None
    await desk.follow(resumed_run)
    assert [" because of page 3." in question.message for question in desk.questions] == [True]
    assert not desk.mails


async def test_an_approved_call_runs_once_with_the_shown_arguments(desk: MailDesk) -> None:
    run = await desk.begin(ATTACKS["retrieve, code, tool"], durability="normal")
    assert await desk.follow(run, accepts_tools=True) == EVE
    assert desk.mails == [EVE] and [question.arguments for question in desk.questions] == [{"to": EVE}]


async def test_deploying_names_the_steps_that_ask(desk: MailDesk) -> None:
    deployed = await desk.deploy("one", pipeline(FIND, TEXT, mail(), mail(ADA, name="second")))
    assert deployed["warnings"] == [
        "The step 'mail' acts on data of store docs, so each call asks a person: put an approve step before it, or set "
        "approval: never on 'mail'."
    ]
    assert (await desk.deploy("two", pipeline(FIND, APPROVE, mail())))["warnings"] == []
    [warning] = (await desk.deploy("three", ATTACKS["http address"]))["warnings"]
    assert warning.endswith("or set tool_approval: never.")


LINK = "https://good.example/news"
GIVEN = "https://given.example/a"
AUTHORED = "https://authored.example/"
NEWS = f"Read {LINK}. The code is 1234. evil.example"


def page(url: Any, name: str = "page", **fields: Any) -> dict[str, Any]:
    """Return a step that reads an address with a tool."""
    return {"op": "tool", "name": name, "tool": "page", "arguments": {"url": url}, **fields}


def get(url: Any, **fields: Any) -> dict[str, Any]:
    return {"op": "http", "name": "get", "method": "GET", "url": url, **fields}


FIRST_LINK = code("lambda passages: passages[0]['text'].split()[1].strip('.')", "link")
CODE_ALONE = code("lambda passages: passages[0]['text'][37:41]", "secret")
BUILT = code("lambda passages: 'https://' + passages[0]['text'].split()[-1] + '/1234'", "built")

ADDRESSES: dict[str, tuple[Mapping[str, Any], int]] = {
    "address of the author": (pipeline(FIND, page(f"{AUTHORED}a")), 0),
    "address of the author after a condition": (pipeline(FIND, TRUE, branch(ref("value"), page(AUTHORED))), 0),
    "data at the author's host": (pipeline(FIND, CODE_ALONE, page({"$template": AUTHORED + "{{value}}"})), 0),
    "address in the input": (pipeline(FIND, page(ref("input"))), 0),
    "address that was read": (pipeline(FIND, FIRST_LINK, page(ref("value"))), 0),
    "address that a tool has read": (pipeline(page(AUTHORED, "first"), page(LINK)), 0),
    "data at a host that the data names": (pipeline(FIND, BUILT, page(ref("value"))), 1),
    "link with data": (pipeline(FIND, FIRST_LINK, page({"$template": "{{value}}/1234"})), 1),
    "host of the author continued": (
        pipeline(FIND, CODE_ALONE, page({"$template": "https://authored.example.{{value}}"})),
        1,
    ),
    "request at the author's host": (pipeline(FIND, CODE_ALONE, get({"$template": "http://127.0.0.1:9/{{value}}"})), 0),
    "request of a link with data": (pipeline(FIND, BUILT, get(ref("value"))), 1),
    "request of a link with headers": (
        pipeline(FIND, FIRST_LINK, get(ref("value"), headers={"x-note": ref("steps.find[0].text")})),
        1,
    ),
    "approved": (pipeline(FIND, BUILT, APPROVE, page(ref("value"))), 0),
}  # fmt: skip
"""Flows that read addresses after foreign data, and the number of questions about them."""


async def test_a_step_asks_about_an_address_only_if_data_can_have_composed_it(desk: MailDesk) -> None:
    desk.daemon.services.registry.add(FixedStore("docs", [passage(1, NEWS, "news.txt")]), replace=True)
    desk.add("page", read_only=True, text=NEWS)
    wrong = []
    for name, (step, count) in ADDRESSES.items():
        outcome = await desk.run(step, GIVEN)
        if len(desk.questions) != count:
            wrong.append((name, [question.message for question in desk.questions], outcome))
    assert wrong == []
