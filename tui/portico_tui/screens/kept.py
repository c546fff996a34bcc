"""Other stored resources: engines, guards, adapters, files that runs have created, facts, stored chats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from textual.content import Content

from portico.cli.pairs import pairs
from portico.schemas.adapters import Adapter
from portico.schemas.artifacts import ArtifactRecord
from portico.schemas.daemon import ConfiguredGuard
from portico.schemas.engines import Engine
from portico.schemas.facts import Fact
from portico.schemas.models import StoredChat
from portico_tui.daemon import MAX_ROWS
from portico_tui.screens.page import ListingScreen, action, row_action
from portico_tui.text import amount, clock, one_line, safe
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.schema_form import reader
from portico_tui.widgets.table_rows import TableColumn


class EnginesScreen(ListingScreen[Engine]):
    """The engines that run models."""

    MODE = "engines"
    TAB = "Engines"
    LOOK_INTERVAL_S = 5.0
    COLUMNS = (
        TableColumn[Engine]("ENGINE", lambda engine: engine.name, "bold", 24),
        TableColumn[Engine]("STATE", lambda engine: engine.state),
        TableColumn[Engine]("VERSION", lambda engine: engine.version),
        TableColumn[Engine](
            "PACKAGES", lambda engine: engine.packages or "", sort=lambda engine: engine.packages
        ),
        TableColumn[Engine](
            "SIZE",
            lambda engine: f"{engine.gigabytes:.1f} GB" if engine.gigabytes else "",
            sort=lambda engine: engine.gigabytes,
        ),
    )
    EMPTY = "No engines are visible to this key."

    async def find(self) -> Sequence[Engine]:
        return await self.client.engines.list()

    def identify(self, item: Engine) -> str:
        return item.name

    def detail(self, item: Engine) -> Iterable[Content | str]:
        if item.problem:
            yield Content.styled(one_line(item.problem), "$text-error")
        if item.path:
            yield Content.styled(one_line(item.path), "dim")

    @row_action(
        "i", "Install", "Build the engine's environment", when=lambda engine: engine.state != "built in"
    )
    async def install(self, engine: Engine) -> None:
        rebuild = engine.state != "absent"
        if await self.sure(f"{'Rebuild' if rebuild else 'Build'} the environment of {engine.name}?", "Build"):
            run = await self.client.engines.install(engine.name, rebuild=rebuild)
            await self.work_through(f"Install {engine.name}", self.daemon.progress(run))

    @row_action(
        "c",
        "Doctor",
        "Check the engine's environment in detail",
        when=lambda engine: engine.state != "built in",
    )
    async def doctor(self, engine: Engine) -> None:
        findings = await self.client.engines.doctor(engine.name)
        lines = [f"{'✓' if finding.ok else '✗'} {finding.check}  {finding.detail}" for finding in findings]
        self.app.push_screen(Reader(f"Doctor of {engine.name}", safe("\n".join(lines))))

    @row_action("enter", "Parameters", "Parameters that models on the engine can set")
    async def parameters(self, engine: Engine) -> None:
        engine_parameters = await self.client.engines.parameters(engine.name)
        lines = [
            f"{parameter.name} · {parameter.kind}\n    {parameter.doc}" for parameter in engine_parameters
        ] or ["The engine does not list its parameters."]
        self.app.push_screen(Reader(f"Parameters of {engine.name}", safe("\n".join(lines))))

    @row_action(
        "d",
        "Remove",
        "Delete the engine's environment",
        when=lambda engine: engine.state not in ("built in", "absent"),
    )
    async def remove_engine(self, engine: Engine) -> None:
        if await self.sure(f"Delete the environment of {engine.name}? It can be rebuilt.", "Delete"):
            await self.client.engines.remove(engine.name)


class GuardsScreen(ListingScreen[ConfiguredGuard]):
    """The checks on inputs and outputs of models, apps, tools and stores, in the order in which the daemon runs
    them.
    """

    MODE = "guards"
    TAB = "Guards"
    LOOK_INTERVAL_S = 5.0
    COLUMNS = (
        TableColumn[ConfiguredGuard]("GUARD", lambda guard: guard.name, "bold", 24),
        TableColumn[ConfiguredGuard]("ON", lambda guard: list(guard.on)),
        TableColumn[ConfiguredGuard]("DETECTS", lambda guard: list(guard.detects)),
        TableColumn[ConfiguredGuard]("WHERE", lambda guard: list(guard.where)),
        TableColumn[ConfiguredGuard]("ACTION", lambda guard: guard.action),
    )
    EMPTY = "No guards.\n\nGuards are defined in the configuration, under 'guards'."

    async def find(self) -> Sequence[ConfiguredGuard]:
        return await self.client.guards.list()

    def identify(self, item: ConfiguredGuard) -> str:
        return item.name

    def detail(self, item: ConfiguredGuard) -> Iterable[Content | str]:
        yield one_line(
            f"Checks for {', '.join(item.detects)} in {', '.join(item.where)} of {', '.join(item.on)}"
        )
        yield Content.styled(f"If a text cannot be searched: {item.on_error}", "dim")
        yield Content.styled("A guard's findings are among the events of a run: Runs, then e", "dim")


class AdaptersScreen(ListingScreen[Adapter]):
    """Small sets of weights that extend models."""

    MODE = "adapters"
    TAB = "Adapters"
    COLUMNS = (
        TableColumn[Adapter]("ADAPTER", lambda adapter: adapter.name, "bold", 36),
        TableColumn[Adapter]("BASE", lambda adapter: adapter.base),
        TableColumn[Adapter]("STATE", lambda adapter: adapter.state),
        TableColumn[Adapter](
            "SCALE", lambda adapter: f"{adapter.scale:g}", sort=lambda adapter: adapter.scale
        ),
        TableColumn[Adapter]("RANK", lambda adapter: adapter.rank or "", sort=lambda adapter: adapter.rank),
        TableColumn[Adapter](
            "SIZE", lambda adapter: amount(adapter.bytes), sort=lambda adapter: adapter.bytes
        ),
    )
    EMPTY = "No adapters yet.\n\nPress a to add one; a fine-tuned model is also an adapter."

    async def find(self) -> Sequence[Adapter]:
        return await self.client.adapters.list()

    def identify(self, item: Adapter) -> str:
        return item.name

    @action("a", "Add", "Serve a model with an adapter, under a separate name")
    async def add_adapter(self) -> None:
        answers = await self.ask(
            Form(
                "Add an adapter",
                Field("base", "Model", "default"),
                Field("path", "PEFT folder or .gguf file on the daemon's machine"),
                Field("name", "Name"),
            )
        )
        if answers is not None:
            await self.client.adapters.add(answers["base"], answers["path"], answers["name"])

    @row_action("s", "Scale", "Change the strength of the adapter")
    async def scale_adapter(self, adapter: Adapter) -> None:
        field = Field(
            "scale", "0 is the base model alone, 1 the trained strength", f"{adapter.scale:g}", check=_number
        )
        answers = await self.ask(Form(f"Scale of {one_line(adapter.name)}", field))
        if answers is not None:
            await self.client.adapters.scale(adapter.name, float(answers["scale"]))

    @row_action("x", "Export", "Write the adapter to the daemon's machine")
    async def export(self, adapter: Adapter) -> None:
        answers = await self.ask(
            Form(
                f"Export {one_line(adapter.name)}",
                Field("path", "A new path on the daemon's machine"),
                Field("format", "Format", "safetensors", check=_format, choices=("safetensors", "gguf")),
                Field("merged", "Merged into its model", "false", choices=("true", "false"), check=_yes),
            )
        )
        if answers is None:
            return
        run = await self.client.adapters.export(
            adapter.name,
            answers["path"],
            merged=_yes(answers["merged"]),
            format="gguf" if answers["format"] == "gguf" else "safetensors",
        )
        await self.work_through(f"Export {adapter.name}", self.daemon.progress(run))
        self.report("Export", f"{adapter.name} is at {answers['path']}.")

    @row_action("d", "Remove", "Remove the adapter, including the daemon's copy")
    async def remove_adapter(self, adapter: Adapter) -> None:
        if await self.sure(f"Remove the adapter '{one_line(adapter.name)}'?", "Remove"):
            await self.client.adapters.remove(adapter.name)


_number = reader({"type": "number"})
_yes = reader({"type": "boolean"})
_format = reader({"type": "string", "enum": ["safetensors", "gguf"]})


class ArtifactsScreen(ListingScreen[ArtifactRecord]):
    """Files created by runs."""

    MODE = "artifacts"
    TAB = "Artifacts"
    COLUMNS = (
        TableColumn[ArtifactRecord](
            "MADE",
            lambda artifact: clock(artifact.created_at),
            "dim",
            sort=lambda artifact: artifact.created_at,
        ),
        TableColumn[ArtifactRecord]("NAME", lambda artifact: artifact.name, "bold", 36),
        TableColumn[ArtifactRecord]("TYPE", lambda artifact: artifact.media_type),
        TableColumn[ArtifactRecord](
            "SIZE", lambda artifact: amount(artifact.bytes), sort=lambda artifact: artifact.bytes
        ),
        TableColumn[ArtifactRecord]("RUN", lambda artifact: artifact.run, "dim"),
    )
    EMPTY = "No run has created a file yet."

    async def find(self) -> Sequence[ArtifactRecord]:
        return await self.client.artifacts.list(limit=MAX_ROWS)

    @row_action("s", "Save", "Save the file on this machine")
    async def save(self, artifact: ArtifactRecord) -> None:
        name = Path(artifact.name.replace("\\", "/")).name or artifact.id
        answers = await self.ask(Form("Save a file", Field("path", "A new local path", name)))
        if answers is None:
            return
        await self.write_file(Path(answers["path"]), await self.client.artifacts.content(artifact.id))

    @row_action("d", "Delete", "Delete the file")
    async def remove_artifact(self, artifact: ArtifactRecord) -> None:
        if await self.sure(f"Delete '{one_line(artifact.name)}'?", "Delete"):
            await self.client.artifacts.remove(artifact.id)


class FactsScreen(ListingScreen[Fact]):
    """The facts that agents have learned in conversations and remember in later ones."""

    MODE = "facts"
    TAB = "Facts"
    COLUMNS = (
        TableColumn[Fact](
            "CHANGED", lambda fact: clock(fact.changed_at), "dim", sort=lambda fact: fact.changed_at
        ),
        TableColumn[Fact]("STORE", lambda fact: fact.store),
        TableColumn[Fact]("FACT", lambda fact: fact.text, "bold"),
        TableColumn[Fact]("BY", lambda fact: fact.source.agent or fact.source.app or "", "dim"),
    )
    EMPTY = "No agent has stored a fact yet."

    async def find(self) -> Sequence[Fact]:
        return await self.client.facts.list(limit=MAX_ROWS)

    def detail(self, item: Fact) -> Iterable[Content | str]:
        yield safe(item.text)
        words = item.span.words if item.span else item.source.said
        if words:
            yield Content.styled(f"said: {one_line(words)}", "dim")

    @row_action("enter", "History", "The words of the fact and its former versions")
    async def show_history(self, fact: Fact) -> None:
        history = await self.client.facts.get(fact.id)
        lines = [
            f"{clock(version.changed_at)}  {version.text}\n"
            f"  said: {version.span.words if version.span else 'no words of a conversation support this text'}"
            for version in (history.fact, *history.versions)
        ]
        self.app.push_screen(Reader(f"History of {fact.id}", safe("\n\n".join(lines))))

    @row_action("e", "Edit", "Replace the text")
    async def edit(self, fact: Fact) -> None:
        answers = await self.ask(Form("Change a fact", Field("text", "Fact", fact.text)))
        if answers is not None:
            await self.client.facts.change(fact.id, answers["text"])

    @row_action("z", "Revert", "Restore the version before the last change")
    async def revert(self, fact: Fact) -> None:
        await self.client.facts.revert(fact.id)

    @row_action("d", "Forget", "Forget the fact")
    async def forget(self, fact: Fact) -> None:
        if await self.sure("Forget this fact?", "Forget"):
            await self.client.facts.remove(fact.id)


class StoredChatsScreen(ListingScreen[StoredChat]):
    """Chat completions that were requested with ``store``."""

    MODE = "chats"
    TAB = "Stored chats"
    COLUMNS = (
        TableColumn[StoredChat](
            "MADE", lambda chat: clock(chat.created), "dim", sort=lambda chat: chat.created
        ),
        TableColumn[StoredChat]("MODEL", lambda chat: chat.model, "bold", 24),
        TableColumn[StoredChat]("LABELS", lambda chat: _labels(chat)),
        TableColumn[StoredChat]("ANSWER", lambda chat: chat.text),
    )
    EMPTY = "No stored chat completions. Programs store one by requesting it with 'store'."

    async def find(self) -> Sequence[StoredChat]:
        return await self.daemon.pages(self.client.chats.list)

    @row_action("enter", "Read", "Messages of the chat, and its answer")
    async def read_chat(self, chat: StoredChat) -> None:
        messages = await self.client.chats.messages(chat.id)
        role_texts = [(message["role"], message["content"] or "…") for message in messages]
        lines = (f"{role}\n{content}" for role, content in (*role_texts, ("assistant", chat.text)))
        self.app.push_screen(Reader(f"{one_line(chat.model)} · {chat.id}", safe("\n\n".join(lines))))

    @row_action("e", "Label", "Change the labels of the chat")
    async def label(self, chat: StoredChat) -> None:
        field = Field("labels", "NAME=VALUE, separated by spaces", " ".join(_labels(chat)), optional=True)
        answers = await self.ask(Form("Labels of the chat", field))
        if answers is not None:
            await self.client.chats.change(chat.id, pairs(answers["labels"].split(), "labels"))

    @row_action("d", "Forget", "Forget the chat")
    async def forget_chat(self, chat: StoredChat) -> None:
        if await self.sure("Forget this chat?", "Forget"):
            await self.client.chats.remove(chat.id)


def _labels(chat: StoredChat) -> list[str]:
    return [f"{name}={value}" for name, value in chat.metadata.items()]
