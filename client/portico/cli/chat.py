"""`portico chat`: a conversation with a model or an app."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from portico._answer import Answer
from portico._running import Running
from portico.cli.cite import print_hint, print_passages, write_answer
from portico.cli.render import print_json, safe
from portico.cli.session import AsJson, connected
from portico.client import Client
from portico.errors import InvalidRequest, PorticoError

app = typer.Typer()

HELP = "/model NAME switches to another model or app, /clear forgets the conversation, /exit leaves."


@app.command(epilog="Example: portico chat --app docs")
def chat(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="The model to talk to.")] = None,
    app_name: Annotated[
        str | None, typer.Option("--app", help="The app to talk to (default: the only one).")
    ] = None,
    tools: Annotated[
        list[str] | None,
        typer.Option("--tool", help="A tool that the model can call; repeatable. An app has its own tools."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Chat with an app or a model. Ctrl-C stops an answer; at the prompt it leaves.

    With --tool, the conversation is saved as a session.
    """
    if model and app_name:
        raise InvalidRequest("Use --model or --app, not both.", param="model")
    with connected(context) as client:
        conversation = Conversation(client, model or app_name, tools or ())
        if as_json:
            for line in sys.stdin:
                conversation.say(line, quiet=True)
            print_json({"model": conversation.name, "messages": conversation.messages})
        else:
            _converse(conversation)


class Conversation:
    """A conversation: its messages so far, and the name of the app or model that answers. Apps cite passages.

    A model with ``tools`` answers as an agent, which remembers the conversation in a session.
    """

    def __init__(self, client: Client, name: str | None, tools: Sequence[str] = ()) -> None:
        self.client = client
        self._tools = tools
        self._apps = {item.name for item in client.apps.list()}
        only = next(iter(self._apps)) if len(self._apps) == 1 and not tools else "default"
        self.name = name or only
        if name:
            self._require_chat(name)
        self._hinted = False
        self.clear()

    def clear(self) -> None:
        """Forget the messages."""
        self.messages: list[dict[str, Any]] = []
        self._session = f"chat-{secrets.token_hex(4)}"

    def hint(self) -> None:
        """If the tiny model answers, or an app that uses it, explain once what the tiny model is."""
        self._hinted = self._hinted or print_hint(self.client, self.name)

    def turn_to(self, name: str) -> None:
        """Switch to the app or model ``name``. Raises `InvalidRequest` if the name is unknown or is not a chat
        model.
        """
        if not self._require_chat(name):
            raise InvalidRequest(f"'{name}' does not exist. {self._offer()}", param="model")
        self.name = name

    def _require_chat(self, name: str) -> bool:
        """Return whether the daemon lists the name. Raise `InvalidRequest` if the name is listed but is not a chat
        model.
        """
        chats = self._chat_flags().get(name)
        if chats is False:
            raise InvalidRequest(f"'{name}' is not a chat model. {self._offer()}", param="model")
        return chats is not None

    def _offer(self) -> str:
        names = ", ".join(name for name, chats in self._chat_flags().items() if chats)
        return f"There are: {names}." if names else "No chat model exists yet."

    def _chat_flags(self) -> dict[str, bool]:
        """Return for every listed name whether it is a chat model."""
        return {item.id: "chat" in item.capabilities for item in self.client.models.list()}

    def say(self, text: str, *, quiet: bool = False) -> None:
        """Send a message and print the answer. If the turn fails or is stopped, the conversation does not change."""
        if not text.strip():
            return
        with contextlib.closing(self._answer(text)) as answer:
            reply = "".join(answer) if quiet else write_answer(self.client, answer)
            if not quiet and isinstance(answer, Answer) and answer.passages:
                print_passages(answer)
        self.messages.append({"role": "user", "content": text.strip()})
        self.messages.append({"role": "assistant", "content": reply})

    def _answer(self, text: str) -> Answer | Running:
        if self.name in self._apps:
            if self._tools:
                raise InvalidRequest(
                    f"'{self.name}' is an app and has its own tools. Use --tool with --model.", param="tool"
                )
            return self.client.ask(text.strip(), self.name, history=self.messages)
        if self._tools:
            agent = {"portico_agent": 1, "model": self.name, "tools": [*self._tools]}
            return self.client.agents.start(agent, text.strip(), session=(self.name, self._session))
        messages = [*self.messages, {"role": "user", "content": text.strip()}]
        return self.client.chat(messages, self.name)


def _converse(conversation: Conversation) -> None:
    asking = sys.stdin.isatty()
    if asking:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # input() then edits lines and remembers them
        typer.echo(f"Talking to {conversation.name}. {HELP}")
        conversation.hint()
    while True:
        try:
            line = input("› " if asking else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            typer.echo(err=True)
            raise
        command, _, remainder = line.strip().partition(" ")
        if command in ("/exit", "/quit"):
            return
        try:
            _turn(conversation, command, remainder.strip(), line)
        except KeyboardInterrupt:
            typer.echo("\nStopped.", err=True)
            if not asking:
                raise
        except PorticoError as error:
            if not asking:
                raise
            typer.secho(safe(error.message), fg="red", err=True)


def _turn(conversation: Conversation, command: str, remainder: str, line: str) -> None:
    match command:
        case "/clear":
            conversation.clear()
            typer.echo("Forgotten.")
        case "/model" if remainder:
            conversation.turn_to(remainder)
            typer.echo(f"Talking to {conversation.name}.")
            conversation.hint()
        case "/model":
            typer.echo(f"Talking to {conversation.name}.")
        case _ if command.startswith("/"):
            typer.echo(HELP)
        case _:
            conversation.say(line)
