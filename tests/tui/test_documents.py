"""The screen Documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.daemon import Daemon
from tests.tui.terminal import Terminal, terminal
from textual.widgets import ContentSwitcher
from textual.widgets._footer import FooterKey

import portico_tui.daemon as facade
from portico import AsyncClient, Client
from portico.errors import ConnectionFailed
from portico.schemas.files import File
from portico_tui.widgets.dialogs import Confirm, Form, Reader
from portico_tui.widgets.passages import Passages


async def documents(screen: Terminal) -> None:
    """Go to the screen, and wait until the handbook is indexed."""
    await screen.open("2", "DocumentsScreen")
    await screen.until(lambda: (row := screen.row("#stores", "handbook")) and row[1].startswith("3 ✗1"))
    await screen.until(lambda: len(screen.rows("#files")) >= 4)


@pytest.mark.slow
async def test_files_are_listed_with_the_reason_of_a_failure(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await documents(screen)
        states = {
            "bread.txt": "● ready",
            "broken.pdf": "✗ failed",
            "gaoshan.md": "● ready",
            "port.md": "● ready",
        }
        await screen.until(lambda: {row[0]: row[1] for row in screen.rows("#files")} == states)
        screen.app.screen.query_one("#files").focus()
        await screen.press("ctrl+home", "down")
        await screen.until(lambda: "broken.pdf is" in screen.text("#detail"))


async def test_a_search_ranks_passages_and_one_can_be_read_whole(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await documents(screen)
        await screen.press("f")
        await screen.type("lighthouse port")
        passages_view = screen.app.screen.query_one(Passages)
        await screen.until(lambda: passages_view.passages and passages_view.has_focus)
        assert passages_view.passages[0].filename == "port.md"
        footer = ["Files", "Help", "Quit"]
        await screen.until(
            lambda: [key.description for key in screen.app.screen.query(FooterKey)][-3:] == footer
        )
        assert [passage.rank for passage in passages_view.passages] == list(
            range(1, len(passages_view.passages) + 1)
        )
        await screen.press("enter")
        await screen.until(lambda: isinstance(screen.app.screen, Reader))
        assert "7419" in screen.text("#text")
        await screen.press("escape")
        await screen.press("escape")
        assert screen.app.screen.query_one("#inside", ContentSwitcher).current == "listed"


@pytest.mark.slow
async def test_a_folder_is_added_and_changes_in_it_are_found(busy_daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "minutes"
    folder.mkdir()
    async with terminal(busy_daemon.url) as screen:
        await documents(screen)
        await screen.press("a")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.type(str(folder))
        await screen.press("enter")  # the folder's own name
        await screen.until(
            lambda: not isinstance(screen.app.screen, Form) and screen.row("#stores", "minutes")
        )
        await screen.choose("#stores", "minutes")
        await screen.until(lambda: "contains no documents" in screen.text("#nothing"))

        (folder / "monday.txt").write_text("The boiler is repaired on Thursday.", encoding="utf-8")
        await screen.press("s")
        await screen.until(lambda: [row[:2] for row in screen.rows("#files")] == [["monday.txt", "● ready"]])
        await screen.until(lambda: any("up to date" in line for line in screen.told))

        await screen.press("l")
        await screen.agree()
        await screen.until(lambda: any("being linked" in line for line in screen.told))
        await screen.until(lambda: " linked " in screen.text("#detail"))
        await screen.press("l")
        await screen.agree()
        await screen.until(lambda: any("are being unlinked" in line for line in screen.told))
        await screen.until(lambda: " linked " not in screen.text("#detail"))

        await screen.press("t")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.fill(steps="auto")
        await screen.until(lambda: any("Search steps in 'minutes': auto" in line for line in screen.told))
        await screen.until(lambda: "steps auto" in screen.text("#detail"))

        await screen.press("d")  # the focus is on the stores
        await screen.until(lambda: isinstance(screen.app.screen, Confirm))
        await screen.press("y")
        await screen.until(
            lambda: not isinstance(screen.app.screen, Confirm) and not screen.row("#stores", "minutes")
        )
    assert (folder / "monday.txt").exists()


async def test_skipped_files_are_listed_with_the_reason(busy_daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "drawer"
    folder.mkdir()
    (folder / "old.bin").write_bytes(b"\x00\x01")
    with Client(busy_daemon.url) as client:
        client.stores.add("drawer", folder=folder)
    async with terminal(busy_daemon.url) as screen:
        await screen.open("2", "DocumentsScreen")
        await screen.until(lambda: screen.row("#stores", "drawer")[1:] == ["0 −1"])
        await screen.choose("#stores", "drawer")
        await screen.until(lambda: screen.row("#files", "old.bin")[1:2] == ["− skipped"])
        screen.app.screen.query_one("#files").focus()
        await screen.until(lambda: "Not read: of an unsupported format." in screen.text("#detail"))
        assert "skipped 1 of 1 file: 1 of an unsupported format" in screen.text("#detail")
        await screen.press("d")
        await screen.until(lambda: any("Nothing to delete" in line for line in screen.told))
        assert not isinstance(screen.app.screen, Confirm)
    with Client(busy_daemon.url) as client:
        client.stores.remove("drawer")


@pytest.mark.slow
async def test_a_file_is_uploaded_and_after_a_question_deleted(busy_daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "[b]note.txt").write_text("The key hangs behind the clock.", encoding="utf-8")
    async with terminal(busy_daemon.url) as screen:
        await documents(screen)
        await screen.press("u")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.type(str(tmp_path / "[b]note.txt"))
        await screen.until(lambda: not isinstance(screen.app.screen, Form))
        await screen.until(lambda: screen.row("#files", "[b]note.txt")[1:2] == ["● ready"])

        screen.app.screen.query_one("#files").focus()
        await screen.press("ctrl+end", "d")
        await screen.until(lambda: isinstance(screen.app.screen, Confirm))
        assert "[b]note.txt" in screen.text(".about")
        await screen.press("escape")
        await screen.press("d")
        await screen.until(lambda: isinstance(screen.app.screen, Confirm))
        await screen.press("y")
        await screen.until(
            lambda: not isinstance(screen.app.screen, Confirm) and not screen.row("#files", "[b]note.txt")
        )


async def test_a_large_file_that_was_cut_off_continues_with_the_next_try(
    busy_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade, "MIN_PARTED_BYTES", 10)
    monkeypatch.setattr("portico._async.knowledge.PART_BYTES", 8)
    path = tmp_path / "large.txt"
    path.write_text("The lamp burns oil.", encoding="utf-8")
    async with AsyncClient(busy_daemon.url) as client:
        store = await client.stores.get("handbook")
    daemon = facade.DaemonClient(busy_daemon.url)
    upload_ids: list[str] = []
    send = daemon.client.files.continue_upload

    async def cut_off_once(upload: str, content: Path) -> File:
        upload_ids.append(upload)
        if len(upload_ids) == 1:
            raise ConnectionFailed("The daemon does not answer.")
        return await send(upload, content)

    monkeypatch.setattr(daemon.client.files, "continue_upload", cut_off_once)
    with pytest.raises(ConnectionFailed):
        await daemon.upload(store, path)
    uploaded_file = await daemon.upload(store, path)
    assert upload_ids[0] == upload_ids[1]
    assert await daemon.client.files.content(uploaded_file.id) == path.read_bytes()
    await daemon.client.files.remove(uploaded_file.id)
    await daemon.close()


async def test_a_refused_document_action_shows_the_daemons_message(
    busy_daemon: Daemon, tmp_path: Path
) -> None:
    async with terminal(busy_daemon.url) as screen:
        await documents(screen)
        screen.app.screen.query_one("#files").focus()
        await screen.press("ctrl+home", "d")
        await screen.until(lambda: isinstance(screen.app.screen, Confirm))
        await screen.press("y")
        await screen.until(lambda: screen.told)
        assert "'bread.txt' mirrors a file" in screen.told[-1]
        await screen.press("u")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.type(str(tmp_path / "missing.txt"))
        await screen.until(lambda: any("missing.txt' does not exist" in line for line in screen.told))


async def test_without_stores_the_screen_says_how_to_get_one(empty_daemon: Daemon) -> None:
    async with terminal(empty_daemon.url) as screen:
        await screen.open("2", "DocumentsScreen")
        await screen.until(lambda: screen.app.screen.query_one("#no-stores").region.height)
        assert "add a folder" in screen.text("#no-stores")
        await screen.press("s", "u", "d")  # no document exists for these actions
        assert type(screen.app.screen).__name__ == "DocumentsScreen"


async def test_of_a_large_store_the_failed_files_come_first(
    busy_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade, "FILES", 3)
    monkeypatch.setattr(facade, "PAGE_ITEMS", 1)
    async with terminal(busy_daemon.url) as screen:
        await screen.open("2", "DocumentsScreen")
        await screen.until(
            lambda: len(screen.rows("#files")) == 3 and screen.rows("#files")[0][0] == "broken.pdf"
        )
        assert "3 of 4 files shown" in screen.text("#detail")
