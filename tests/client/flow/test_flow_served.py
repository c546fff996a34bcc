"""A client's functions as steps of deployed apps: called while a worker serves them, and waited for otherwise."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.daemon import Daemon, environment

from portico import Client, Function, InvalidRequest, PorticoError, idempotency_key
from portico.flow import Flow, client, flow, pipeline, subflow, warp

COMMAND = [sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())"]
LOCK = threading.Lock()
"""An object that cannot travel, so that functions that use it stay."""

ORDERS = '''
import threading
from portico.flow import flow, pipeline

LOCK = threading.Lock()

def priced(item: str, crowns: int = 3) -> dict:
    """What an item costs."""
    with LOCK:
        return {"item": item, "crowns": crowns}

order = flow(pipeline(clean=lambda text: text.strip(), price=priced), name="order")
whole = flow(lambda text: text.upper(), name="whole")
'''


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make workers notice a stop request immediately."""
    monkeypatch.setattr("portico._serving.CLAIM_WAIT_S", 0.1)


@contextmanager
def serving(daemon: Daemon, given: Sequence[Any], **options: Any) -> Iterator[Client]:
    """A client to call with, while another client serves."""
    stop = threading.Event()
    with Client(daemon.url) as worker, Client(daemon.url) as caller:
        thread = threading.Thread(target=worker.serve, args=(given,), kwargs={**options, "stop": stop})
        thread.start()
        try:
            yield caller
        finally:
            stop.set()
            thread.join(60)


def until(true: Callable[[], bool]) -> None:
    """Poll the condition until it is true, up to the time limit of a test."""
    while not true():
        pass


def there(caller: Client, name: str) -> bool:
    return name in {tool.name for tool in caller.tools.list()}


def tripled(x: int) -> int:
    """Three times as much."""
    with LOCK:
        return 3 * x


def shop(**more: Any) -> Flow:
    return flow(pipeline(number=lambda x: int(x), triple=tripled), name="shop", **more)


def test_deploying_warns_about_functions_without_a_worker(daemon: Daemon) -> None:
    with serving(daemon, [shop()]) as caller:
        until(lambda: there(caller, "tripled"))
        assert caller.apps.deploy("shop", shop()).warnings == ()
    with Client(daemon.url) as caller:
        [warning] = caller.apps.deploy("shop", shop(), serve_later=True).warnings
        assert "The step 'triple' calls the function 'tripled', which no worker currently serves" in warning


def test_an_app_calls_the_function_that_is_served(daemon: Daemon) -> None:
    with serving(daemon, [tripled]) as caller:
        until(lambda: there(caller, "tripled"))
        caller.apps.deploy("shop", shop())
        assert caller.apps.run("shop", "4") == 12
        assert caller.chat("5", model="shop").read().text == "15"
        assert caller.run(subflow("shop"), 6) == 18  # within another flow that has no such function


def test_a_call_waits_for_a_worker(daemon: Daemon) -> None:
    with Client(daemon.url) as early, ThreadPoolExecutor(1) as pool:
        early.apps.deploy("shop", shop(durability="normal"), serve_later=True)
        answer = pool.submit(early.apps.run, "shop", "4")
        until(lambda: any(run.name == "shop" and not run.ended for run in early.runs.list()))
        with serving(daemon, [shop()]):
            assert answer.result(60) == 12


def test_a_durable_run_fails_when_no_worker_serves_within_the_limit(daemon: Daemon) -> None:
    with Client(daemon.url) as caller:
        lonely = flow(client(tripled, limit=0.2), durability="normal")
        caller.apps.deploy("lonely", lonely, serve_later=True)
        message_pattern = r"No client served the function 'tripled' within 0\.2 s"
        with pytest.raises(PorticoError, match=message_pattern) as caught:
            caller.apps.run("lonely", 1)
        assert caught.value.code == "question_expired"


def test_a_served_function_returns_its_value_unchanged(daemon: Daemon) -> None:
    """An exact value is returned unchanged, even if a tool would truncate it or put it under ``result``."""

    def echoes(x: Any) -> Any:
        with LOCK:
            return x

    with serving(daemon, [echoes]) as caller:
        until(lambda: there(caller, "echoes"))
        caller.apps.deploy("echoes", client(echoes))
        for value in ({"result": 1}, [1, [2]], None, "x" * 200_000):
            assert caller.apps.run("echoes", value) == value


def test_an_exception_of_a_served_function_fails_the_step(daemon: Daemon) -> None:
    def fails(x: Any) -> Any:
        with LOCK:
            raise ValueError("the well is dry")

    with serving(daemon, [fails]) as caller:
        until(lambda: there(caller, "fails"))
        caller.apps.deploy("fails", pipeline(dig=client(fails)))
        with pytest.raises(InvalidRequest, match="ValueError: the well is dry") as caught:
            caller.apps.run("fails", 1)
        assert caught.value.code == "client_function_failed"


def test_arguments_are_held_to_the_signature(daemon: Daemon) -> None:
    with serving(daemon, [tripled]) as caller:
        until(lambda: there(caller, "tripled"))
        caller.apps.deploy("strict", client(tripled))
        with pytest.raises(InvalidRequest, match="The input of the function 'tripled'") as caught:
            caller.apps.run("strict", "four")
        assert caught.value.code == "schema_mismatch"
        step = {"op": "client", "function": "tripled", "args": [{"$ref": "value"}]}
        caller.apps.deploy("placed", {"portico_flow": 1, "step": step})
        assert caller.apps.run("placed", 2) == 6  # positional, as the author wrote it
        step = {**step, "args": [1, 2]}
        caller.apps.deploy("placed", {"portico_flow": 1, "step": step})
        with pytest.raises(InvalidRequest, match="takes x, but gets 2 arguments"):
            caller.apps.run("placed", 2)


def test_a_daemon_tool_cannot_be_called_as_a_client_function(daemon: Daemon) -> None:
    with Client(daemon.url) as caller:
        caller.apps.deploy(
            "mistaken",
            {"portico_flow": 1, "step": {"op": "client", "function": "calculator"}},
            serve_later=True,
        )
        with pytest.raises(PorticoError, match="is a tool of the daemon, not a client function"):
            caller.apps.run("mistaken", 1)


def test_an_operator_s_approval_comes_first(daemon: Daemon) -> None:
    with serving(daemon, [Function.of(tripled, approval="always")]) as caller:
        until(lambda: there(caller, "tripled"))
        caller.apps.deploy("asks", client(tripled))
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(caller.apps.run, "asks", 2)
            until(lambda: bool(caller.questions.list(status="pending")))
            [question] = caller.questions.list(status="pending")
            assert (question.kind, question.name) == ("approval", "tripled")
            caller.questions.answer(question.id, False, note="Not today.")
            with pytest.raises(InvalidRequest, match="Not today"):
                answer.result(60)


def test_workers_share_the_calls_of_a_warp(daemon: Daemon) -> None:
    barrier = threading.Barrier(2)
    by: list[str] = []

    def worked(name: str) -> Callable[[int], int]:
        def meets(x: int) -> int:
            barrier.wait(60)  # only if the other worker has a call too
            by.append(name)
            return x + 1

        return meets

    first, second = worked("first"), worked("second")
    with serving(daemon, [first], concurrency=1) as caller, serving(daemon, [second], concurrency=1):
        until(lambda: there(caller, "meets"))
        caller.apps.deploy("meets", warp(client(first)))
        assert caller.apps.run("meets", [1, 2, 3, 4]) == [2, 3, 4, 5]
    assert sorted(by) == ["first", "first", "second", "second"]


def test_a_resumed_durable_app_does_not_repeat_the_served_call(daemon: Daemon) -> None:
    calls: list[int] = []

    def noted(x: int) -> int:
        calls.append(x)
        return x

    with serving(daemon, [noted]) as caller:
        until(lambda: there(caller, "noted"))
        caller.apps.deploy("noted", flow(pipeline(a=noted, b=lambda x: x + 1), durability="normal"))
        running = caller.apps.start("noted", 1)
        assert running.result() == 2
        caller.runs.resume(running.id or "", start="b")
        assert [item.event for item in caller.runs.events(running.id or "")][-1].result == 2
    assert calls == [1]


def test_a_run_s_own_functions_go_before_served_ones(daemon: Daemon) -> None:
    with serving(daemon, [tripled]) as caller:
        until(lambda: there(caller, "tripled"))

        def other(x: int) -> int:
            with LOCK:
                return -x

        other.__name__ = "tripled"
        assert caller.run(client(other), 2) == -2
        assert caller.run(client("tripled"), 2) == 6  # a bare name refers to the served function


class TestCommand:
    @pytest.mark.slow
    def test_serves_all_functions_of_a_flow(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "orders.py").write_text(ORDERS)
        process = subprocess.Popen(
            [*COMMAND, "serve", "orders.py:order"],
            cwd=tmp_path,
            env=environment(PORTICO_URL=daemon.url),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("Serving priced until Ctrl-C.")
            with Client(daemon.url) as caller:
                until(lambda: there(caller, "priced"))
                spec = {"op": "client", "function": "priced"}
                caller.apps.deploy("order", {"portico_flow": 1, "step": spec})
                assert caller.apps.run("order", "bun") == {"item": "bun", "crowns": 3}
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()

    def test_serving_a_flow_without_client_functions_is_refused(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "orders.py").write_text(ORDERS)
        done = subprocess.run(
            [*COMMAND, "serve", "orders.py:whole"],
            cwd=tmp_path,
            env=environment(PORTICO_URL=daemon.url),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode != 0
        assert "The flow 'whole' runs entirely in the daemon" in done.stderr


def receipt(x: int) -> str:
    """What this call is known by."""
    with LOCK:
        return idempotency_key()


def test_a_function_knows_the_key_of_its_call(daemon: Daemon) -> None:
    pay = flow(pipeline(number=lambda x: int(x), pay=receipt), name="pay", durability="normal")
    with Client(daemon.url) as caller:
        running = caller.start(pay, "3")
        assert running.result() == f"{running.id}:pay.pay", "it is asked of whoever runs the flow"
    with serving(daemon, [receipt]) as caller:
        until(lambda: there(caller, "receipt"))
        caller.apps.deploy("pay", pay)
        running = caller.apps.start("pay", "3")
        assert running.result() == f"{running.id}:pay.pay", "it is asked of those who serve"
        first, second = (caller.tools.call("receipt", {"x": 1}).text for _ in range(2))
        assert first and second and first != second, "each call of a tool is a call of its own"
    with pytest.raises(InvalidRequest, match="No Portico call is running"):
        receipt(1)
