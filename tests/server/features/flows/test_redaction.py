"""Values that traces must not contain: they are in no displayed step and no byte of the database, yet the flow has
them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.daemon import Daemon
from tests.server.features.flows.steps import Bench, code, pipeline, ref, spec

from portico.errors import InvalidRequest, PorticoError
from portico.wire import Finished

Effect = Callable[..., dict[str, Any]]

MINT = "lambda x: {'Password': 'open-' + 'sesame-' + x, 'user': 'ali'}"
"""Returns a secret that is never written out as a whole, apart from its input."""


def kept(daemon: Daemon) -> bytes:
    """Return every byte of the database."""
    files = sorted(Path(daemon.home).glob("portico.db*"))
    assert files
    return b"".join(file.read_bytes() for file in files)


def shown(bench: Bench) -> str:
    return str(bench.client.runs.trace(bench.run_id, full=True))


def test_a_redacted_field_and_every_copy_of_its_value_are_hidden(
    bench: Bench, flow_daemon: Daemon, effect: Effect
) -> None:
    login = effect("login", ref("value.Password"))
    tell = code(
        "lambda u, p: f'{u} came in with {p}'",
        "tell",
        args=[ref("steps.mint.user"), ref("steps.mint.Password")],
    )
    step = pipeline(code(MINT, "mint"), login, tell)
    answer = bench(step, "one", durability="normal", redact=["password"])
    assert answer == "ali came in with open-sesame-one", "the flow itself has it"
    assert "open-sesame-one" in bench.outside.effects.values()
    trace = bench.trace()
    assert trace["p.mint"].output == {"Password": "[redacted]", "user": "ali"}
    assert trace["p.tell"].output == "ali came in with [redacted]"
    assert "open-sesame" not in shown(bench)
    assert b"open-sesame" not in kept(flow_daemon)
    [last] = [
        item.event for item in bench.client.runs.events(bench.run_id) if isinstance(item.event, Finished)
    ]
    assert last.result == "ali came in with [redacted]", "nor is it in what the run is remembered by"


def test_redaction_rules_of_the_settings_apply_to_every_flow(bench: Bench, flow_daemon: Daemon) -> None:
    step = pipeline(
        code("lambda x: {'vault_id': 'heart-' + x, 'key': 'sk-' + 'test-' + x, 'pin': 4711}", "get"),
        code("lambda x: 'all of ' + x['key'] + ' and ' + x['vault_id']", "say"),
    )
    assert bench(step, "abc", durability="normal") == "all of sk-test-abc and heart-abc"
    assert bench.trace()["p.get"].output == {
        "vault_id": "[redacted]",
        "key": "[redacted]",
        "pin": "[redacted]",
    }
    assert bench.trace()["p.say"].output == "all of [redacted] and [redacted]"
    assert b"sk-test-abc" not in kept(flow_daemon) and b"heart-abc" not in kept(flow_daemon)


def test_redacted_values_of_the_input_are_hidden(bench: Bench) -> None:
    step = pipeline(code("lambda x: x['note'] + '!'", "a"), {"op": "llm", "name": "m", "model": "echo"})
    flow_input = {"pass_word": "quite-secret", "note": "quite-secret is what I said"}
    assert "quite-secret" in bench(step, flow_input, redact=["pass*word"])
    assert "quite-secret" not in shown(bench)
    assert bench.trace()["p.a"].input == {"pass_word": "[redacted]", "note": "[redacted] is what I said"}


def test_redacted_values_are_hidden_in_error_messages(bench: Bench, flow_daemon: Daemon) -> None:
    raising = code("lambda x: {}[x['password']]", "boom")
    with pytest.raises(PorticoError, match="hush-hush-two"):
        bench(
            pipeline(code("lambda x: {'password': 'hush-' + 'hush-' + x}", "mint"), raising), "two", **NORMAL
        )
    assert "hush-hush" not in shown(bench)
    assert b"hush-hush" not in kept(flow_daemon)


def test_a_step_whose_redacted_output_was_not_stored_is_rerun_on_resume(bench: Bench, effect: Effect) -> None:
    done = effect("done", "once")
    url = f"{bench.outside.url}/flaky/redacted/1"
    step = pipeline(
        done,
        code(MINT, "mint", args=["three"]),
        {"op": "http", "name": "ask", "method": "GET", "url": url},
        code("lambda p: p[-5:]", "last", args=[ref("steps.mint.Password")]),
    )
    with pytest.raises(PorticoError, match="answered 503"):
        bench(step, **NORMAL)
    run = bench.run_id
    bench.client.runs.resume(run)
    assert [item.event for item in bench.client.runs.events(run)][-1].result == "three"
    assert bench.outside.calls[f"{run}:p.done"] == 1, "and the others are not"


def test_a_durable_run_with_redacted_input_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="must not be recorded") as caught:
        bench(code("lambda x: 1"), {"password": "open sesame"}, **NORMAL)
    assert caught.value.code == "redacted_input"
    assert bench(code("lambda x: 1"), {"password": "open sesame"}, redact=["password"]) == 1


def test_an_output_with_redacted_values_is_not_cached(bench: Bench, flow_daemon: Daemon) -> None:
    step = code("lambda x: {'password': 'cached-' + 'secret-' + x}", "c", cache=True)
    for _ in range(2):
        assert bench(step, "four", redact=["password"])["password"] == "cached-secret-four"
        assert not bench.trace()["c"].hit
    assert b"cached-secret" not in kept(flow_daemon)


def test_redaction_rules_other_than_a_list_of_names_are_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match=r"flow\.redact"):
        bench.client.run(spec(code("lambda x: x"), redact="password"))


NORMAL = {"durability": "normal", "redact": ["password"]}
