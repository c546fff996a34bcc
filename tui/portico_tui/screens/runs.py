"""Runs: current and past work of the daemon, with the trace of a run as a tree; resume, fork, cancel and watch runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Label, Static, Tree
from textual.widgets.tree import TreeNode

from portico.cli.runs_trace import above, step_label
from portico.schemas.flows import TraceStep
from portico.schemas.runs import Run
from portico_tui.daemon import MAX_ROWS
from portico_tui.screens.page import ListingScreen, action, row_action
from portico_tui.text import clock, one_line, run_state, safe, span
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.run_view import RunView
from portico_tui.widgets.schema_form import reader
from portico_tui.widgets.table_rows import TableColumn

AGAIN = "again"
COPY = "copy"


class RunsScreen(ListingScreen[Run]):
    """The runs of the key's owner, newest first."""

    MODE = "runs"
    TAB = "Runs"
    COLUMNS = (
        TableColumn[Run]("BEGAN", lambda run: clock(run.created_at), "dim", sort=lambda run: run.created_at),
        TableColumn[Run]("KIND", lambda run: run.kind),
        TableColumn[Run]("NAME", lambda run: run.name, "bold", 28),
        TableColumn[Run]("STATUS", lambda run: run_state(run.status)),
        TableColumn[Run]("TOOK", lambda run: span(_took(run)), sort=lambda run: _took(run)),
        TableColumn[Run](
            "TOKENS",
            lambda run: run.usage.prompt_tokens + run.usage.completion_tokens or "",
            sort=lambda run: run.usage.prompt_tokens + run.usage.completion_tokens,
        ),
        TableColumn[Run]("ID", lambda run: run.id, "dim"),
    )
    EMPTY = "No runs yet."

    async def find(self) -> Sequence[Run]:
        return await self.client.runs.list(MAX_ROWS)

    def detail(self, item: Run) -> Iterable[Content | str]:
        if item.error is not None:
            yield Content.styled(one_line(item.error.message), "$text-error")

    @row_action("enter,t", "Trace", "Steps of the run as a tree, with times, tokens and cost")
    async def trace(self, run: Run) -> None:
        steps = await self.client.runs.trace(run.id, full=True)
        if not steps:
            self.report("Trace", "No step of a flow has ended in this run, or the run is too old.")
            return
        step_reference = await self.app.push_screen_wait(TraceScreen(run, steps))
        if step_reference is None:
            return
        action_name, start = step_reference
        act = self.client.runs.resume if action_name == AGAIN else self.client.runs.fork
        new_run = await act(run.id, start=start)
        self.report("Runs", f"{new_run.id} {'continues' if action_name == AGAIN else 'began'} at {start}.")

    @row_action("e", "Events", "Watch the run: its events so far, and new ones")
    async def events(self, run: Run) -> None:
        self.app.push_screen(RunView(self.client, f"{run.name} · {run.id}", self.daemon.events(run.id)))

    @row_action(
        "r", "Resume", "Continue a durable run after its last finished step", when=lambda run: run.ended
    )
    async def resume(self, run: Run) -> None:
        new_run = await self.client.runs.resume(run.id)
        self.report("Resume", f"{new_run.id} continues.")

    @row_action("f", "Fork", "Start a similar run with another input", when=lambda run: run.ended)
    async def fork(self, run: Run) -> None:
        answers = await self.ask(
            Form(
                f"Fork {run.id}",
                Field("input", "Another input; valid JSON is parsed as JSON", optional=True),
                about="Without an input, the run is repeated unchanged. To start from a step: press t, choose "
                "it, then f.",
            )
        )
        if answers is None:
            return
        new_run = await (
            self.client.runs.fork(run.id, input=reader({})(answers["input"]))
            if answers["input"]
            else self.client.runs.fork(run.id)
        )
        self.report("Fork", f"{new_run.id} began.")

    @row_action("c", "Cancel", "Stop the run", when=lambda run: not run.ended)
    async def cancel(self, run: Run) -> None:
        if await self.sure(f"Stop {one_line(run.name)}, {run.id}?", "Stop it"):
            await self.client.runs.cancel(run.id)

    @action("x", "Prune", "Remove runs that ended long ago", footer=False)
    async def prune(self) -> None:
        number = reader({"type": "number"})
        field = Field("days", "Runs that ended more than this many days ago", "30", check=number)
        answers = await self.ask(Form("Remove old runs", field))
        if answers is None:
            return
        days = float(answers["days"])
        plan = await self.client.runs.prune(days=days, dry_run=True)
        counts_text = f"{plan.runs} runs, {plan.artifacts} artifacts and {plan.questions} questions"
        if await self.sure(f"Remove {counts_text}?", "Remove"):
            await self.client.runs.prune(days=days)


def _took(run: Run) -> float | None:
    return None if run.finished_at is None else run.finished_at - run.created_at


class TraceScreen(ModalScreen[tuple[str, str] | None]):
    """The steps of a run as a tree, with the input and output of the chosen step.

    The result is `AGAIN` or `COPY`, and the path of the step from which to start.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Close"),
        Binding("r", "begin('again')", "Resume from the step"),
        Binding("f", "begin('copy')", "Fork from the step"),
        Binding("enter", "read", "Read", priority=True),
    ]

    DEFAULT_CSS = """
    TraceScreen .dialog { height: 95%; }
    TraceView Tree { height: 1fr; background: $surface; }
    TraceScreen #step { height: 8; border-top: solid $panel; }
    """

    def __init__(self, run: Run, steps: Sequence[TraceStep]) -> None:
        super().__init__()
        self._run = run
        self._steps = steps

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Label(Content(one_line(f"{self._run.name} · {self._run.id}")), classes="title")
            tree: Tree[TraceStep | None] = Tree(Text(one_line(self._run.name), "dim"))
            tree.show_root = False
            yield tree
            with VerticalScroll(id="step", can_focus=False):
                yield Static(id="content", markup=False)
            yield Static(
                "Enter: read · r: resume from the step · f: fork from the step · Esc: close", classes="keys"
            )

    def on_mount(self) -> None:
        tree = self.query_one(Tree)
        at: dict[str, TreeNode[TraceStep | None]] = {"": tree.root}

        def node(path: str) -> TreeNode[TraceStep | None]:
            if path not in at:
                outer, name = above(path)
                at[path] = node(outer).add(Text(one_line(name), "dim"), None, expand=True)
            return at[path]

        for step in sorted(self._steps, key=lambda step: (step.started_at, len(step.path))):
            branch = node(step.path)
            branch.data = step
            branch.set_label(step_label(above(step.path)[1], step))
        for branch in at.values():
            branch.allow_expand = bool(branch.children)
        tree.root.expand_all()
        tree.focus()
        tree.move_cursor_to_line(0)

    @property
    def _step(self) -> TraceStep | None:
        tree_node = self.query_one(Tree).cursor_node
        return None if tree_node is None else tree_node.data

    @on(Tree.NodeHighlighted)
    def _show(self) -> None:
        step = self._step
        self.query_one("#content", Static).update(Content("" if step is None else safe(_content(step))))

    def action_read(self) -> None:
        if (step := self._step) is not None:
            self.app.push_screen(Reader(one_line(step.path), safe(_content(step))))

    def action_begin(self, how: str) -> None:
        if (step := self._step) is not None:
            self.dismiss((how, step.path))


def _content(step: TraceStep) -> str:
    lines = []
    for sign, value in (("→", step.input), ("←", step.output), ("✗", step.error)):
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
            lines.append(f"{sign} {text}")
    return "\n".join(lines)
