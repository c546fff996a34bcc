"""The screen Chat."""

from __future__ import annotations

import pytest
from tests.daemon import Daemon
from tests.tui.terminal import Terminal, terminal
from textual.widgets import Static

from portico_tui.daemon import Daemon as Facade
from portico_tui.daemon import Partner
from portico_tui.widgets.dialogs import Choose, Reader
from portico_tui.widgets.passages import Passages
from portico_tui.widgets.prompt import Prompt
from portico_tui.widgets.transcript import Question, Reply


async def chat(screen: Terminal, *, model: bool = False) -> None:
    """Go to the screen; talk to the app over the folder, or to the model."""
    await screen.until(lambda: any(store.file_counts.completed == 3 for store in screen.glance.stores))
    await screen.open("3", "Chat")
    await screen.until(lambda: "Talking to handbook" in screen.text("#partner"))
    if model:
        await screen.press("ctrl+t")
        await screen.until(lambda: isinstance(screen.app.screen, Choose))
        await screen.press("down", "enter")
        await screen.until(lambda: not isinstance(screen.app.screen, Choose))
        assert screen.text("#partner") == "Talking to default · model"


def state(screen: Terminal) -> str:
    """The line below the newest answer."""
    return str(list(screen.app.screen.query(Reply))[-1].query_one(".state", Static).render())


def newest(screen: Terminal) -> str:
    """The text of the newest answer."""
    replies = list(screen.app.screen.query(Reply))
    return replies[-1].text if replies else ""


async def test_an_app_answers_with_the_passages_it_stands_on(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen)
        assert "handbook · answers from documents" in screen.text("#partner")
        await screen.type("Which port does Lighthouse listen on?")
        await screen.until(lambda: screen.app.screen.query(Reply) and "tokens" in state(screen))
        cited = screen.app.screen.query_one("#cited", Passages)
        assert cited.passages[0].filename == "port.md"
        assert cited.region.width > 0
        cited.focus()
        await screen.press("enter")
        await screen.until(lambda: isinstance(screen.app.screen, Reader))
        assert "7419" in screen.text("#text")


async def test_a_model_is_talked_to_and_keys_are_letters_in_the_line(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("is 12 q?")
        await screen.until(lambda: screen.app.screen.query(Reply) and "tokens" in state(screen))
        assert [str(each.render()) for each in screen.app.screen.query(Question)] == ["is 12 q?"]
        assert newest(screen) == "is 12 q?"
        assert not screen.app.screen.query_one("#cited", Passages).passages


async def test_escape_stops_an_answer_and_the_next_question_works(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("be silent")
        await screen.until(lambda: newest(screen).startswith("one"))
        await screen.type("are you there")
        assert any("Esc stops it" in line for line in screen.told)
        await screen.press("escape")
        await screen.until(lambda: state(screen) == "Stopped.")
        await screen.press("enter")
        await screen.until(lambda: len(screen.app.screen.query(Reply)) == 2 and "tokens" in state(screen))
        assert newest(screen) == "are you there"


async def test_the_app_can_be_left_in_the_middle_of_an_answer(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("be silent")
        await screen.until(lambda: newest(screen).startswith("one"))
        await screen.press("ctrl+q")
    assert screen.app.return_code == 0


async def test_a_failure_is_said_below_the_question(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("break")
        await screen.until(lambda: screen.app.screen.query(Reply) and "too long" in state(screen))


async def test_an_answer_cannot_write_outside_its_place(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("mark")
        await screen.until(lambda: screen.app.screen.query(Reply) and "tokens" in state(screen))
        shown = screen.app.export_screenshot()
        assert "\x1b" not in shown
        assert "[b]bold[/b]" in shown.replace("&#160;", " ")


async def test_questions_are_remembered_answers_copied_and_all_forgotten(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        for question in ("first", "second"):
            await screen.type(question)
            await screen.until(
                lambda said=question: (
                    (found := screen.app.screen.query(Reply))
                    and found.last().text == said
                    and "tokens" in state(screen)
                )
            )
        await screen.press("ctrl+y")
        assert screen.app.clipboard == "second"
        prompt = screen.app.screen.query_one(Prompt)
        await screen.press("up", "up")
        assert prompt.value == "first"
        await screen.press("down", "down")
        assert prompt.value == ""
        await screen.press("ctrl+n")
        await screen.until(lambda: not screen.app.screen.query(Reply))
        await screen.press("ctrl+y")
        assert any("no answer to copy" in line for line in screen.told)


@pytest.mark.parametrize("partner", [Partner("handbook", True), Partner("default", False)])
async def test_a_conversation_is_sent_whole(busy_daemon: Daemon, partner: Partner) -> None:
    daemon = Facade(busy_daemon.url)
    used = []
    for earlier in (
        [],
        [{"role": "user", "content": "We spoke of bread."}, {"role": "assistant", "content": "Yes."}],
    ):
        async with daemon.answer(partner, [*earlier, {"role": "user", "content": "bread"}]) as answer:
            used.append((await answer.read()).usage.prompt_tokens)
    await daemon.close()
    assert used[1] > used[0]
