"""The tutorial by keyboard: from an empty daemon to a cited answer, a flow, a promoted model and a revoked key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.tui.terminal import Terminal, terminal
from textual.widgets import Static

from portico import Client
from portico.errors import Unauthenticated
from portico_tui.widgets.dialogs import Choose, Reader
from portico_tui.widgets.passages import Passages
from portico_tui.widgets.run_view import RunView
from portico_tui.widgets.transcript import ReplyView

BREAD = "# Bread\n\nBread is baked at 230 degrees for forty minutes.\n"

SHORTEN = {
    "portico_flow": 1,
    "name": "shorten",
    "input_schema": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
    "step": {"op": "llm", "system": "Shorten it.", "user": {"$ref": "input.text"}},
}


def write_files(folder: Path) -> None:
    """Write the tutorial's starting files: a folder of documents, a flow, examples."""
    (folder / "bakery").mkdir()
    (folder / "bakery" / "bread.md").write_text(BREAD, encoding="utf-8")
    (folder / "shorten.json").write_text(json.dumps(SHORTEN), encoding="utf-8")
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number}?"},
                {"role": "assistant", "content": f"It is {number}."},
            ]
        }
        for number in range(20)
    ]
    examples = "\n".join(map(json.dumps, lines))
    (folder / "examples.jsonl").write_text(examples, encoding="utf-8")


async def ask(screen: Terminal, partner: str, question: str) -> str:
    """Return the answer of a chat partner in a new conversation."""
    await screen.go("chat")
    await screen.press("ctrl+n", "ctrl+t")
    await screen.over(Choose)
    await screen.press(*partner, "enter")
    await screen.until(lambda: screen.text("#partner").startswith(f"Talking to {partner}"))
    await screen.type(question)
    await screen.until(lambda: screen.app.screen.query(ReplyView))
    reply = screen.app.screen.query_one(ReplyView)
    await screen.until(lambda: "tokens" in str(reply.query_one(".state", Static).render()))
    return reply.text


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_tutorial_is_done_in_the_terminal_ui(tmp_path: Path) -> None:
    write_files(tmp_path)
    with daemons.running(tmp_path / "data") as daemon:
        async with terminal(daemon.url, size=(120, 36)) as screen:
            # A model that the apps use from now on.
            await screen.go("models")
            await screen.press("a")
            await screen.fill(name="talker", source="fake://")
            await screen.until(lambda: screen.row("#rows", "talker"))
            await screen.choose("#rows", "talker")
            await screen.press("s")
            await screen.fill(name="default")
            await screen.until(lambda: "default" in screen.row("#rows", "talker")[4])

            # A folder of documents, and an answer with the passage that supports it.
            await screen.go("documents")
            await screen.press("a")
            await screen.fill(folder=str(tmp_path / "bakery"))
            await screen.until(lambda: screen.row("#files", "bread.md")[1:2] == ["● ready"])
            await ask(screen, "bakery", "How hot must the oven be for bread?")
            passages_view = screen.app.screen.query_one(Passages)
            assert [passage.filename for passage in passages_view.passages] == ["bread.md"]
            passages_view.focus()
            await screen.press("enter")
            await screen.over(Reader)
            assert "230 degrees" in screen.text("#text")
            await screen.press("escape")

            # A flow, deployed from a file and run with the form generated from its schema.
            await screen.go("apps")
            await screen.press("n")
            await screen.fill(file=str(tmp_path / "shorten.json"))
            await screen.until(lambda: screen.row("#rows", "shorten"))
            await screen.choose("#rows", "shorten")
            await screen.press("enter")
            await screen.fill(text="A long text.")
            await screen.over(RunView)
            await screen.until(lambda: "finished" in screen.text("#end"))
            assert "A long text." in screen.text("#text")
            await screen.press("escape")

            # A model is trained on examples, answers them, and replaces the old model.
            await screen.go("finetunes")
            await screen.press("n")
            await screen.fill(
                model="talker", training_file=str(tmp_path / "examples.jsonl"), suffix="numbers"
            )
            await screen.agree()
            await screen.until(lambda: screen.rows("#rows") and screen.rows("#rows")[0][3] == "● done")
            trained = screen.rows("#rows")[0][5]
            assert trained.startswith("ft:talker:portico:numbers:")
            assert await ask(screen, trained, "What is 7?") == "It is 7."
            await screen.go("finetunes")
            await screen.press("s")
            await screen.fill(name="default")
            await screen.until(lambda: any(f"means {trained}" in line for line in screen.told))
            assert await ask(screen, "default", "What is 8?") == "It is 8."

            # A key for another user, worthless as soon as it is revoked.
            await screen.go("keys")
            await screen.press("n")
            await screen.fill(name="shop", scopes="chat apps:bakery:call stores:bakery:read")
            await screen.over(Reader)
            secret = screen.text("#text").split()[0]
            await screen.press("escape")
            with Client(daemon.url, secret) as shop:
                assert shop.ask("How hot must the oven be for bread?", "bakery").read().passages
                await screen.until(lambda: screen.row("#rows", "shop"))
                await screen.choose("#rows", "shop")
                await screen.press("d")
                await screen.agree()
                await screen.until(lambda: not screen.row("#rows", "shop"))
                with pytest.raises(Unauthenticated):
                    shop.status()
