"""The embedded interpreter: what it can do, and what it contains."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from portico_server.core.errors import Unavailable
from portico_server.features.sandbox import light as level
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.tools.builtin import calculator, python_light

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def light() -> AsyncIterator[LightSandbox]:
    light_sandbox = LightSandbox()
    yield light_sandbox
    await light_sandbox.close()


async def test_printed_text_and_the_last_value_are_returned(light: LightSandbox) -> None:
    done = await light.run("print('hi')\nx = [1, 2]\nx * 2")
    assert (done.output, done.value, done.error) == ("hi\n", "[1, 2, 1, 2]", None)
    assert done.text == "hi\n[1, 2, 1, 2]"
    assert (await light.run("x = 1")).text.startswith("Done.")
    assert (await light.run("'text'")).value == "text"


async def test_errors_are_returned_as_python_error_messages(light: LightSandbox) -> None:
    done = await light.run("print('before')\n1 / 0")
    assert done.output == "before\n"
    assert done.error is not None and done.error.endswith("ZeroDivisionError: division by zero")
    assert "SyntaxError" in str((await light.run("def")).error)


async def test_each_call_starts_from_nothing(light: LightSandbox) -> None:
    await light.run("secret = 42")
    assert "NameError" in str((await light.run("secret")).error)


async def test_a_lone_surrogate_does_not_crash_the_interpreter(light: LightSandbox) -> None:
    assert (await light.run("'\ud800'")).error is None


ATTEMPTS = {
    "a file": "open('/etc/shadow').read()",
    "a file by pathlib": "from pathlib import Path\nPath('/etc/passwd').read_text()",
    "writing a file": "open('/tmp/portico-escaped', 'w').write('x')",
    "the environment": "import os\nos.environ['PATH']",
    "one variable": "import os\nos.getenv('HOME') + ''",
    "a listing": "import os\nos.listdir('/')",
    "a shell": "import os\nos.system('id')",
    "a process": "import subprocess\nsubprocess.run(['id'])",
    "a socket": "import socket\nsocket.create_connection(('127.0.0.1', 8642))",
    "a web page": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    "foreign functions": "import ctypes\nctypes.CDLL(None).system(b'id')",
    "import by name": "__import__('os').system('id')",
    "importlib": "import importlib\nimportlib.import_module('socket')",
    "subclasses": "().__class__.__base__.__subclasses__()[0]",
    "globals of a function": "def f(): pass\nf.__globals__['__builtins__']",
    "frames": "import sys\nsys._getframe().f_back.f_globals",
    "code objects": "def f(): pass\nf.__code__.co_code",
    "pickle": "import pickle\npickle.loads(b'cos\\nsystem\\n(S\"id\"\\ntR.')",
    "compile": "exec(compile('import socket', 'x', 'exec'))",
    "threads": "import threading\nthreading.Thread(target=print).start()",
    "signals": "import signal\nsignal.alarm(1)",
    "recursion": "def f(): return f()\nf()",
    "memory by text": "x = 'a'\nwhile True: x += x",
    "memory by a list": "[0] * 10**10",
    "memory by numbers": "x = 1 << 10**9\nx * x",
    "output": "while True: print('x' * 100_000)",
}


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_escape_attempts_end_with_an_error_and_later_calls_work(light: LightSandbox, name: str) -> None:
    done = await light.run(ATTEMPTS[name])
    assert done.error is not None, done
    assert len(done.output) <= level.MAX_OUTPUT_BYTES
    assert (await light.run("6 * 7")).value == "42"


@pytest.mark.parametrize("code", ["while True: pass", "import time\ntime.sleep(60)", "10**10**8"])
async def test_endless_code_is_stopped_at_the_time_limit(
    light: LightSandbox, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(level, "SECONDS", 0.3)
        assert (await light.run(code)).error is not None
    assert (await light.run("6 * 7")).value == "42"


async def test_a_long_value_is_truncated_and_an_unprintable_one_is_reported(light: LightSandbox) -> None:
    done = await light.run("'x' * 1_000_000")
    assert done.value is not None and done.value.endswith("[truncated: 1000000 characters in total]")
    assert "cannot be shown" in str((await light.run("10**10_000")).value)
    assert (await light.run("a = []\na.append(a)\na")).error is None


async def test_code_after_the_sandbox_is_closed_is_refused() -> None:
    light_sandbox = LightSandbox()
    await light_sandbox.close()
    with pytest.raises(Unavailable):
        await light_sandbox.run("1")


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2 ** 10", "1024"), ("sqrt(2)", "1.4142135623730951"), ("comb(52, 5)", "2598960"), ("1\n+ 1", "2")],
)
async def test_the_calculator_calculates(light: LightSandbox, expression: str, value: str) -> None:
    result = await calculator.tool(light).work({"expression": expression}, None)  # type: ignore[arg-type]
    assert (result.text, result.structured, result.is_error) == (value, {"value": value}, False)


@pytest.mark.parametrize("expression", ["1 / 0", "2 +", "open('/etc/passwd').read()", "x = 1", "print(1)"])
async def test_the_calculator_says_what_is_wrong(light: LightSandbox, expression: str) -> None:
    result = await calculator.tool(light).work({"expression": expression}, None)  # type: ignore[arg-type]
    assert result.is_error and expression in result.text


@pytest.mark.parametrize(
    "code", ["[x for x in range(9)]", "(lambda: 1)()", "1)\nimport os\n(2", "pi.real", "'a' * 9"]
)
async def test_the_calculator_runs_no_code(light: LightSandbox, code: str) -> None:
    result = await calculator.tool(light).work({"expression": code}, None)  # type: ignore[arg-type]
    assert result.is_error and "numbers, operators and functions" in result.text


async def test_an_error_in_the_code_is_returned_as_an_error_result(light: LightSandbox) -> None:
    tool = python_light.tool(light)
    result = await tool.work({"code": "1 / 0"}, None)  # type: ignore[arg-type]
    assert result.is_error and "ZeroDivisionError" in result.text
    assert result.structured is not None and result.structured["value"] is None
