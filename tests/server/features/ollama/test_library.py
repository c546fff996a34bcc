"""Models fetched and removed by Ollama's own client, from a hub on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ollama import AsyncClient, ResponseError
from tests import daemon as daemons
from tests.server.models.hubs import Hub, serving
from tests.server.models.model_files import LLAMA, gguf

FILE = "model-Q4_K_M.gguf"
SOURCE = f"hf://org/model/{FILE}"

BOSS, GUEST = "pk-boss-00000000000000000000000000", "pk-guest-0000000000000000000000000"

KEYS = f"""
keys:
  - {{name: boss, key: {BOSS}, scopes: [admin]}}
  - {{name: guest, key: {GUEST}, scopes: [chat]}}
"""


@asynccontextmanager
async def client_of(folder: Path, key: str = BOSS, template: str = "") -> AsyncIterator[AsyncClient]:
    """Yield Ollama's client for a daemon whose hub has one model with this chat template."""
    (folder / "keys.yaml").write_text(KEYS, encoding="utf-8")
    header = {**LLAMA, "tokenizer.chat_template": template}
    async with serving(Hub({FILE: gguf(header, [("w", (256, 256), 0)])})) as hub:
        env = {"PORTICO_HF_ENDPOINT": hub.url, "PORTICO_MODELS": str(folder / "models")}
        with daemons.running(folder / "home", "--file", str(folder / "keys.yaml"), env=env) as daemon:
            async with AsyncClient(daemon.url, headers={"Authorization": f"Bearer {key}"}) as client:
                yield client


async def pull(client: AsyncClient, source: str, *, stream: bool) -> None:
    """Fetch a model, and read the lines of its progress if there are any."""
    if not stream:
        await client.pull(source)
        return
    async for _line in await client.pull(source, stream=True):
        pass


@pytest.mark.conformance("Ollama", "Pull, show and delete", "ollama")
async def test_a_model_is_pulled_listed_and_deleted_under_its_source(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        lines = [line async for line in await client.pull(SOURCE, stream=True)]
        assert [lines[0].status, lines[-1].status] == ["pulling manifest", "success"]
        bars = [line for line in lines if line.total]
        assert bars and bars[-1].completed == bars[-1].total
        assert {(line.status, line.digest) for line in bars} == {(f"pulling {SOURCE}", bars[0].digest)}
        assert SOURCE in [model.model for model in (await client.list()).models]
        assert (await client.pull(SOURCE)).status == "success"
        assert (await client.delete(f"{SOURCE}:latest")).status == "success"
        assert SOURCE not in [model.model for model in (await client.list()).models]


@pytest.mark.parametrize(
    ("template", "capabilities"),
    [("{{ messages }}", []), ("{{ messages }}{% if enable_thinking %}<think>{% endif %}", ["thinking"])],
)
async def test_only_a_model_with_a_thinking_template_has_the_thinking_capability(
    tmp_path: Path, template: str, capabilities: list[str]
) -> None:
    async with client_of(tmp_path, template=template) as client:
        await client.pull(SOURCE)
        assert (await client.show(SOURCE)).capabilities == ["completion", "tools", *capabilities]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("llama3.2", "is not a model source"),
        ("hf://org", "hf://ORG/REPO"),
        ("hf://org/other/x.gguf", "org/other"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_source_that_leads_nowhere_is_named(
    tmp_path: Path, source: str, message: str, stream: bool
) -> None:
    async with client_of(tmp_path) as client:
        with pytest.raises(ResponseError) as error:
            await pull(client, source, stream=stream)
        assert message in error.value.error
        assert source not in [model.model for model in (await client.list()).models]


async def test_only_a_key_of_the_operator_pulls_and_deletes(tmp_path: Path) -> None:
    async with client_of(tmp_path, GUEST) as client:
        for call in (client.pull(SOURCE), client.delete("default")):
            with pytest.raises(ResponseError) as error:
                await call
            assert (error.value.status_code, "admin" in error.value.error) == (403, True)
