"""`portico tui`: the app with the screens and the connection to the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.notifications import Notify, SeverityLevel
from textual.reactive import reactive
from textual.screen import Screen
from textual.widgets import Input
from textual.worker import WorkerError

from portico_tui.daemon import DaemonClient, Glance
from portico_tui.link import Link, Lost
from portico_tui.screens.access import KeysScreen, LogsScreen, SettingsScreen, UsageScreen
from portico_tui.screens.approvals import ApprovalsScreen
from portico_tui.screens.apps import AppsScreen
from portico_tui.screens.batches import BatchesScreen
from portico_tui.screens.canaries import CanariesScreen
from portico_tui.screens.chat import ChatScreen
from portico_tui.screens.containers import ContainersScreen
from portico_tui.screens.daemons import DaemonsScreen
from portico_tui.screens.documents import DocumentsScreen
from portico_tui.screens.evals import EvalsScreen
from portico_tui.screens.finetunes import FinetunesScreen
from portico_tui.screens.kept import (
    AdaptersScreen,
    ArtifactsScreen,
    EnginesScreen,
    FactsScreen,
    GuardsScreen,
    StoredChatsScreen,
)
from portico_tui.screens.machines import MachinesScreen
from portico_tui.screens.models import ModelsScreen
from portico_tui.screens.page import AppServices, PageScreen
from portico_tui.screens.prompts import PromptsScreen
from portico_tui.screens.runs import RunsScreen
from portico_tui.screens.schedules import SchedulesScreen
from portico_tui.screens.skills import SkillsScreen
from portico_tui.screens.tools import OriginsScreen, ToolsScreen
from portico_tui.screens.webhooks import WebhooksScreen
from portico_tui.widgets.dialogs import Choose, Help
from portico_tui.widgets.toast_time import TimedNotification
from portico_tui.widgets.top import DIGIT_KEYS

PAGES: tuple[type[PageScreen], ...] = (
    ModelsScreen,
    DocumentsScreen,
    ChatScreen,
    ApprovalsScreen,
    FinetunesScreen,
    BatchesScreen,
    AppsScreen,
    RunsScreen,
    ToolsScreen,
    OriginsScreen,
    PromptsScreen,
    SkillsScreen,
    EvalsScreen,
    KeysScreen,
    CanariesScreen,
    ContainersScreen,
    SchedulesScreen,
    WebhooksScreen,
    MachinesScreen,
    UsageScreen,
    LogsScreen,
    SettingsScreen,
    GuardsScreen,
    EnginesScreen,
    AdaptersScreen,
    ArtifactsScreen,
    FactsScreen,
    StoredChatsScreen,
    DaemonsScreen,
)
"""The screens, in the order of their keys."""

TITLES = {page.MODE: page.TAB for page in PAGES}


class Portico(App[DaemonClient]):
    """The terminal UI for one daemon. On exit, it closes its connections and returns the daemon to open next, if any.

    ``glance`` is the daemon's latest known state, ``lost`` the reason why the daemon does not respond. Every screen
    watches both.
    """

    TITLE = "Portico"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012  # declared so by Textual
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"switch_mode('{page.MODE}')", page.TAB, show=False)
            for key, page in zip(DIGIT_KEYS, PAGES, strict=False)
        ),
        Binding("ctrl+g", "go", "Go to", show=False, tooltip="Go to another screen by typing its name"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("ctrl+r", "reconnect", "Refresh the daemon's state now", show=False),
        Binding("ctrl+p", "command_palette", "Commands", show=False),
        Binding("q", "quit_by_letter", "Quit"),
    ]

    glance: reactive[Glance | None] = reactive(None)
    lost: reactive[Lost | None] = reactive(None)

    def __init__(self, daemon: DaemonClient) -> None:
        super().__init__()
        self._daemon = daemon
        self._link = Link(daemon, self._show_glance, self._show_loss)
        services = AppServices(daemon, self._link.wake, TITLES)
        for page in PAGES:
            self.add_mode(page.MODE, partial(page, services))

    def on_mount(self) -> None:
        self.switch_mode(PAGES[0].MODE)
        self._keep()

    async def on_unmount(self) -> None:
        """Close the connections to the daemon once no request uses them any more."""
        self.workers.cancel_all()
        for worker in list(self.workers):
            with suppress(WorkerError):
                await worker.wait()
        await self._daemon.close()

    @work
    async def _keep(self) -> None:
        await self._link.keep()

    def _show_glance(self, glance: Glance) -> None:
        self.lost = None
        self.glance = glance

    def _show_loss(self, loss: Lost) -> None:
        self.lost = loss

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable letter keys while a person types, and disable the keys of screens behind a dialog."""
        if action in ("help", "quit_by_letter") and isinstance(self.focused, Input):
            return False
        if action in ("help", "switch_mode", "reconnect", "go"):
            return isinstance(self.screen, PageScreen)
        return True

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        shown_s = self.NOTIFICATION_TIMEOUT if timeout is None else timeout
        self.post_message(Notify(TimedNotification(message, title, severity, shown_s, markup=markup)))

    def action_help(self) -> None:
        if isinstance(self.screen, PageScreen):
            self.push_screen(Help(self.screen.keys()))

    def action_quit_by_letter(self) -> None:
        """Quit, unless the person is typing in an input. Ctrl+q, Textual's own key, works everywhere."""
        self.exit()

    @work(exclusive=True, group="go")
    async def action_go(self) -> None:
        """Go to another screen by typing its name."""
        place = await self.push_screen_wait(Choose("Go to", list(TITLES.values())))
        if place is not None:
            self.switch_mode(list(TITLES)[place])

    def action_reconnect(self) -> None:
        self._link.wake()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Return the commands of the palette: the actions of the screen, then the other screens, then Textual's own
        commands.
        """
        if isinstance(screen, PageScreen):
            for binding in filter(lambda each: each.show, screen.commands()):
                yield SystemCommand(
                    binding.description, binding.tooltip, partial(screen.run_action, binding.action)
                )
        for mode, title in TITLES.items():
            yield SystemCommand(title, f"Go to {title}", partial(self.switch_mode, mode))
        yield from super().get_system_commands(screen)


def run(url: str | None = None, key: str | None = None) -> None:
    """Open the terminal UI for the daemon at ``url``, with ``key``. The defaults are those of the client.

    If the UI fails, Textual prints the traceback, and `SystemExit` is raised.
    """
    daemon: DaemonClient | None = DaemonClient(url, key)
    while daemon is not None:
        app = Portico(daemon)
        daemon = app.run()
        if app.return_code:
            raise SystemExit(app.return_code)
