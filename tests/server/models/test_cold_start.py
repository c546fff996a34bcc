"""A cold start as callers see it: its progress, and many callers that wait for one start."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.children import children

from portico.testing.model_fixture import ModelFixture, Streamed, model_fixture, user
from portico.wire import Event, Progressed
from portico_server.core.errors import PorticoError, TooMany
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat
from portico_server.models import deployment
from portico_server.models.engines.llamacpp import adapters
from portico_server.models.spec import ModelSpec
from portico_server.models.start_stage import stage_in

CROWD = 1_000
HI = {"messages": user("hello")}


async def slow(models: ModelFixture, seconds: float, **fields: Any) -> None:
    script = {"start": seconds, "replies": []}
    await models.models.add(ModelSpec("slow", "fake://", parameters={"script": script}, **fields), keep=False)


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]", ("load", 50)),
        ("Loading pt checkpoint shards: 100% Completed | 2/2", ("load", 100)),
        ("Loading checkpoint shards:   7%|▋", ("load", 7)),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  40%|████", ("warm-up", 40)),
        ("\rLoading weights:  10%|\rLoading weights:  20%|", ("load", 20)),
        ("Loading weights: 100%|█\nCapturing CUDA graph shapes:   3%|", ("warm-up", 3)),
        ("GPU KV cache usage: 12%", None),
        ("", None),
    ],
)
def test_stages_are_read_from_logs(text: str, stage: tuple[str, int] | None) -> None:
    assert stage_in(text) == stage


READER = """
import mmap, sys

with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
    for _ in sys.stdin:
        begin = int(_)
        sum(mapped[begin : begin + int(sys.argv[2]) : mmap.PAGESIZE])
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not tell how much of a file is in memory"
)
async def test_llamacpp_load_progress_is_the_share_of_the_file_in_memory(tmp_path: Path) -> None:
    file, half = tmp_path / "m-00001-of-00001.gguf", 32 * 1024 * 1024
    file.write_bytes(bytes(2 * half))
    stage_queue: asyncio.Queue[tuple[str, int | None]] = asyncio.Queue()
    watch = adapters.report_load_progress(
        [str(file), ""], lambda stage, percent: stage_queue.put_nowait((stage, percent))
    )
    assert watch is not None and adapters.report_load_progress([str(file)], None) is None
    command = (sys.executable, "-S", "-c", READER, str(file), str(half))
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    watching = asyncio.create_task(watch(process.pid))
    await asyncio.sleep(0)  # its first check
    try:
        process.stdin.write(b"0\n")
        stage, percent = "load", 0
        while stage == "load" and percent is not None and percent < 50:
            stage, percent = await stage_queue.get()
        assert stage == "load" and percent is not None and 50 <= percent < 100
        process.stdin.write(f"{half}\n".encode())
        while stage == "load":
            stage, percent = await stage_queue.get()
        assert (stage, percent) == ("warm-up", None)
        await watching
    finally:
        watching.cancel()
        process.kill()
        await process.wait()


async def test_the_run_tells_each_stage_with_its_percentage(models: ModelFixture) -> None:
    await slow(models, 0.4)
    events: list[Event] = []

    run = await models.runner.start("chat", "slow", Chat(tuple(user("hello"))), LOCAL)
    async for _, event in run.log.follow():
        events.append(event)
    stages = [event for event in events if isinstance(event, Progressed)]
    assert [stage.done for stage in stages if stage.unit == "%"] == sorted(
        {stage.done for stage in stages if stage.unit == "%"}, key=lambda done: done or 0
    )
    load_stages = [stage for stage in stages if stage.stage == "load" and stage.done]
    assert len(load_stages) >= 3 and all(
        stage.total == 100 and stage.message == "slow" for stage in load_stages
    )


async def test_a_stream_begins_with_comments_that_say_how_far_it_is(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "COMMENT_INTERVAL_S", 0.05)
    await slow(models, 0.5)
    result = await models.stream("slow", HI)
    comments = [frame for frame in result.frames if frame.startswith(b": ")]
    assert result.text() == "hello" and result.done
    assert any(frame.startswith(b": loading slow: ") and frame.endswith(b" %") for frame in comments)


async def test_a_thousand_callers_for_a_cold_model_share_one_start_and_all_are_answered(
    tmp_path: Path,
) -> None:
    async with model_fixture(tmp_path, queue_limit=0) as daemon:
        await slow(daemon, 0.5)
        answers = await asyncio.gather(*(daemon.ask("slow", HI) for _ in range(CROWD)))
        assert {answer["choices"][0]["message"]["content"] for answer in answers} == {"hello"}
        info = daemon.models.get("slow")
        assert (info.starts, info.calls, len(children())) == (1, 0, 1)
    assert children() == []


async def test_a_thousand_callers_beyond_the_queue_get_an_answer_or_429(tmp_path: Path) -> None:
    async def ask(models: ModelFixture, stream: bool) -> str:
        try:
            if stream:
                relayed = await models.relay("slow", {**HI, "stream": True})
                return "answered" if (await Streamed.of(relayed)).text() == "hello" else "wrong"
            await models.ask("slow", HI)
        except TooMany as error:
            return "refused" if error.code == "queue_full" and error.retry_after else error.message
        except PorticoError as error:
            return error.message
        return "answered"

    async with model_fixture(tmp_path, queue_limit=200) as models:
        await slow(models, 0.5)
        ends = await asyncio.gather(*(ask(models, number % 2 == 0) for number in range(CROWD)))
        assert {end: ends.count(end) for end in set(ends)} == {"answered": 200, "refused": 800}
        assert models.models.get("slow").starts == 1
    assert children() == []


async def test_a_start_that_never_ends_is_one_error_for_all_who_wait(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, load_timeout=0.5) as daemon:
        await slow(daemon, 60)
        ends = await asyncio.gather(*(daemon.ask("slow", HI) for _ in range(50)), return_exceptions=True)
        assert {getattr(end, "code", None) for end in ends} == {"load_timeout"}
        assert children() == []
