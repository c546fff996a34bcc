"""Several daemons: saved under names, compared side by side, switched between."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.daemon import Daemon
from tests.tui.terminal import Terminal, terminal

from portico import Client
from portico_tui import app
from portico_tui.daemon import DaemonClient
from portico_tui.screens.daemons import profiles_file

NOWHERE = "http://127.0.0.1:9"
"""An address where no server listens: the discard port."""


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


async def add(screen: Terminal, name: str, url: str, key: str = "") -> None:
    await screen.press("a")
    await screen.fill(name=name, url=url, key=key)
    await screen.until(lambda: screen.row("#rows", name))


@pytest.mark.slow
async def test_daemons_are_added_listed_with_status_opened_and_removed(
    busy_daemon: Daemon, empty_daemon: Daemon
) -> None:
    with Client(empty_daemon.url) as client:
        secret = client.keys.add("tui", ["admin"])
    async with terminal(busy_daemon.url, size=(130, 30)) as screen:
        await screen.go("daemons")
        await screen.until(lambda: [row[2] for row in screen.rows("#rows")] == ["●"])
        await screen.press("a")
        await screen.fill(name="odd", url="ftp://nowhere", key="")
        await screen.until(lambda: any("is not the URL of a daemon" in line for line in screen.told))
        await add(screen, "away", NOWHERE)
        await add(screen, "office", f"{empty_daemon.url}/v1", secret.key)
        assert screen.row("#rows", "away")[1] == "✗ away"
        assert screen.row("#rows", "office")[1:4] == ["● answers", "", empty_daemon.url]
        assert screen.row("#rows", busy_daemon.url)[2] == "●"
        assert stat.S_IMODE(profiles_file().stat().st_mode) == 0o600
        assert all(secret.key not in cell for row in screen.rows("#rows") for cell in row)
        await screen.choose("#rows", "away")
        await screen.until(lambda: "No Portico daemon" in screen.text("#detail"))
        await screen.press("d")
        await screen.agree()
        await screen.until(lambda: not screen.row("#rows", "away"))
        await screen.choose("#rows", busy_daemon.url)
        await screen.press("enter")  # already open
        assert screen.app.return_value is None
        await screen.choose("#rows", "office")
        await screen.press("enter")
        daemon = await screen.left()
    assert (daemon.name, daemon.url) == ("office", empty_daemon.url)
    assert (await daemon.client.keys.list())[0].name == "tui"  # it uses its own key
    await daemon.close()
    with Client(empty_daemon.url, secret.key) as client:
        client.keys.revoke(secret.id)


async def test_a_key_of_the_environment_stays_with_its_daemon(
    busy_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_API_KEY", "pk-of-this-machine")
    async with terminal(busy_daemon.url, key="") as screen:
        await screen.go("daemons")
        await add(screen, "away", NOWHERE)
        await screen.choose("#rows", "away")
        await screen.press("enter")
        daemon = await screen.left()
    assert daemon.client._transport.address.key is None
    await daemon.close()


async def test_a_file_of_daemons_that_is_damaged_is_named(busy_daemon: Daemon) -> None:
    profiles_file().parent.mkdir(parents=True)
    profiles_file().write_text("[1]")
    async with terminal(busy_daemon.url) as screen:
        await screen.go("daemons")
        await screen.until(lambda: str(profiles_file()) in screen.text("#empty"))


def test_choosing_another_daemon_restarts_the_app_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened_urls: list[str] = []

    def run(self: app.Portico) -> DaemonClient | None:
        opened_urls.append(self._daemon.url)
        return DaemonClient("http://other:1", "") if len(opened_urls) == 1 else None

    monkeypatch.setattr(app.Portico, "run", run)
    app.run("http://one:1")
    assert opened_urls == ["http://one:1", "http://other:1"]
