"""Containers: folders of the sandbox that code of several calls shares, and their files."""

from __future__ import annotations

from collections.abc import Sequence

from portico.schemas.containers import Container, ContainerFile
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import clock, one_line
from portico_tui.widgets.dialogs import Field, Form
from portico_tui.widgets.schema_form import local_path
from portico_tui.widgets.table_rows import TableColumn


class ContainersScreen(ListingScreen[Container]):
    """The own containers, newest first."""

    MODE = "containers"
    TAB = "Containers"
    COLUMNS = (
        TableColumn[Container]("NAME", lambda one: one.name, "bold", 36),
        TableColumn[Container](
            "LAST USED", lambda one: clock(one.last_active_at), "", sort=lambda one: one.last_active_at
        ),
        TableColumn[Container]("MINUTES", lambda one: one.minutes, sort=lambda one: one.minutes),
        TableColumn[Container]("ID", lambda one: one.id, "dim"),
    )
    EMPTY = "No containers yet.\n\nPress n to make one: a folder of the sandbox that code of several calls shares."

    async def find(self) -> Sequence[Container]:
        return await self.client.containers.list()

    @action("n", "New", "Make a container")
    async def new(self) -> None:
        given = await self.ask(
            Form(
                "Make a container",
                Field("name", "Name"),
                Field("minutes", "Minutes for which it is kept after its last use", "20", check=int),
                Field("skills", "Skills that code finds in it · optional", optional=True),
            )
        )
        if given is None:
            return
        skills = given["skills"].replace(",", " ").split()
        made = await self.client.containers.create(
            given["name"], skills=skills, minutes=int(given["minutes"])
        )
        self.report("Container", f"{made.id} is '{made.name}'.")

    @row_action("enter", "Files", "The files of the container")
    async def files(self, container: Container) -> None:
        self.app.push_screen(ContainerFilesScreen(self.services, container))

    @row_action("d", "Delete", "Forget the container with its files")
    async def delete(self, container: Container) -> None:
        if await self.sure(f"Delete '{one_line(container.name)}' with its files?", "Delete"):
            await self.client.containers.remove(container.id)


class ContainerFilesScreen(SublistScreen[ContainerFile]):
    """The files of a container, newest first."""

    MODE = "containers"
    TAB = "Containers"
    COLUMNS = (
        TableColumn[ContainerFile]("FILE", lambda one: one.path, "bold"),
        TableColumn[ContainerFile]("BYTES", lambda one: f"{one.bytes:,}", sort=lambda one: one.bytes),
        TableColumn[ContainerFile]("FROM", lambda one: one.source),
        TableColumn[ContainerFile](
            "SINCE", lambda one: clock(one.created_at), "dim", sort=lambda one: one.created_at
        ),
    )
    EMPTY = "No files yet.\n\nPress u to upload one: code finds it in /work."

    def __init__(self, services: AppServices, container: Container) -> None:
        super().__init__(services, f"Files of {container.name}")
        self._container = container

    async def find(self) -> Sequence[ContainerFile]:
        return await self.client.containers.files(self._container.id)

    @action("u", "Upload", "Put a file of this machine there, in place of one with its name")
    async def upload(self) -> None:
        given = await self.ask(Form("Upload a file", Field("file", "File on this machine", check=local_path)))
        if given is not None:
            made = await self.client.containers.add_file(self._container.id, local_path(given["file"]))
            self.report("Upload", f"{made.path} is there.")

    @row_action("x", "Save", "Write the file to this machine")
    async def save(self, file: ContainerFile) -> None:
        given = await self.ask(
            Form("Save the file", Field("folder", "Folder on this machine", ".", check=local_path))
        )
        if given is None:
            return
        content = await self.client.containers.content(self._container.id, file.id)
        await self.write_file(local_path(given["folder"]) / file.path.rpartition("/")[2], content)

    @row_action("d", "Delete", "Take the file out of the container")
    async def delete(self, file: ContainerFile) -> None:
        if await self.sure(f"Delete {one_line(file.path)}?", "Delete"):
            await self.client.containers.remove_file(self._container.id, file.id)
