"""The commands that monitor: models plan, top, logs."""

from __future__ import annotations

import pytest
from tests.client.cli.conftest import Command

from portico._read import read
from portico.cli.logs import fresh
from portico.cli.top import COLUMNS, Moment, rows
from portico.schemas.deployments import Deployment


def test_models_plan_prints_text_or_json(command: Command) -> None:
    done = command("models", "plan", "echo")
    assert done.code == 0 and "fake" in done.out and "It runs elsewhere" in done.out
    plan = command("models", "plan", "default-embedding", "--hardware", "mac-m3-24g", "--json").json
    assert plan["engine"] == "static" and plan["hardware"].endswith("Apple M3 (17 GB)")
    assert "rtx4090" in command("models", "plan", "echo", "--hardware", "rtx4900").err


def test_models_show_describes_the_planned_memory_use(command: Command) -> None:
    assert "uses no memory of this machine" in command("models", "show", "echo").out


def test_a_model_is_added_with_default_parameters_and_a_pin(command: Command) -> None:
    done = command(
        "models", "add", "terse", "--source", "fake://", "--pin", "--keep-alive", "5",
        "--default", "max_tokens=1", "--default", "stop=x", "--json",
    )  # fmt: skip
    assert done.json["pin"] is True and done.json["keep_alive"] == 5
    assert command("chat", "--help").code == 0
    assert "expected NAME=VALUE" in command("models", "add", "x", "--source", "fake://", "--default", "y").err
    assert command("models", "remove", "terse", "--yes").code == 0


READY = {
    "name": "m",
    "source": "fake://",
    "engine": "fake",
    "task": "chat",
    "state": "ready",
    "aliases": ["default"],
    "description": "",
}


def test_top_shows_the_models_once_without_a_terminal(command: Command) -> None:
    assert command("models", "load", "echo").code == 0
    lines = command("top").out.splitlines()
    assert any(line.startswith("echo\tready\t") for line in lines)
    assert {model["name"] for model in command("top", "--json").json["data"]} >= {"echo"}


def test_top_computes_rates_between_two_samples_including_aliases() -> None:
    model = read(Deployment, {**READY, "calls": 2})
    earlier_moment = Moment(10.0, [model], {"m": 1, "default": 4}, {"m": 10})
    later_moment = Moment(12.0, [model], {"m": 2, "default": 6}, {"m": 50, "default": 10})
    assert rows(earlier_moment, later_moment) == [("m", "ready", "", 2, "90", "25.0", "", 0, 0)]


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        ({"other": 5.0}, ""),
        ({"m": 1.0, "default": 0.5}, "$1.50"),
        ({"m": 0.00123456}, "$0.00123"),
        ({"m": 0.0}, "$0.00"),
    ],
)
def test_top_sums_the_cost_of_a_model_over_its_aliases(cost: dict[str, float], shown: str) -> None:
    model = read(Deployment, READY)
    moment = Moment(10.0, [model], {}, {}, cost)
    [row] = rows(moment, moment)
    assert row[COLUMNS.index("COST")] == shown


def test_logs_of_a_model_are_printed_as_text_and_json(command: Command) -> None:
    assert command("logs", "echo").code == 0
    assert isinstance(command("logs", "echo", "-n", "5", "--json").json["data"], list)


def test_a_followed_log_prints_each_line_once() -> None:
    assert fresh(["a", "b"], ["a", "b", "c"]) == ["c"]
    assert fresh(["a", "b", "b"], ["b", "b", "d"]) == ["d"]
    assert fresh(["a", "b"], ["a", "b"]) == []
    assert fresh(["a"], ["x", "y"]) == ["x", "y"]
    assert fresh([], ["x"]) == ["x"]
