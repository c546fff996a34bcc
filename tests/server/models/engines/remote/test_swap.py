"""Switching from a local model to a provider and back, while clients keep calling ``default``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from tests import daemon as daemons
from tests.daemon import ROOT, Daemon
from tests.server.models.engines.remote.provider import Answer, completion, serving
from tests.server.models.engines.remote.test_anthropic import MESSAGE

LOCAL = """
models:
  - {name: small, source: "fake://", aliases: [default]}
"""


async def said(daemon: Daemon, model: str = "default") -> str | None:
    async with openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "ping"}]
        )
    return answer.choices[0].message.content


async def portico(daemon: Daemon, *arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("portico")), "--url", daemon.url, *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
async def test_one_command_moves_default_to_a_provider(tmp_path: Path) -> None:
    configuration = tmp_path / "local.yaml"
    configuration.write_text(LOCAL, encoding="utf-8")
    async with serving(Answer(completion("from afar"))) as provider:
        variables = {"OPENAI_BASE_URL": f"{provider.url}/v1", "OPENAI_API_KEY": "sk-test"}
        with daemons.running(tmp_path / "home", "--file", str(configuration), env=variables) as daemon:
            assert await said(daemon) == "ping"
            await portico(
                daemon, "models", "add", "gpt", "--source", "remote://openai/gpt-5-mini", "--alias", "default"
            )
            assert await said(daemon) == "from afar"
            await portico(daemon, "models", "alias", "default", "small")
            assert await said(daemon) == "ping"
    assert provider.bodies[0]["model"] == "gpt-5-mini"
    assert provider.headers[0]["Authorization"] == "Bearer sk-test"


async def test_the_online_example_runs(tmp_path: Path) -> None:
    async with serving(Answer(b"", 500)) as failing_server, serving(Answer(MESSAGE)) as anthropic:
        variables = {
            "OPENAI_BASE_URL": f"{failing_server.url}/v1",
            "OPENAI_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": anthropic.url,
            "ANTHROPIC_API_KEY": "sk-ant-test",
        }
        example = ROOT / "configs" / "online.yaml"
        with daemons.running(tmp_path / "home", "--file", str(example), env=variables) as daemon:
            assert await said(daemon, "claude") == "Hi! My name is Claude."
            assert await said(daemon) == "Hi! My name is Claude.", "gpt is down, its first fallback answers"
    assert len(failing_server.bodies) == 1 and len(anthropic.bodies) == 2
