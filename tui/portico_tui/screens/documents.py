"""Documents: stores and their files, the reasons why files failed, and search with ranked passages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import ContentSwitcher, Input, Static

from portico_tui.daemon import DaemonError, Glance, SkippedFile, Store, StoreFile
from portico_tui.screens.page import LOADING, AppServices, PageScreen
from portico_tui.text import amount, count_reasons, counts, one_line, shorten
from portico_tui.widgets.dialogs import Field, Form
from portico_tui.widgets.file_table import FileTable
from portico_tui.widgets.key_line import KeyLine
from portico_tui.widgets.passages import Passages
from portico_tui.widgets.schema_form import reader
from portico_tui.widgets.table import Table
from portico_tui.widgets.table_rows import TableColumn

STEPS = ("off", "auto", "2", "3", "4")
"""Whether to search again for information that the first passages lack: off, automatic, or the maximum number of
searches.
"""

NEEDS_A_STORE = {"sync", "upload", "delete", "search", "reindex", "pause", "links", "steps"}

STORE_COLUMNS = (
    TableColumn[Store]("STORE", lambda store: store.name, "bold", 24),
    TableColumn[Store]("FILES", counts, sort=lambda store: store.file_counts.total),
)


class DocumentsScreen(PageScreen):
    """The daemon's stores, with the files or the search results of the chosen store."""

    MODE = "documents"
    TAB = "Documents"
    CSS_PATH = "documents.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "search", "Find", tooltip="Find passages in the store"),
        Binding("a", "add", "Add", tooltip="Create a store that mirrors a folder"),
        Binding("s", "sync", "Sync", tooltip="Sync the store's folder"),
        Binding("u", "upload", "Upload", tooltip="Upload a local file to the store"),
        Binding("d", "delete", "Delete", tooltip="Delete the chosen file, or the store if it has the focus"),
        Binding("r", "reindex", "Reindex", show=False, tooltip="Rebuild the store's indexes from scratch"),
        Binding(
            "p",
            "pause",
            "Follow",
            show=False,
            tooltip="Pause or resume following the store's folder or source",
        ),
        Binding(
            "l", "links", "Links", show=False, tooltip="Link the passages of the store, or remove the links"
        ),
        Binding("t", "steps", "Steps", show=False, tooltip="Whether to search again for missing information"),
        Binding("escape", "leave", "Files", tooltip="Return from search results to the files"),
    ]

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self._stores: dict[str, Store] = {}
        self._older_stores: Sequence[Store] = ()
        """All stores, if the daemon's state contains only the newest."""
        self._listed_for: str | None = None
        self._files = FileTable()
        self._listed_store: Store | None = None
        self._listing = False

    def compose(self) -> ComposeResult:
        yield from self.top()
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield Table[Store](*STORE_COLUMNS, id="stores")
                yield Static(LOADING, id="no-stores", classes="empty")
            with Vertical(id="right"):
                yield Input(placeholder="press f to find passages in this store", id="query")
                with ContentSwitcher(initial="listed", id="inside"):
                    with Vertical(id="listed"):
                        yield self._files
                    yield Passages(id="found", quote=240, scores=True)
                    yield Static(id="nothing", classes="empty")
        yield Static(id="detail")
        yield Vertical(id="runs")
        yield KeyLine()

    def on_mount(self) -> None:
        self.listen(self._show)
        self.query_one("#stores", Table).focus()

    def _show(self, glance: Glance) -> None:
        if not glance.is_part:
            self._older_stores = ()
        elif glance.names != self._listed_for:
            self._listed_for = glance.names
            self._list_stores(glance)
        self._stores = {store.id: store for store in (*self._older_stores, *glance.stores)}
        table = self.query_one("#stores", Table)
        table.put(self._stores)
        table.display = bool(self._stores)
        empty = self.query_one("#no-stores", Static)
        empty.update("No stores yet.\n\nPress [b]a[/b] to add a folder.")
        empty.display = not self._stores
        self._refresh_files()
        self.refresh_bindings()

    @work(exclusive=True, group="stores")
    async def _list_stores(self, glance: Glance) -> None:
        """List the stores that the daemon's state lacks."""
        try:
            self._older_stores = await self.client.stores.list()
        except DaemonError:
            self._listed_for = (
                None  # retried at the next poll; the banner reports that the daemon is unreachable
            )
        else:
            self._show(glance)

    @property
    def _store(self) -> Store | None:
        key = self.query_one("#stores", Table).current
        return None if key is None else self._stores.get(key)

    @property
    def _searching(self) -> bool:
        return self.query_one("#inside", ContentSwitcher).current == "found"

    @on(Table.Highlighted, "#stores")
    def _chose_store(self) -> None:
        if self._store is not None and (
            self._listed_store is None or self._listed_store.id != self._store.id
        ):
            self.action_leave()
        self._refresh_files()

    def _refresh_files(self) -> None:
        """List the files of the chosen store, if another store was chosen or the store has changed."""
        store, before = self._store, self._listed_store
        if store == before:
            return
        self._listed_store = store
        if store is not None and not self._listing:
            self._listing = True
            self._list(store)
        if store is None or before is None or store.id != before.id:
            self._put_files((), ())

    @work(group="files")
    async def _list(self, store: Store) -> None:
        """List the store's files, repeatedly until the list is current: the store may change, or another may be
        chosen, during a long listing.
        """
        try:
            wanted_store: Store | None = store
            while wanted_store is not None:
                with self.reporting(f"Files of {wanted_store.name}"):
                    files = await self.daemon.files(wanted_store)
                    skipped_files = (
                        (await self.client.stores.skipped(wanted_store.id)).files
                        if wanted_store.skipped
                        else ()
                    )
                    if self._listed_store is not None and self._listed_store.id == wanted_store.id:
                        self._put_files(files, skipped_files)
                wanted_store = self._listed_store if self._listed_store != wanted_store else None
        finally:
            self._listing = False
        if not self._searching:
            self._open_files()

    def _put_files(self, files: Sequence[StoreFile], skipped_files: Sequence[SkippedFile]) -> None:
        self._files.list_files(files, skipped_files)
        if not self._searching:
            self._open_files()
        self._describe()

    def _open_files(self) -> None:
        store = self._store
        if store is None:
            empty = "A store is a folder or a set of files that you can search and ask."
        elif self._listing:
            empty = "…"
        elif store.source is not None:
            empty = f"No files of {one_line(store.follows or '')} yet.\n\nPress s to sync."
        elif store.folder:
            empty = f"The folder {one_line(store.folder)} contains no documents.\n\nAdd some and press s."
        else:
            empty = "This store is empty.\n\nPress u to upload a file."
        self.query_one("#nothing", Static).update(Content(empty))
        file_list = self._files.files or self._files.skipped
        self.query_one("#inside", ContentSwitcher).current = "listed" if file_list else "nothing"

    @on(Table.Highlighted, "#files")
    def _describe(self) -> None:
        lines: list[Content] = []
        store, file = self._store, self._files.file
        if store is not None:
            origin = f"Mirrors {store.follows}" if store.follows else "Uploaded files"
            total = store.file_counts.total
            description = (
                f"{len(self._files.files)} of {total} files shown"
                if len(self._files.files) < total and self._files.files
                else ""
            )
            skipped_text = (
                f"skipped {count_reasons(store.skipped, store.file_counts.total)}" if store.skipped else ""
            )
            link_state = "linked" if store.links else ""
            steps = store.search.get("steps", STEPS[0])
            step_text = "" if steps == STEPS[0] else f"steps {steps}"
            message_parts = (
                description,
                skipped_text,
                amount(store.usage_bytes),
                store.embedding_model,
                link_state,
                step_text,
                origin,
            )
            messages = " · ".join(one_line(part) for part in message_parts if part)
            lines.append(Content.styled(shorten(messages, max(self.size.width - 4, 20)), "dim"))
        if file is not None and not self._searching:
            lines.append(Content.styled(one_line(file.filename), "bold"))
            if file.error:
                lines.append(Content.styled(one_line(file.error), "$text-error"))
        elif (left_out := self._files.skipped_file) is not None and not self._searching:
            lines.append(Content.styled(one_line(left_out.name), "bold"))
            lines.append(Content.styled(f"Not read: {one_line(left_out.reason)}.", "$text-warning"))
        self.query_one("#detail", Static).update(Content("\n").join(lines))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Dim the actions that need a store if there is no store. Show Esc only when it has an effect."""
        if action == "leave":
            return self.is_mounted and (self._searching or isinstance(self.focused, Input))
        return None if action in NEEDS_A_STORE and not self._stores else True

    def action_search(self) -> None:
        self.query_one("#query").focus()

    @on(Input.Submitted, "#query")
    def _query_submitted(self, event: Input.Submitted) -> None:
        store, query = self._store, event.value.strip()
        if store is not None and query:
            self._search(store, query)

    @work(exclusive=True, group="search")
    async def _search(self, store: Store, query: str) -> None:
        with self.reporting(f"Search {store.name}"):
            passages = await self.daemon.search(store, query)
            found_passages = self.query_one(Passages)
            found_passages.put(passages)
            if not passages:
                self.notify(f"No matches in '{one_line(store.name)}'.", title="Search", markup=False)
                return
            self.query_one("#inside", ContentSwitcher).current = "found"
            self._describe()
            found_passages.focus()

    def action_leave(self) -> None:
        self.workers.cancel_group(self, "search")
        self._open_files()
        self._describe()
        if not self.query_one("#stores").has_focus:
            (self._files if self._files.files else self.query_one("#stores")).focus()
        self.refresh_bindings()

    @work(group="add")
    async def action_add(self) -> None:
        answers = await self.ask(
            Form(
                "Add a folder",
                Field("folder", "Folder on the daemon's machine", hint="/home/me/handbook"),
                Field("name", "Name of the store", hint="the folder's name", optional=True),
                about="The store mirrors the folder and answers as a chat app of the same name.",
            )
        )
        if answers is None:
            return
        folder = answers["folder"]
        name = answers["name"] or Path(folder).name
        with self.reporting(f"Add {folder}"):
            await self.client.stores.add(name, folder=folder)
            self.wake()

    @work(group="sync")
    async def action_sync(self) -> None:
        store = self._store
        if store is None:
            return
        with self.reporting(f"Sync {store.name}"):
            run = self.daemon.sync(store)
            await self.work_through(f"Sync {store.name}", run)
            self.notify(f"'{one_line(store.name)}' is up to date.", title="Sync", markup=False)
            self.wake()

    @work(group="sync")
    async def action_reindex(self) -> None:
        store = self._store
        if store is None or not await self.sure(
            f"Rebuild the indexes of '{one_line(store.name)}' from scratch?", "Build"
        ):
            return
        with self.reporting(f"Reindex {store.name}"):
            run = await self.client.stores.reindex(store.id)
            await self.work_through(f"Reindex {store.name}", self.daemon.progress(run))
            self.report("Reindex", f"'{store.name}' is indexed.")

    @work(group="sync")
    async def action_pause(self) -> None:
        if (store := self._store) is not None:
            with self.reporting(f"Follow {store.name}"):
                is_paused = not store.paused
                await self.client.stores.change(store.id, paused=is_paused)
                self.report(
                    "Follow", f"Following '{store.name}' {'is paused' if is_paused else 'continues'}."
                )
                self.wake()

    @work(group="links")
    async def action_links(self) -> None:
        store = self._store
        if store is None:
            return
        name = one_line(store.name)
        question = (
            f"Remove the links between the passages of '{name}'?"
            if store.links
            else f"Link the passages of '{name}' by the names they mention? Questions whose answer is spread "
            "over several passages then find all of them; new files take up to a third longer, and the "
            "store up to a quarter more space."
        )
        if not await self.sure(question, "Remove" if store.links else "Link"):
            return
        with self.reporting(f"Links of {store.name}"):
            changed_store = await self.client.stores.change(store.id, links=not store.links)
            doing = "linked" if changed_store.links else "unlinked"
            self.report("Links", f"The passages of '{store.name}' are being {doing} in the background.")
            self.wake()

    @work(group="steps")
    async def action_steps(self) -> None:
        store = self._store
        if store is None:
            return
        now = str(store.search.get("steps", STEPS[0]))
        read_choice = reader({"type": "string", "enum": STEPS})
        answers = await self.ask(
            Form(
                f"Searches of '{one_line(store.name)}'",
                Field("steps", "Search again for missing information", now, choices=STEPS, check=read_choice),
            )
        )
        if answers is None:
            return
        with self.reporting(f"Steps of {store.name}"):
            steps_answer = answers["steps"]
            steps = int(steps_answer) if steps_answer.isdigit() else steps_answer
            await self.client.stores.change(store.id, search={**store.search, "steps": steps})
            self.report("Steps", f"Search steps in '{store.name}': {steps_answer}.")
            self.wake()

    @work(group="upload")
    async def action_upload(self) -> None:
        store = self._store
        if store is None:
            return
        answers = await self.ask(
            Form(
                f"Upload into '{one_line(store.name)}'",
                Field("path", "Local file", hint="~/report.pdf"),
            )
        )
        if answers is None:
            return
        path = Path(answers["path"])
        with self.reporting(f"Upload {path.name}"):
            await self.daemon.upload(store, path)
            self.notify(
                f"'{one_line(path.name)}' is in '{one_line(store.name)}'.", title="Upload", markup=False
            )
            self.wake()

    @work(exclusive=True, group="delete")
    async def action_delete(self) -> None:
        store, file = self._store, self._files.file
        if self._files.has_focus and file is not None:
            name = one_line(file.filename)
            if await self.sure(
                f"Delete '{name}'? It is removed from every store that contains it.", "Delete"
            ):
                with self.reporting(f"Delete {name}"):
                    await self.client.files.remove(file.id)
                    self.wake()
        elif self._files.has_focus and self._files.skipped_file is not None:
            self.notify("Nothing to delete: the file is not in the store.", title="Delete", markup=False)
        elif store is not None:
            name = one_line(store.name)
            stays = " Its folder stays unchanged." if store.folder else ""
            total = store.file_counts.total
            if await self.sure(
                f"Delete the store '{name}' and the index of its {total} files?{stays}", "Delete"
            ):
                with self.reporting(f"Delete {name}"):
                    await self.client.stores.remove(store.id)
                    self.wake()
