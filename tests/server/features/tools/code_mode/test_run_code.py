"""Code that calls the daemon's objects: what it gets, which rights it has, and what hostile code cannot do."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from tests.registry_fixture import ScriptedServable
from tests.server.features.tools.code_mode.conftest import CodeFixture
from tests.server.runs.asking import asked

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import AppInput, AppOutput, Request, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.tools.builtin import run_code
from portico_server.features.tools.code_mode import program

CALLS: dict[str, tuple[str, str]] = {
    "structured content": ("portico.tools.refund(id=7)['amount']", "9.5"),
    "text": ("portico.tools.greet(name='Ann')", "Hello Ann."),
    "a failed tool": (
        "try:\n    portico.tools.fail()\nexcept RuntimeError as error:\n    print('failed:', error)",
        "failed: The disk is full.",
    ),
    "arguments that do not match": (
        "portico.tools.refund(id='x')",
        "at arguments.id, 'x' is not of type 'integer'",
    ),
    "arguments by position": ("portico.tools.refund(7)", "takes arguments by name only"),
    "a store": ("portico.stores.my_docs.search(query='port')[0]['text']", "The port is 7419."),
    "a store with a wrong limit": (
        "portico.stores.my_docs.search(query='port', max_num_results=0)",
        "max_num_results",
    ),
    "a model": ("portico.models.voice(messages=[{'role': 'user', 'content': 'Port?'}])", "It is 7419."),
    "a model without messages": ("portico.models.voice(messages=[])", "arguments.messages"),
    "an app": ("sorted(portico.apps.my_docs(input='Port?'))", "['answer', 'citations']"),
    "a flow": ("portico.apps.double(number=21)", "42"),
    "a function as a value": ("[f(name='Bo') for f in [portico.tools.greet]]", "['Hello Bo.']"),
    "an import": ("from portico.tools import greet\ngreet(name='Cy')", "Hello Cy."),
    "many results, one line": ("sum(portico.tools.refund(id=n)['amount'] for n in range(100))", "950.0"),
    "a name that does not exist": ("portico.tools.refunds(id=7)", "has no attribute 'refunds'"),
    "a bare name": ("refund(id=7)", "name 'refund' is not defined"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_code_calls_each_object_as_a_function(daemon: CodeFixture, name: str) -> None:
    async def double(request: Request, _context: Context) -> AppOutput:
        assert isinstance(request, AppInput)
        return AppOutput(request.value["number"] * 2)

    schema = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
    card = Card(
        "double", "app", labels={"app": "flow"}, input_schema=schema, output_schema={"type": "integer"}
    )
    daemon.daemon.add(ScriptedServable(card, double))
    code, text = CALLS[name]
    assert text in (await daemon.run(code)).text


async def test_only_printed_text_and_the_last_value_are_returned(daemon: CodeFixture) -> None:
    done = await daemon.run(
        "orders = [portico.tools.refund(id=n) for n in range(3)]\nprint(len(orders))\n'done'"
    )
    assert done.text == "3\ndone" and done.structured == {"output": "3\n", "value": "done", "error": None}
    assert daemon.calls == [("refund", {"id": n}) for n in range(3)]


@pytest.mark.parametrize(
    ("scopes", "code", "text"),
    [
        ("tools:greet:call", "portico.tools.greet(name='Ann')", "Hello Ann."),
        ("tools:greet:call", "portico.tools.refund(id=7)", "has no attribute 'refund'"),
        ("tools:greet:call", "portico.stores.my_docs.search(query='x')", "has no attribute 'my_docs'"),
        ("tools:greet:call", "portico.models.voice(messages=[])", "has no attribute 'voice'"),
        ("tools:greet:call", "portico.apps.my_docs(input='x')", "has no attribute 'my_docs'"),
        ("stores:my-docs:read", "portico.stores.my_docs.search(query='x')[0]['text']", "The port is 7419."),
    ],
)
async def test_code_has_the_rights_of_its_caller(
    daemon: CodeFixture, scopes: str, code: str, text: str
) -> None:
    caller = Principal("key_1", frozenset({"tools:run_code:call", scopes}))
    assert text in (await daemon.run(code, caller)).text
    assert ("refund", {"id": 7}) not in daemon.calls


REACH = "portico.tools.greet(name='reached')"
HOSTILE: dict[str, tuple[str, str]] = {
    "run_code itself": ("portico.tools.run_code(code='1')", "has no attribute 'run_code'"),
    "run_code through a tool": ("portico.tools.again()", "Code cannot call run_code"),
    "a forged name": ("globals_of_daemon()", "is not defined"),
    "a forged path": ("__import__('portico.tools.secret')", "is not defined"),
    "another module": ("import portico_server", "No module named 'portico_server'"),
    "a submodule": ("import portico.secret", "portico.secret"),
    "a private name": ("portico.tools._paused()", "has no attribute '_paused'"),
    "the functions of the bridge": ("portico.tools.greet.__globals__", "AttributeError"),
    "the class of a module": ("portico.__class__.__base__.__subclasses__()", "AttributeError"),
    "a changed function": ("portico.tools.refund = 1\nportico.tools.refund(id=1)", "Error"),
    "arguments by position": ("portico.tools.greet('a')", "by name only"),
    "an argument of 2 MB": ("portico.tools.greet(name='x' * 2_000_000)", "at most 1,048,576 are allowed"),
    "an argument of 1 GB": ("portico.tools.greet(name='x' * 10**9)", "MemoryError"),
    "deep arguments": (
        "x = []\nfor _ in range(900): x = [x]\nportico.tools.greet(name=x)",
        "is not JSON",
    ),
    "an argument within itself": (
        "x = []\nx.append(x)\nportico.tools.refund(id=x)",
        "is not of type 'integer'",
    ),
    "a set": ("portico.tools.greet(name={1})", "is not JSON"),
    "bytes": ("portico.tools.greet(name=b'x')", "is not JSON"),
    "a number of 400 digits": ("portico.tools.greet(name=10**400)", "is not JSON"),
    "an object": ("class A: pass\nportico.tools.greet(name=A())", "is not JSON"),
    "keys that are no text": ("portico.tools.greet(name={(1, 2): 3})", "is not JSON"),
    "half a character": ("portico.tools.greet(name='\ud800')", "Hello"),
    "the name of a field that is no name": (
        "portico.tools.refund(**{'a b': 1, 'id': 1})",
        "'a b' was unexpected",
    ),
    "endless calls": ("while True: portico.tools.greet()", "limit 100 exceeded"),
    "endless calls that swallow errors": (
        "while True:\n    try: portico.tools.fail()\n    except BaseException: pass",
        "limit 100 exceeded",
    ),
    "endless wrong calls": (
        "while True:\n    try: nope()\n    except BaseException: pass",
        "limit 100 exceeded",
    ),
    "an endless loop": ("while True: pass", "TimeoutError"),
    "an endless loop that swallows errors": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "TimeoutError",
    ),
    "endless output": ("while True: print('x' * 100_000)", "MemoryError"),
    "endless small output": ("while True: print('')", "Error"),
    "endless memory": ("x = ['x']\nwhile True: x += x", "MemoryError"),
    "a large value": ("'x' * 1_000_000", "[truncated: 1000000 characters in total]"),
    "recursion": ("def f(): return f()\nf()", "RecursionError"),
    "a file": ("open('/etc/passwd')", "PermissionError"),
    "a listing": ("import os\nos.listdir('/')", "PermissionError"),
    "a socket": ("import socket", "No module named 'socket'"),
    "a fork": ("import os\nos.fork()", "AttributeError"),
    "a fork bomb": (
        "import subprocess\nwhile True: subprocess.Popen(['sh'])",
        "No module named 'subprocess'",
    ),
    "a thread": ("import threading", "No module named 'threading'"),
    "a signal": ("import signal", "No module named 'signal'"),
    "an exit": ("import sys\nsys.exit(3)", "Error"),
    "the pipe": ("import os\nos.write(1, b'x')", "AttributeError"),
    "the closed pipe": ("import os\nos.close(0)\nos.close(1)", "AttributeError"),
    "a long sleep": ("import time\ntime.sleep(10**9)", "is not supported"),
    "code that is no Python": ("def", "SyntaxError"),
    "deep code": ("(" * 5_000 + ")" * 5_000, "Error"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_code_ends_with_an_error_and_nothing_else(
    daemon: CodeFixture, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def again(_request: Request, context: Context) -> ToolResult:
        result = await context.call("tool/run_code", ToolCall({"code": REACH}))
        assert isinstance(result, ToolResult)
        return result

    daemon.daemon.add(ScriptedServable(Card("again", "tool"), again))
    code, text = HOSTILE[name]
    never_ends = name.startswith(("an endless loop", "endless output", "endless small output"))
    with monkeypatch.context() as patch:
        patch.setattr(program, "COMPUTE_SECONDS", 0.3 if never_ends else 30.0)
        patch.setattr(program, "MAX_CALLS", 100)
        done = await daemon.run(code)
    assert text in done.text and len(done.text) <= 400_000
    assert ("greet", {"name": "reached"}) not in daemon.calls and len(daemon.calls) <= 100
    assert (await daemon.run("1 + 1")).text == "2"


INTERPRETERS = {
    "sends garbage": "head -c 100000 /dev/urandom\nsleep 1",
    "closes its output": "exec 1>&-\nsleep 1",
    "ends": "exit 3",
}


@pytest.mark.parametrize("name", INTERPRETERS)
async def test_a_broken_interpreter_fails_only_its_own_code(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "monty"
    interpreter.write_text(f"#!/bin/sh\n{INTERPRETERS[name]}\n", encoding="utf-8")
    interpreter.chmod(0o755)
    monkeypatch.setenv("MONTY_BIN", str(interpreter))
    light = LightSandbox(1)
    calls: list[str] = []

    async def answer(path: str, *_arguments: object) -> dict[str, str]:
        calls.append(path)
        return {"value": path}

    done = await program.Program("1", ("portico.tools.greet",), 0.0, "seed").run(light, answer)
    await light.close()
    assert done.error is not None and "crashed" in done.error and not calls


async def test_waiting_code_of_one_key_leaves_room_for_others(daemon: CodeFixture) -> None:
    gate = asyncio.Event()
    waiting_callers: list[str] = []

    async def wait(_request: Request, context: Context) -> ToolResult:
        waiting_callers.append(context.caller.id)
        await gate.wait()
        return ToolResult("Opened.")

    daemon.daemon.add(ScriptedServable(Card("wait", "tool"), wait))
    greedy, second_caller = (Principal(name, frozenset({"tools:*:call"})) for name in ("greedy", "other"))
    greedy_tasks = [
        asyncio.create_task(daemon.run("portico.tools.wait()", greedy))
        for _ in range(run_code.MAX_AT_ONCE_PER_KEY + 1)
    ]
    assert (await daemon.run("portico.tools.greet(name='Ann')", second_caller)).text == "Hello Ann."
    assert waiting_callers.count("greedy") <= run_code.MAX_AT_ONCE_PER_KEY
    gate.set()
    assert {done.text for done in await asyncio.gather(*greedy_tasks)} == {"Opened."}


async def test_cancelled_code_ends_its_call_and_frees_its_interpreter(daemon: CodeFixture) -> None:
    start_event, end_event = asyncio.Event(), asyncio.Event()

    async def wait(_request: Request, _context: Context) -> ToolResult:
        start_event.set()
        try:
            await asyncio.Event().wait()
        finally:
            end_event.set()
        raise AssertionError

    daemon.daemon.add(ScriptedServable(Card("wait", "tool"), wait))
    for _ in range(run_code.MAX_AT_ONCE_PER_KEY + 1):
        call = ToolCall({"code": "portico.tools.wait()\nportico.tools.greet()"})
        run = await daemon.daemon.runner.start("test", "tool/run_code", call, LOCAL)
        await start_event.wait()
        await run.cancel()
        await end_event.wait()
        start_event.clear()
        end_event.clear()
    assert not daemon.calls and (await daemon.run("1 + 1")).text == "2"


@pytest.mark.parametrize(
    ("accepted", "text"), [(True, "Refunded 7."), (False, "was refused, so it was not run: no")]
)
async def test_a_tool_that_needs_approval_asks_and_the_code_waits(
    daemon: CodeFixture, accepted: bool, text: str
) -> None:
    daemon.add("pay", lambda arguments: ToolResult(f"Refunded {arguments['id']}."), needs_approval=True)
    call = ToolCall({"code": "portico.tools.greet()\nportico.tools.pay(id=7)"})
    run = await daemon.daemon.runner.start("test", "tool/run_code", call, LOCAL)
    question = await asked(run)
    assert (question.kind, question.name, question.arguments) == ("approval", "pay", {"id": 7})
    assert run.status == "waiting" and daemon.calls == [("greet", {})]
    await daemon.daemon.questions.answer(question.id, LOCAL, is_accepted=accepted, note="no")
    result = await daemon.daemon.runner.wait(run)
    assert isinstance(result, ToolResult) and text in result.text
    assert len(daemon.calls) == 1 + accepted


async def test_the_models_that_code_calls_count_against_its_caller(daemon: CodeFixture) -> None:
    quotas = daemon.daemon.runner.quotas
    quotas.limit("key_1", "small", UsageLimits(tokens_per_day=20))
    caller = Principal("key_1", frozenset({"tools:run_code:call", "chat"}))
    code = (
        "for _ in range(5):\n    print(portico.models.voice(messages=[{'role': 'user', 'content': 'Port?'}]))"
    )
    done = await daemon.run(code, caller)
    assert done.is_error and "tokens per day: limit 20" in done.text
    assert done.text.startswith("It is 7419.\nIt is 7419.\nTraceback")


async def test_the_tokens_of_models_are_the_usage_of_the_run(daemon: CodeFixture) -> None:
    code = "for _ in range(3):\n    portico.models.voice(messages=[{'role': 'user', 'content': 'Port?'}])"
    run = await daemon.daemon.runner.start("test", "tool/run_code", ToolCall({"code": code}), LOCAL)
    await daemon.daemon.runner.wait(run)
    assert run.usage == Usage(30, 6)


async def test_a_join_of_5000_rows_returns_its_answer_alone(daemon: CodeFixture) -> None:
    customers = [{"id": number, "name": f"Customer {number}"} for number in range(500)]
    orders = [
        {"id": number, "customer": number * 7 % 500, "total": number * 37 % 900} for number in range(2_500)
    ]
    payments = [{"order": number, "amount": number * 31 % 800} for number in range(2_000)]
    for name, rows in (("customers", customers), ("orders", orders), ("payments", payments)):
        daemon.add(name, lambda _arguments, rows=rows: ToolResult("", {"rows": rows}))
    code = (
        "names = {row['id']: row['name'] for row in portico.tools.customers()['rows']}\n"
        "orders = portico.tools.orders()['rows']\n"
        "paid = {row['order']: row['amount'] for row in portico.tools.payments()['rows']}\n"
        "debts = {}\n"
        "for order in orders:\n"
        "    debt = order['total'] - paid.get(order['id'], 0)\n"
        "    debts[order['customer']] = debts.get(order['customer'], 0) + debt\n"
        "highest = max(debts, key=lambda customer: (debts[customer], -customer))\n"
        "f'{names[highest]} owes {debts[highest]}'"
    )
    paid = {row["order"]: row["amount"] for row in payments}
    debts = Counter[int]()
    for order in orders:
        debts[order["customer"]] += order["total"] - paid.get(order["id"], 0)
    customer = max(debts, key=lambda customer: (debts[customer], -customer))
    done = await daemon.run(code)
    assert done.text == f"Customer {customer} owes {debts[customer]}" and len(daemon.calls) == 3
