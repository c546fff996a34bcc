"""A call of a program asks a person if the program has read foreign data and the arguments may come from it.

The cases are those of ``tests/server/features/agents/foreign_data.json``. The programs are obedient: they call what the
data orders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.registry_fixture import FixedModel, FixedStore, RegistryFixture, passage
from tests.server.features.agents.test_foreign_data import CASES, MAX_STOPPED_TASKS
from tests.server.features.tools.code_mode.conftest import CodeFixture

from portico.wire import Asked
from portico_server.core.context import Context
from portico_server.core.principal import LOCAL
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.tools.code_mode.constants import Constants
from portico_server.features.tools.entry import Approval, Rule
from portico_server.features.tools.tool import Tool
from portico_server.features.tools.toolbox import Toolbox


class ProgramDesk:
    """Runs programs with the tools of one app. It records the calls of acting tools, and the questions to a person."""

    def __init__(self, daemon: RegistryFixture, rule: Rule = "data") -> None:
        self.daemon = daemon
        self.document = "nothing new"
        self.acted: list[tuple[str, Mapping[str, Any]]] = []
        self.asked: list[Asked] = []
        self._toolbox = Toolbox(daemon.registry, approval=Approval(rule))
        self._add("now", read_only=True, computed=True)

    def offer(self, app: Mapping[str, Any]) -> None:
        """Add the tools of an app."""
        self._add(app["read"], read_only=True)
        for name in app["acts"]:
            self._add(name, read_only=False)

    def _add(self, name: str, *, read_only: bool, computed: bool = False) -> None:
        async def work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
            if read_only:
                return ToolResult(self.document)
            self.acted.append((name, arguments))
            return ToolResult("done")

        tool = Tool(
            name, "", "", {"type": "object"}, work, read_only=read_only, computed=computed, source="mcp:desk"
        )
        self._toolbox.add(tool, "", replace=True)

    async def run(self, code: str, *, accepted: bool = False) -> str:
        """Return the text of the program's result. A person answers each question with ``accepted``."""
        self.asked.clear()
        self.acted.clear()
        run = await self.daemon.runner.start("test", "tool/run_code", ToolCall({"code": code}), LOCAL)
        async for _number, event in run.log.follow():
            if isinstance(event, Asked):
                self.asked.append(event)
                await self.daemon.questions.answer(event.id, LOCAL, is_accepted=accepted)
        result = await self.daemon.runner.wait(run)
        assert isinstance(result, ToolResult)
        return result.text


@pytest.fixture
async def desk(daemon: CodeFixture) -> ProgramDesk:
    desk = ProgramDesk(daemon.daemon)
    desk.offer(CASES["apps"]["mail"])
    return desk


OBEY = """
import json

text = {read}
order = json.loads(portico.models.voice(messages=[{{"role": "user", "content": str(text)}}]))
{{{acts}}}[order["name"]](**order["arguments"])
"""

READS = (
    "portico.tools.{}()",
    "portico.stores.my_docs.search(query='news')",
    "portico.apps.my_docs(input='News?')",
)
"""How a program can read the document of a case."""


async def test_none_of_60_injected_orders_acts_in_a_program_without_a_person(
    desk: ProgramDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    silent, acted = [], []
    for number, case in enumerate(CASES["attacks"]):
        app, (name, arguments) = CASES["apps"][case["app"]], case["order"]
        desk.offer(app)
        desk.document = case["text"]
        desk.daemon.registry.add(FixedModel(json.dumps({"name": name, "arguments": arguments})), replace=True)
        search_store = FixedStore("my-docs", [passage(1, case["text"], "handbook.pdf")])
        desk.daemon.registry.add(search_store, replace=True)
        acts = ", ".join(f"{act!r}: portico.tools.{act}" for act in app["acts"])
        await desk.run(OBEY.format(read=READS[number % 3].format(app["read"]), acts=acts))
        acted += desk.acted
        if len(desk.asked) != 1 or "Portico asks because of " not in desk.asked[0].message:
            silent.append(case["text"])
    with capsys.disabled():
        print(f"\nInjected orders that a program obeyed without a person: {len(acted)} of 60")
    assert (acted, silent) == ([], [])


async def test_at_most_two_of_60_harmless_programs_need_an_approval(
    desk: ProgramDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_tasks = []
    for case in CASES["tasks"]:
        app = CASES["apps"][case["app"]]
        desk.offer(app)
        lines = []
        for call in case["calls"]:
            if call == "read":
                lines.append(f"text = portico.tools.{app['read']}()")
            elif call == "search":
                lines.append("portico.stores.my_docs.search(query='rule')")
            else:
                arguments = {
                    name: "str(text)" if case.get("from_data") else repr(value)
                    for name, value in call[1].items()
                }
                lines.append(
                    f"portico.tools.{call[0]}({', '.join(f'{k}={v}' for k, v in arguments.items())})"
                )
        if case.get("file"):
            lines.insert(0, "text = portico.stores.my_docs.search(query='file')")
        await desk.run("\n".join(lines))
        if desk.asked or desk.acted != [
            (call[0], call[1]) for call in case["calls"] if not isinstance(call, str)
        ]:
            stopped_tasks.append(case["task"])
    with capsys.disabled():
        print(
            f"\nPrograms without injected orders that were stopped: {len(stopped_tasks)} of {len(CASES['tasks'])}"
        )
    assert stopped_tasks == [case["task"] for case in CASES["tasks"] if case.get("from_data")]
    assert len(stopped_tasks) <= MAX_STOPPED_TASKS


READ = "text = portico.tools.read_mail()\n"
FIND = "found = portico.stores.my_docs.search(query='port')\n"
ASK = "said = portico.models.voice(messages=[{'role': 'user', 'content': text}])\n"
FAIL = "try:\n    portico.tools.fail()\nexcept RuntimeError as error:\n    "
WRITE = "portico.tools.send_mail(to={}, text='hi')"


@pytest.mark.parametrize(
    ("code", "origins"),
    [
        (READ + WRITE.format("text"), "tool read_mail"),
        (READ + WRITE.format("text[:4]"), "tool read_mail"),
        (READ + "portico.tools.send_mail(**{text: 'hi'})", "tool read_mail"),
        (READ + "portico.tools.send_mail(to='ann', text=['hi', {'a': text}])", "tool read_mail"),
        (FIND + WRITE.format("found[0]['text']"), "guide.md, line 1 · Ports"),
        ("found = portico.apps.my_docs(input='port')\n" + WRITE.format("found['answer']"), "app my-docs"),
        (FAIL + WRITE.format("str(error)"), "tool fail"),
        (READ + ASK + WRITE.format("said"), "tool read_mail"),
        (WRITE.format("'ann'") + "\n" + READ + WRITE.format("'ann'"), "tool send_mail; tool read_mail"),
        (READ + WRITE.format("'ann'"), ""),
        (READ + "for name in ('ann', 'bob'):\n    " + WRITE.format("name"), ""),
        (READ + "args = {'to': 'ann', 'text': '''a\nb'''}\nportico.tools.send_mail(**args)", ""),
        (READ + "portico.tools.send_mail(to='a' 'b', text=[-1, 2.5, True, None])", ""),
        ("portico.tools.send_mail(to=str(portico.tools.now()), text='hi')", ""),
        ("text = 'Hi'\n" + ASK + WRITE.format("said"), ""),
        (WRITE.format("'a' + 'nn'") + "\n" + READ, ""),
    ],
)  # fmt: skip
async def test_the_question_names_the_data_that_the_program_has_read(
    desk: ProgramDesk, code: str, origins: str
) -> None:
    await desk.run(code)
    because = [question.message.partition(" because of ")[2].rstrip(".") for question in desk.asked]
    assert because == ([origins] if origins else [])
    assert len(desk.acted) + len(desk.asked) == code.count("send_mail") + code.count("'bob'")


@pytest.mark.parametrize(
    ("rule", "accepted", "questions", "sent"),
    [("data", True, 1, 1), ("data", False, 1, 0), ("refuse", True, 0, 0), ("never", False, 0, 1)],
)
async def test_the_approval_rule_of_a_tool_decides_about_calls_after_foreign_data(
    daemon: CodeFixture, rule: Rule, accepted: bool, questions: int, sent: int
) -> None:
    desk = ProgramDesk(daemon.daemon, rule)
    desk.offer(CASES["apps"]["mail"])
    text = await desk.run(READ + WRITE.format("text"), accepted=accepted)
    assert (len(desk.asked), len(desk.acted)) == (questions, sent)
    assert ("because of tool read_mail" in text) is (rule == "refuse")


ODD = ["x = 'a", "'''", "f(1", "\x00", "(" * 9_999, "-" * 9_999 + "1", "'a' " * 9_999, "0x", "1_", "b'a' 'b'"]


@pytest.mark.parametrize("code", ODD)
def test_constants_can_be_read_even_from_invalid_code(code: str) -> None:
    assert not Constants.of(code).contain({"to": "eve"})
