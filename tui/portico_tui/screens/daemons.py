"""Daemons: the saved daemons and their states, and switching to another daemon."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_config_path
from rich.text import Text
from textual.content import Content

from portico.errors import InvalidRequest
from portico_tui.daemon import DaemonClient, DaemonError, Glance
from portico_tui.screens.page import ListingScreen, action, row_action
from portico_tui.text import cell, one_line
from portico_tui.widgets.dialogs import Field, Form
from portico_tui.widgets.table_rows import TableColumn

ANSWER_TIMEOUT_S = 5.0
"""Seconds that a daemon in the list has to report its state."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A daemon with a name. An empty ``key`` means no key."""

    name: str
    url: str
    key: str = ""


def profiles_file() -> Path:
    """Return the path of the file with profiles: ``daemons.json`` in the user's settings folder."""
    return user_config_path("portico", appauthor=False) / "daemons.json"


def read_profiles(file: Path) -> list[Profile]:
    """Read the saved profiles, sorted by name. Raises `InvalidRequest` for a file with other contents."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return sorted((Profile(**row) for row in rows), key=lambda profile: profile.name)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequest(
            f"{file} does not contain a list of daemons: {error}. Fix or remove it."
        ) from error


def write_profiles(file: Path, profiles: Iterable[Profile]) -> None:
    """Save the profiles. Only the owner can read the file, because it contains keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        json.dump([asdict(profile) for profile in profiles], out, ensure_ascii=False, indent=2)
    new.replace(file)


@dataclass(frozen=True, slots=True)
class SeenDaemon:
    """A saved profile or the open daemon, with the daemon's latest state or the reason why it did not respond."""

    profile: Profile
    is_open: bool
    glance: Glance | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The profile's name, or the daemon's URL if the profile has no name."""
        return self.profile.name or self.profile.url

    def state(self) -> Text:
        """Return whether the daemon responds, as a symbol and a word."""
        return cell("✗ away", "red") if self.glance is None else cell("● answers", "green")

    def holds(self) -> str:
        """Return the numbers of the daemon's models, stores and apps."""
        if self.glance is None:
            return ""
        counts = [("models", len(self.glance.models))]
        if self.glance.is_part:
            counts.append(("stores", self.glance.store_count or 0))
        else:
            counts += [("stores", len(self.glance.stores)), ("apps", len(self.glance.apps))]
        return " · ".join(f"{count} {noun}" for noun, count in counts)


class DaemonsScreen(ListingScreen[SeenDaemon]):
    """The list of daemons to switch between."""

    MODE = "daemons"
    TAB = "Daemons"
    LOOK_INTERVAL_S = 10.0
    COLUMNS = (
        TableColumn[SeenDaemon]("DAEMON", lambda daemon: daemon.name, "bold", 32),
        TableColumn[SeenDaemon]("STATE", lambda daemon: daemon.state()),
        TableColumn[SeenDaemon]("OPEN", lambda daemon: "●" if daemon.is_open else ""),
        TableColumn[SeenDaemon]("ADDRESS", lambda daemon: daemon.profile.url, "dim"),
        TableColumn[SeenDaemon]("HAS", lambda daemon: daemon.holds()),
    )
    EMPTY = "No daemons."

    async def find(self) -> Sequence[SeenDaemon]:
        profiles = await asyncio.to_thread(read_profiles, profiles_file())
        if not any(self._is_open(profile) for profile in profiles):
            profiles = [Profile("", self.daemon.url), *profiles]
        return await asyncio.gather(*map(self._look_at, profiles))

    def _is_open(self, profile: Profile) -> bool:
        return (profile.name, profile.url) == (self.daemon.name, self.daemon.url)

    async def _look_at(self, profile: Profile) -> SeenDaemon:
        is_open = self._is_open(profile) or not profile.name
        daemon_client = self.daemon if is_open else DaemonClient(profile.url, profile.key)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return SeenDaemon(profile, is_open, await daemon_client.client.status())
        except (DaemonError, TimeoutError) as error:
            problem = str(error) or f"The daemon did not respond within {ANSWER_TIMEOUT_S:g} seconds."
            return SeenDaemon(profile, is_open, None, problem)
        finally:
            if not is_open:
                await daemon_client.close()

    def detail(self, item: SeenDaemon) -> Iterable[Content | str]:
        if item.problem:
            yield Content.styled(one_line(item.problem), "$text-error")

    @row_action("enter", "Open", "Switch to the daemon", when=lambda daemon: not daemon.is_open)
    async def open_daemon(self, daemon: SeenDaemon) -> None:
        self.app.exit(DaemonClient(daemon.profile.url, daemon.profile.key, name=daemon.profile.name))

    @action("a", "Add", "Save the address of a daemon under a name")
    async def add(self) -> None:
        answers = await self.ask(
            Form(
                "Add a daemon",
                Field("name", "Name", hint="office"),
                Field("url", "Address", hint="https://portico.example.com"),
                Field("key", "Key · optional", hint="pk-…", optional=True, secret=True),
                about=f"The daemon is saved in {profiles_file()}, which only you can read.",
            )
        )
        if answers is None:
            return
        daemon_client = DaemonClient(answers["url"], answers["key"])  # the URL, normalized by the client
        await daemon_client.close()
        await self._keep(answers["name"], Profile(answers["name"], daemon_client.url, answers["key"]))

    @row_action(
        "d",
        "Forget",
        "Forget the address and the key; the daemon remains",
        when=lambda daemon: daemon.profile.name,
    )
    async def forget(self, daemon: SeenDaemon) -> None:
        if await self.sure(f"Forget the address and the key of '{one_line(daemon.name)}'?", "Forget"):
            await self._keep(daemon.profile.name, None)

    async def _keep(self, name: str, profile: Profile | None) -> None:
        """Replace the profile with this name, or remove it if ``profile`` is ``None``."""

        def write() -> None:
            file = profiles_file()
            profiles = [entry for entry in read_profiles(file) if entry.name != name]
            write_profiles(file, profiles if profile is None else [*profiles, profile])

        await asyncio.to_thread(write)
