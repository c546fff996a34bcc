"""The screen Chat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.client.cli.terminal import Terminal as Command
from tests.daemon import Daemon
from tests.tui.terminal import Terminal, terminal
from textual.widgets import Input, OptionList, Static

from portico import Client
from portico.agent import Agent
from portico_tui.daemon import DaemonClient, Partner
from portico_tui.widgets.conversation_picker import ConversationPicker
from portico_tui.widgets.dialogs import Choose, Confirm, Form, Reader
from portico_tui.widgets.passages import Passages
from portico_tui.widgets.prompt_line import PromptLine
from portico_tui.widgets.transcript import QuestionView, ReplyView


async def chat(screen: Terminal, *, model: bool = False) -> None:
    """Go to the screen; chat with the app over the folder, or with the model."""
    await screen.until(lambda: any(store.file_counts.completed == 3 for store in screen.glance.stores))
    await screen.open("3", "ChatScreen")
    await screen.until(lambda: "Talking to handbook" in screen.text("#partner"))
    if model:
        await screen.press("ctrl+t")
        await screen.until(lambda: isinstance(screen.app.screen, Choose))
        await screen.press("down", "enter")
        await screen.until(lambda: not isinstance(screen.app.screen, Choose))
        assert screen.text("#partner") == "Talking to default · model"


def state(screen: Terminal) -> str:
    """Return the line below the newest answer."""
    return str(list(screen.app.screen.query(ReplyView))[-1].query_one(".state", Static).render())


def newest(screen: Terminal) -> str:
    """Return the text of the newest answer."""
    replies = list(screen.app.screen.query(ReplyView))
    return replies[-1].text if replies else ""


@pytest.mark.slow
async def test_an_app_answer_shows_its_cited_passages(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen)
        assert "handbook · answers from documents" in screen.text("#partner")
        await screen.type("Which port does Lighthouse listen on?")
        await screen.until(lambda: screen.app.screen.query(ReplyView) and "tokens" in state(screen))
        passages_view = screen.app.screen.query_one("#cited", Passages)
        assert passages_view.passages[0].filename == "port.md"
        assert passages_view.region.width > 0
        passages_view.focus()
        await screen.press("enter")
        await screen.until(lambda: isinstance(screen.app.screen, Reader))
        assert "7419" in screen.text("#text")


async def test_a_model_answers_and_shortcut_keys_are_typed_as_text(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("is 12 q?")
        await screen.until(lambda: screen.app.screen.query(ReplyView) and "tokens" in state(screen))
        assert [str(question_view.render()) for question_view in screen.app.screen.query(QuestionView)] == [
            "is 12 q?"
        ]
        assert newest(screen) == "is 12 q?"
        assert not screen.app.screen.query_one("#cited", Passages).passages


async def test_escape_stops_an_answer_and_the_next_question_works(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("be silent")
        await screen.until(lambda: newest(screen).startswith("one"))
        await screen.type("are you there")
        assert any("press Esc to stop it" in line for line in screen.told)
        await screen.press("escape")
        await screen.until(lambda: state(screen) == "Stopped.")
        await screen.press("enter")
        await screen.until(lambda: len(screen.app.screen.query(ReplyView)) == 2 and "tokens" in state(screen))
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
        await screen.until(lambda: screen.app.screen.query(ReplyView) and "too long" in state(screen))


async def test_markup_and_escape_sequences_in_an_answer_are_shown_as_text(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await screen.type("mark")
        await screen.until(lambda: screen.app.screen.query(ReplyView) and "tokens" in state(screen))
        screenshot = screen.app.export_screenshot()
        assert "\x1b" not in screenshot
        assert "[b]bold[/b]" in screenshot.replace("&#160;", " ")


async def test_the_chat_recalls_questions_copies_answers_and_clears_the_conversation(
    busy_daemon: Daemon,
) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        for question in ("first", "second"):
            await screen.type(question)
            await screen.until(
                lambda said=question: (
                    (reply_views := screen.app.screen.query(ReplyView))
                    and reply_views.last().text == said
                    and "tokens" in state(screen)
                )
            )
        await screen.press("ctrl+y")
        assert screen.app.clipboard == "second"
        prompt = screen.app.screen.query_one(PromptLine)
        await screen.press("up", "up")
        assert prompt.value == "first"
        await screen.press("down", "down")
        assert prompt.value == ""
        await screen.press("ctrl+n")
        await screen.until(lambda: not screen.app.screen.query(ReplyView))
        await screen.press("ctrl+y")
        assert any("No answer to copy yet" in line for line in screen.told)


async def say(screen: Terminal, text: str) -> None:
    """Send a message and wait for the whole answer."""
    count_before = len(screen.app.screen.query(ReplyView))
    screen.app.screen.query_one(PromptLine).value = text
    await screen.press("enter")
    await screen.until(
        lambda: len(screen.app.screen.query(ReplyView)) > count_before and "tokens" in state(screen)
    )


async def talk(screen: Terminal, name: str) -> None:
    """Choose the model or app to chat with."""
    await screen.press("ctrl+t")
    await screen.until(lambda: isinstance(screen.app.screen, Choose))
    options = screen.app.screen.query_one(OptionList)
    place = [str(option.prompt).split(" · ")[0] for option in options.options].index(name)
    options.highlighted = place
    await screen.press("enter")
    await screen.until(lambda: f"Talking to {name}" in screen.text("#partner"))


async def shelf(screen: Terminal, rows: int | None = None) -> list[list[str]]:
    """Open the conversations; return their names and partners."""
    await screen.press("ctrl+o")
    await screen.until(lambda: isinstance(screen.app.screen, ConversationPicker))
    await screen.until(lambda: len(screen.rows("#sessions")) == rows or (rows is None and titles(screen)))
    return screen.rows("#sessions")


async def find(screen: Terminal, text: str) -> None:
    """Search the conversations."""
    await screen.press("slash")
    screen.app.screen.query_one("#query", Input).value = text


def titles(screen: Terminal) -> list[str]:
    return [row[2] for row in screen.rows("#sessions")]


def asked(screen: Terminal) -> list[str]:
    return [str(question_view.render()) for question_view in screen.app.screen.query(QuestionView)]


async def test_a_conversation_is_stored_found_by_search_and_continued(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await say(screen, "How deep is the northern basin?")
        assert screen.text("#partner") == "Talking to default · model · How deep is the northern basin?"
        await say(screen, "And the southern one?")
        await screen.press("ctrl+n")
        await screen.until(lambda: not screen.app.screen.query(ReplyView))
        assert screen.text("#partner") == "Talking to default · model"
        await say(screen, "Something else")
    async with terminal(busy_daemon.url) as screen:
        await chat(screen)
        shelf_rows = await shelf(screen)
        assert [row[1:] for row in shelf_rows[:2]] == [
            ["default", "Something else"],
            ["default", "How deep is the northern basin?"],
        ]
        await find(screen, "SOUTHERN")
        await screen.until(lambda: titles(screen) == ["How deep is the northern basin?"])
        await screen.press("enter")
        await screen.until(lambda: len(screen.app.screen.query(ReplyView)) == 2)
        assert asked(screen) == ["How deep is the northern basin?", "And the southern one?"]
        assert newest(screen) == "And the southern one?"
        prompt = screen.app.screen.query_one(PromptLine)
        await screen.press("up")
        assert prompt.value == "And the southern one?"
        prompt.clear()
        await say(screen, "Thanks")
    with Client(busy_daemon.url) as client:
        [session] = client.sessions.list(search="southern one")
        contents = [item.message["content"] for item in client.sessions.messages(session.id)]
    assert (
        contents[::2]
        == contents[1::2]
        == ["How deep is the northern basin?", "And the southern one?", "Thanks"]
    )


async def test_conversations_are_renamed_copied_and_deleted(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await chat(screen, model=True)
        await say(screen, "Which buoy is red?")
        number = len(await shelf(screen))
        await screen.press("r")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        screen.app.screen.query_one("#field-title", Input).value = "Buoys"
        await screen.press("enter")
        await screen.until(
            lambda: isinstance(screen.app.screen, ConversationPicker) and titles(screen)[0] == "Buoys"
        )
        await screen.press("f")
        await screen.until(lambda: titles(screen)[0] == "Buoys (copy)")
        await screen.press("escape")
        await screen.until(lambda: screen.text("#partner").endswith("Buoys"))
        await shelf(screen, number + 1)
        await screen.press("ctrl+home", "down", "d")
        await screen.until(lambda: isinstance(screen.app.screen, Confirm))
        await screen.press("y")
        await screen.until(
            lambda: isinstance(screen.app.screen, ConversationPicker) and "Buoys" not in titles(screen)
        )
        await screen.press("escape")
        await screen.until(lambda: screen.text("#partner") == "Talking to default · model")
        assert not screen.app.screen.query(ReplyView), "it was the one that went on here"
        await shelf(screen, number)
        await find(screen, "nobody said this")
        await screen.until(lambda: "No conversation mentions" in screen.text("#no-sessions"))
        await screen.press("escape")
        await screen.until(lambda: len(titles(screen)) == number)


async def test_an_agent_session_is_continued_in_the_chat(busy_daemon: Daemon) -> None:
    with Client(busy_daemon.url) as client:
        agent = Agent("talker", name="pilot", client=client)
        agent.deploy()
        agent("Where do we moor?", session="morning")
        try:
            async with terminal(busy_daemon.url) as screen:
                await screen.open("3", "ChatScreen")
                await shelf(screen)
                await find(screen, "we moor")
                await screen.until(lambda: titles(screen) == ["Where do we moor?"])
                await screen.press("enter")
                await screen.until(lambda: asked(screen) == ["Where do we moor?"])
                await screen.until(
                    lambda: screen.text("#partner") == "Talking to pilot · agent · Where do we moor?"
                )
                await say(screen, "At which tide?")
                assert state(screen).startswith("pilot · ")
                assert [m.content for m in agent.memory("morning")][2:] == ["At which tide?"] * 2
                await screen.press("ctrl+n")
                await screen.until(lambda: not screen.app.screen.query(ReplyView))
                await say(screen, "Another day")
                assert screen.text("#partner").endswith(" · Another day")
                await talk(screen, "default")
                assert screen.text("#partner") == "Talking to default · model"
                await say(screen, "What do you think?")
                await talk(screen, "pilot")
                await say(screen, "And you?")
            session = client.sessions.list("pilot", search="And you?")[0]
            contents = [item.message["content"] for item in client.sessions.messages(session.id)]
            assert contents[::2] == ["Another day", "What do you think?", "And you?"]
            assert session.title == "Another day"
        finally:
            client.apps.remove("pilot")


@pytest.mark.parametrize("partner", [Partner("handbook", True), Partner("default", False)])
async def test_a_conversation_is_sent_whole(busy_daemon: Daemon, partner: Partner) -> None:
    busy_daemon.settle()  # an app over a store without passages calls no model
    daemon = DaemonClient(busy_daemon.url)
    token_counts = []
    for earlier in (
        [],
        [{"role": "user", "content": "We spoke of bread."}, {"role": "assistant", "content": "Yes."}],
    ):
        async with daemon.answer(partner, [*earlier, {"role": "user", "content": "bread"}]) as answer:
            token_counts.append((await answer.read()).usage.prompt_tokens)
    await daemon.close()
    assert token_counts[1] > token_counts[0]


@pytest.mark.slow
async def test_the_chat_shows_a_hint_for_the_tiny_model(empty_daemon: Daemon, busy_daemon: Daemon) -> None:
    async with terminal(empty_daemon.url) as screen:
        await screen.open("3", "ChatScreen")
        await screen.until(lambda: "is a very small model" in screen.text("#hint"))
        assert screen.app.screen.query_one("#hint").display
    async with terminal(busy_daemon.url) as screen:
        await screen.open("3", "ChatScreen")
        await screen.until(lambda: "Talking to" in screen.text("#partner"))
        assert not screen.app.screen.query_one("#hint").display


ASKING = """
models:
  - {name: echo, source: "fake://"}
apps:
  - {name: greeting, flow: {step: {op: llm, model: default, system: Greet.}}}
  - {name: relay, flow: {step: {op: agent, agent: clerk}}}
  - {name: apart, flow: {step: {op: llm, model: echo}}}
agents:
  - {name: clerk, instructions: Answer in one sentence.}
  - {name: other, model: echo}
"""


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Daemon]:
    """Yield a daemon with apps that ask the tiny model, and some that do not."""
    (tmp_path / "portico.yaml").write_text(ASKING, encoding="utf-8")
    with daemons.running(tmp_path / "data", "--file", str(tmp_path / "portico.yaml")) as running:
        yield running


@pytest.mark.slow
async def test_the_chat_shows_the_hint_for_apps_that_use_the_tiny_model(asking: Daemon) -> None:
    with Client(asking.url) as client:
        status = client.status()
    assert status.small_model is not None
    assert set(status.small_model.apps) == {"greeting", "relay", "clerk"}
    assert status.hint_for("relay") == status.small_model.hint and status.hint_for("other") is None
    async with terminal(asking.url) as screen:
        await screen.open("3", "ChatScreen")
        for name, small in (("clerk", True), ("other", False), ("greeting", True), ("apart", False)):
            partner = Partner(name, True)
            screen.app.screen._talk_to(partner)  # type: ignore[attr-defined]
            await screen.until(lambda name=name: name in screen.text("#partner"))
            assert ("is a very small model" in screen.text("#hint")) is small
    talk = Command(asking.url, "chat", "--app", "clerk")
    try:
        talk.until("is a very small model: it can quote your documents")
        talk.until("› ")
        talk.type("/model greeting")
        talk.until("Talking to greeting.")
        talk.until("› ")
        assert talk.seen.count("is a very small model") == 1
    finally:
        talk.close()
