"""An engine's program is missing: its model reports it, others answer, and it starts once the program is back."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server
from tests.server.features.gpu_engines.external.interpreter import interpreter, model


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        server.add(RelayModel("teller", b'{"object":"chat.completion"}'))
        yield server


def ask(name: str) -> dict[str, Any]:
    return {"model": name, "messages": [{"role": "user", "content": "Hello"}]}


async def call(daemon: ApiServer, name: str) -> httpx.Response:
    return await daemon.client.post("/v1/chat/completions", json=ask(name), timeout=60)


async def test_a_model_with_a_missing_engine_program_answers_once_it_is_installed(
    daemon: ApiServer, tmp_path: Path
) -> None:
    python = str(interpreter(tmp_path))
    body = {
        "name": "guest",
        "source": model(tmp_path),
        "engine": "vllm",
        "parameters": {"python": python},
    }
    os.rename(python, tmp_path / "aside")
    deployment = await daemon.client.post("/api/deployments", json=body)
    assert deployment.status_code in (200, 400), deployment.text
    if deployment.status_code == 200:
        refusal = await call(daemon, "guest")
        assert 400 <= refusal.status_code < 600 and refusal.status_code != 500
        assert Path(python).name in refusal.json()["error"]["message"]
    else:
        assert python in deployment.json()["error"]["message"]
    assert (await call(daemon, "teller")).status_code == 200
    os.rename(tmp_path / "aside", python)
    if deployment.status_code != 200:
        assert (await daemon.client.post("/api/deployments", json=body)).status_code == 200
    answer = await call(daemon, "guest")
    assert answer.status_code == 200, answer.text
