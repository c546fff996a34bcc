"""`portico up` and `down`, as users start and stop them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import CONFIGURATION
from tests.daemon import environment

from portico import Client

Start = Callable[..., "subprocess.Popen[str]"]

LIMIT = 60
"""Seconds after which a test gives up on a process."""

MAIN = "import sys; from portico.cli import main; sys.exit(main())"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "portico.yaml"
    path.write_text(CONFIGURATION, encoding="utf-8")
    return path


@pytest.fixture
def portico(home: Path, configuration: Path) -> Iterator[Start]:
    """Start ``portico …`` on this test's home folder; processes that still run afterwards are stopped."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, home: Path = home, code: str = MAIN) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(PORTICO_HOME=str(home), NO_COLOR="1"),
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        try:
            yield start
        finally:
            if (home / "daemon.json").exists():
                start("down").communicate(timeout=LIMIT)


def _up(portico: Start, configuration: Path, *arguments: str, code: str = MAIN) -> subprocess.Popen[str]:
    return portico("up", "--port", "0", "-f", str(configuration), *arguments, code=code)


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if words in line:
            return output
    raise AssertionError(f"{output!r}, {process.stderr and process.stderr.read()!r}")


def _url(home: Path) -> str:
    url = json.loads((home / "daemon.json").read_text(encoding="utf-8"))["url"]
    assert isinstance(url, str)
    return url


def _gone(pid: int) -> bool:
    """Return whether a process that is not our child has ended; wait for its end."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], LIMIT)[0])
    finally:
        os.close(descriptor)


@pytest.mark.slow
def test_up_prints_urls_and_apps_and_ctrl_c_stops_the_daemon(
    portico: Start, home: Path, configuration: Path, docs: Path
) -> None:
    process = _up(portico, configuration, "--docs", str(docs))
    panel = _read_until(process, "Press Ctrl-C")
    url = _url(home)
    pid = json.loads((home / "daemon.json").read_text(encoding="utf-8"))["pid"]
    assert panel.startswith(f"Page       {url}/ "), "the page comes first: a person looks at that one"
    assert f"{url}/v1" in panel
    assert f"{url}/mcp" in panel
    assert "handbook" in panel
    assert 'portico ask "' in panel
    assert str(home) in panel
    process.send_signal(signal.SIGINT)
    remaining_output, errors = process.communicate(timeout=LIMIT)
    assert remaining_output == "Stopped.\n"
    assert process.returncode == 130
    assert "handbook: 3 files are ready." in errors
    assert panel.count("\n") + errors.count("\n") <= 15, "the script that installs prints five lines before"
    assert "Traceback" not in errors
    assert _gone(pid)
    assert not (home / "daemon.json").exists()


IN_A_DESTRUCTOR = """
import os, signal, sys, typer
from portico.cli import main

class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

echo = typer.echo

def echo_and_interrupt(message="", *rest, **options):
    echo(message, *rest, **options)
    if "Ctrl-C" in message:
        Interrupted()

typer.echo = echo_and_interrupt
sys.exit(main())
"""


@pytest.mark.slow
def test_ctrl_c_while_the_hint_is_printed_stops_the_daemon(
    portico: Start, home: Path, configuration: Path
) -> None:
    """Python drops a `KeyboardInterrupt` that it raises in a destructor."""
    process = _up(portico, configuration, code=IN_A_DESTRUCTOR)
    output, errors = process.communicate(timeout=LIMIT)
    assert output.endswith("Press Ctrl-C to stop.\nStopped.\n")
    assert (process.returncode, errors) == (130, "")
    assert not (home / "daemon.json").exists()


@pytest.mark.slow
def test_a_folder_without_readable_documents_is_reported(
    portico: Start, configuration: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "attic"
    folder.mkdir()
    (folder / "old.bin").write_bytes(b"\x00\x01")
    process = _up(portico, configuration, "--docs", str(folder))
    _read_until(process, "Press Ctrl-C")
    process.send_signal(signal.SIGINT)
    assert (
        "attic contains no documents. Skipped 1 of 1 file: 1 of an unsupported format. "
        "portico stores show attic --files\n" in process.communicate(timeout=LIMIT)[1]
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--detach",)])
def test_the_panel_is_printed_before_indexing_has_finished(
    portico: Start, configuration: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "pipes"
    folder.mkdir()
    (folder / "long.txt").write_text("The tide turns at noon. " * 100_000, encoding="utf-8")
    process = _up(portico, configuration, "--docs", str(folder), *arguments)
    panel = _read_until(process, "Data  ")
    [url] = [line.split()[1].removesuffix("/") for line in panel.splitlines() if line.startswith("Page")]
    with Client(url) as client:
        [store] = client.status().stores
        assert (store.name, store.file_counts.completed) == ("pipes", 0)
    if arguments:
        _said, errors = process.communicate(timeout=LIMIT)
        assert "Reading pipes continues in the background: portico runs tail run_" in errors
    else:
        _read_until(process, "Press Ctrl-C")
        with Client(url) as client:
            assert client.status().stores[0].file_counts.completed == 1


@pytest.mark.slow
@pytest.mark.process
def test_a_killed_daemon_is_reported_with_the_path_of_its_log(
    portico: Start, home: Path, configuration: Path
) -> None:
    process = _up(portico, configuration)
    _read_until(process, "Press Ctrl-C")
    os.kill(json.loads((home / "daemon.json").read_text(encoding="utf-8"))["pid"], signal.SIGKILL)
    _rest, errors = process.communicate(timeout=LIMIT)
    log = home / "logs" / "daemon.log"
    assert errors.endswith(f"The daemon was killed by signal 9 (SIGKILL). Its log: {log}\n")
    assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.process
def test_killing_the_command_leaves_no_daemon_behind(portico: Start, home: Path, configuration: Path) -> None:
    process = _up(portico, configuration)
    _read_until(process, "Press Ctrl-C")
    pid = json.loads((home / "daemon.json").read_text(encoding="utf-8"))["pid"]
    process.kill()
    assert _gone(pid)


@pytest.mark.slow
def test_up_right_after_the_first_one_was_killed_starts_a_daemon(
    portico: Start, home: Path, configuration: Path
) -> None:
    first = _up(portico, configuration)
    _read_until(first, "Press Ctrl-C")
    pid = json.loads((home / "daemon.json").read_text(encoding="utf-8"))["pid"]
    os.kill(pid, signal.SIGSTOP)  # it keeps its home locked while the second daemon starts
    first.kill()
    os.kill(pid, signal.SIGCONT)
    second = _up(portico, configuration, "--detach", "--json")
    output, errors = second.communicate(timeout=LIMIT)
    assert "already runs" not in errors
    assert json.loads((home / "daemon.json").read_text(encoding="utf-8"))["pid"] != pid
    assert json.loads(output)["url"] == _url(home)


@pytest.mark.slow
def test_a_detached_daemon_is_found_again_and_stopped(
    portico: Start, home: Path, configuration: Path, docs: Path
) -> None:
    output, errors = _up(portico, configuration, "--docs", str(docs), "--detach", "--json").communicate(
        timeout=LIMIT
    )
    summary = json.loads(output)
    assert summary["apps"] == ["handbook"]
    assert summary["url"] == _url(home)
    again = _up(portico, configuration, "--docs", str(docs), "--docs", str(home))
    output, errors = again.communicate(timeout=LIMIT)
    assert again.returncode == 0
    assert f"already runs at {summary['url']}." in errors
    assert summary["url"] in output
    assert "Reading" not in errors, "what the first start did is not shown as if it happened again"
    assert f"portico stores add {home}" in errors
    assert f"portico stores add {docs}" not in errors
    errors = portico("up", "--port", "1").communicate(timeout=LIMIT)[1]
    assert (
        f"You asked for port 1, but the daemon of this home folder already runs at {summary['url']}."
        in errors
    )
    assert "portico down" in errors and "--home FOLDER" in errors
    note = home / "daemon.json"
    stranger = home.parent / "other"  # its daemon was killed, and another daemon now listens on its port
    stranger.mkdir()
    shutil.copy(note, stranger)
    down_process = portico("down", home=stranger)
    assert (
        f"No Portico daemon runs on the home folder {stranger}" in down_process.communicate(timeout=LIMIT)[1]
    )
    assert down_process.returncode == 1
    down = portico("down", "--json")
    assert json.loads(down.communicate(timeout=LIMIT)[0])["stopped"] == summary["url"]
    assert not note.exists()
    second = portico("down")
    assert "No Portico daemon" in second.communicate(timeout=LIMIT)[1]
    assert second.returncode == 1


@pytest.mark.slow
def test_down_ends_a_daemon_that_a_terminal_holds(portico: Start, configuration: Path) -> None:
    process = _up(portico, configuration)
    _read_until(process, "Press Ctrl-C")
    assert portico("down").wait(LIMIT) == 0
    assert process.communicate(timeout=LIMIT)[0] == "Stopped.\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--docs", "/nowhere/at-all"), "/nowhere/at-all"),
        (("--file", "/nowhere.yaml"), "/nowhere.yaml"),
        (("--host", "0.0.0.0"), "key"),
        (("./docs",), "portico up --docs ./docs"),
        (("my.yaml",), "portico up -f my.yaml"),
    ],
)
def test_up_with_invalid_arguments_fails_with_one_sentence(
    portico: Start, arguments: tuple[str, ...], words: str
) -> None:
    process = portico("up", "--port", "0", *arguments)
    output, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, output) == (1, "")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_a_port_that_another_program_uses_is_named(portico: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = portico("up", "--port", str(port), "--json")
        output, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, output) == (1, "")
    assert str(port) in json.loads(errors)["error"]["message"]


def test_an_option_that_does_not_exist_starts_nothing(portico: Start, home: Path) -> None:
    process = portico("up", "--prot", "1")
    _said, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert "--port" in errors
    assert not home.exists()
