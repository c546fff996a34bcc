"""The cost of calls, from a provider's token counts to the numbers that an operator sees."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.server.models.engines.remote.provider import Answer, completion, serving

CONFIGURATION = """
models:
  - {name: gpt, source: "remote://openai/gpt-4o", aliases: [default]}
  - {name: house, source: "remote://openai/house-model"}
  - {name: strange, source: "remote://openai/strange"}
  - {name: here, source: "fake://"}
"""

PRICES = "- {model: openai/house-model, input: 1000, output: 0}\n"

CALL = (3 * 2.5 + 2 * 10) / 1e6
"""Cost of a call in dollars: the stand-in counts three input tokens and two output tokens."""

FRAMES = (
    b'data: {"id": "1", "created": 1, "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}'
    b'\n\ndata: {"id": "1", "created": 1, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}'
    b"\n\ndata: [DONE]\n\n"
)


@pytest.mark.slow
async def test_costs_reach_usage_and_metrics_and_top(tmp_path: Path) -> None:
    files = {"portico.yaml": CONFIGURATION, "prices.yaml": PRICES}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    full_answer = Answer(completion())
    flow_answers = (Answer(FRAMES), Answer(FRAMES), Answer(FRAMES))
    async with serving(full_answer, Answer(FRAMES), full_answer, full_answer, *flow_answers) as provider:
        variables = {
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "OPENAI_API_KEY": "sk-test",
            "PORTICO_PRICES": str(tmp_path / "prices.yaml"),
        }
        arguments = ("--file", str(tmp_path / "portico.yaml"))
        with daemons.running(tmp_path / "home", *arguments, env=variables) as daemon:
            async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as client:
                for model, extra_fields in (
                    ("gpt", {}),
                    ("gpt", {"stream": True}),
                    ("house", {}),
                    ("strange", {}),
                    ("here", {}),
                ):
                    body = {
                        "model": model,
                        "messages": [{"role": "user", "content": "Hello"}],
                        **extra_fields,
                    }
                    (await client.post("/v1/chat/completions", json=body)).raise_for_status()
                metrics = (await client.get("/metrics")).text
                await costs_of_steps(client)
                table = await asyncio.to_thread(portico, "top", url=daemon.url)
                daemon_usage = await usage(client, 4)
    assert daemon_usage["gpt"]["calls"] == 2 and daemon_usage["gpt"]["cost"] == pytest.approx(2 * CALL)
    assert daemon_usage["house"]["cost"] == pytest.approx(3 * 1000 / 1e6)
    assert daemon_usage["strange"]["cost"] is None and daemon_usage["here"]["cost"] is None
    labels = 'name="gpt",operation="chat/completions"'
    [line] = [
        line for line in metrics.splitlines() if line.startswith("portico_cost_dollars_total{" + labels)
    ]
    assert float(line.rpartition(" ")[2]) == pytest.approx(2 * CALL)
    assert "strange" not in "".join(row for row in metrics.splitlines() if row.startswith("portico_cost"))
    rows = {line.split("\t")[0]: line.split("\t") for line in table.splitlines()}
    assert "$5.5e-05" in rows["gpt"] and "$0.003" in rows["house"]
    assert not any(cell.startswith("$") for name in ("strange", "here") for cell in rows[name])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_costs_what_the_model_that_answered_it_costs(tmp_path: Path, stream: bool) -> None:
    prices = (
        "- {model: openai/dear, input: 1000, output: 1000}\n- {model: openai/cheap, input: 1, output: 1}\n"
    )
    (tmp_path / "prices.yaml").write_text(prices)
    answer = Answer(FRAMES if stream else completion())
    async with serving(Answer(b"", 500)) as failing_server, serving(answer) as working_server:
        models = [
            ("dear", f"{failing_server.url}/v1", {"fallback": ["cheap"], "retries": 0}),
            ("cheap", f"{working_server.url}/v1", {}),
        ]
        configured = [
            {
                "name": name,
                "source": f"remote://openai/{name}",
                "parameters": {"base_url": url, **extra_parameters},
            }
            for name, url, extra_parameters in models
        ]
        (tmp_path / "portico.json").write_text(json.dumps({"models": configured}))
        variables = {"OPENAI_API_KEY": "sk-test", "PORTICO_PRICES": str(tmp_path / "prices.yaml")}
        arguments = ("--file", str(tmp_path / "portico.json"))
        with daemons.running(tmp_path / "home", *arguments, env=variables) as daemon:
            async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as client:
                body = {"model": "dear", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
                (await client.post("/v1/chat/completions", json=body)).raise_for_status()
                [row] = (await client.get("/api/usage")).json()["data"]
                table = await asyncio.to_thread(portico, "top", url=daemon.url)
    assert len(failing_server.bodies) == len(working_server.bodies) == 1
    assert (row["name"], row["model"]) == ("dear", "cheap")
    assert row["cost"] == pytest.approx((3 * 1 + 2 * 1) / 1e6)
    rows = {line.split("\t")[0]: line.split("\t") for line in table.splitlines()}
    assert "$5e-06" in rows["cheap"] and not any(cell.startswith("$") for cell in rows["dear"])


async def costs_of_steps(client: httpx.AsyncClient) -> None:
    """The trace of a flow contains the cost of each step; the trace and the run contain the sum."""
    steps = [
        {"name": name, "op": "llm", "model": model}
        for name, model in (("a", "gpt"), ("b", "strange"), ("c", "gpt"))
    ]
    flow = {
        "portico_flow": 1,
        "name": "f",
        "durability": "normal",
        "step": {"op": "pipeline", "name": "p", "steps": steps},
    }
    done = await client.post("/api/flows/run", json={"flow": flow, "input": "Hello"})
    run = done.headers["x-portico-run"]
    trace = (await client.get(f"/api/runs/{run}/trace")).json()
    costs = {step["path"]: step["cost"] for step in trace["steps"]}
    assert costs == {"p.a": pytest.approx(CALL), "p.b": None, "p.c": pytest.approx(CALL), "p": None}
    assert trace["usage"]["cost"] == pytest.approx(2 * CALL)
    run_document = (await client.get(f"/api/runs/{run}")).json()
    assert run_document["usage"] == trace["usage"], "also when it has ended long ago"
    output = await asyncio.to_thread(portico, "runs", "show", run, url=str(client.base_url))
    assert f"${2 * CALL:.3g}" in output


def portico(*arguments: str, url: str) -> str:
    command = [str(Path(sys.executable).with_name("portico")), "--url", url, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def usage(client: httpx.AsyncClient, names: int) -> dict[str, Any]:
    """Return the usage by name, once its rows are written."""
    async with asyncio.timeout(60):
        while True:
            rows = json.loads((await client.get("/api/usage")).content)["data"]
            if len(rows) >= names:
                return {row["name"]: row for row in rows}
