"""The screen Models."""

from __future__ import annotations

from tests.daemon import Daemon
from tests.tui.terminal import terminal
from textual.widgets import Input, Static

from portico_tui.daemon import Progressed
from portico_tui.widgets.dialogs import Confirm, Form, Help, Reader
from portico_tui.widgets.working import Working


async def test_models_are_listed_with_their_state_and_names(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.until(lambda: screen.rows("#rows"))
        assert screen.row("#rows", "talker")[3:] == ["chat", "default"]
        assert screen.row("#rows", "vectors")[3] == "embedding"


async def test_a_model_is_loaded_and_unloaded(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.until(lambda: screen.row("#rows", "talker"))
        await screen.choose("#rows", "talker")
        await screen.press("l")
        await screen.until(lambda: screen.row("#rows", "talker")[1] == "● ready")
        await screen.until(lambda: screen.row("#rows", "talker")[2])  # its memory
        assert "process" in screen.text("#detail")
        await screen.press("u")
        await screen.until(lambda: screen.row("#rows", "talker")[1] == "○ cold")


async def test_a_model_is_added_and_after_a_question_removed(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.press("a")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.type("second")
        await screen.type("nowhere://[b]x[/b]")
        await screen.until(lambda: screen.told)
        assert "nowhere" in screen.told[-1]  # refused, with the daemon's message

        await screen.press("a")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.type("second")
        await screen.type("fake://")
        await screen.until(lambda: not isinstance(screen.app.screen, Form) and screen.row("#rows", "second"))

        await screen.choose("#rows", "second")
        await screen.press("d")
        await screen.until(lambda: isinstance(screen.app.screen, Confirm))
        await screen.press("enter")  # the focus is on No
        await screen.until(lambda: not isinstance(screen.app.screen, Confirm))
        assert screen.row("#rows", "second")
        await screen.press("d")
        await screen.until(lambda: isinstance(screen.app.screen, Confirm))
        await screen.press("y")
        await screen.until(
            lambda: not isinstance(screen.app.screen, Confirm) and not screen.row("#rows", "second")
        )


async def test_a_form_wants_every_line_that_is_not_optional(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.press("a")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.press("enter")
        await screen.type("fake://")
        assert isinstance(screen.app.screen, Form)
        assert screen.app.focused is screen.app.screen.query(Input).first()
        await screen.press("escape")
        assert not isinstance(screen.app.screen, Form)


async def test_a_failed_model_pull_shows_the_daemons_message(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.press("p")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        screen.app.screen.query_one(Input).value = ""
        await screen.type("/no/such/model.gguf")
        await screen.until(lambda: screen.told)
        assert "/no/such/model.gguf" in screen.told[-1]
        await screen.until(lambda: not screen.app.screen.query(Working))


async def test_a_download_shows_how_far_it_is(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        line = Working("pypi://some-model")
        await screen.app.screen.query_one("#runs").mount(line)
        line.show(Progressed("download", done=12_100_000, total=98_300_000, unit="bytes"))
        await screen.until(lambda: line.region.width)
        assert str(line.query_one(".measure", Static).render()) == "download 12.1 MB of 98.3 MB"


async def test_the_logs_of_an_engine_can_be_read(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.until(lambda: screen.rows("#rows"))
        await screen.press("g")
        await screen.until(lambda: isinstance(screen.app.screen, Reader))
        assert screen.text("#text")
        await screen.press("escape")
        assert not isinstance(screen.app.screen, Reader)


async def test_help_lists_the_keys_of_the_screen(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.press("question_mark")
        await screen.until(lambda: isinstance(screen.app.screen, Help))
        help_text = "\n".join(str(part.render()) for part in screen.app.screen.query(Static))
        assert "Load the model into memory" in help_text
        assert "Quit" in help_text
