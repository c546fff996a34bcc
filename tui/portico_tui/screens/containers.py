"""Containers: sandbox folders that the code of several calls shares, and their files."""

from __future__ import annotations

from collections.abc import Sequence

from portico.schemas.containers import Container, ContainerFile
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import clock, one_line
from portico_tui.widgets.dialogs import Field, Form
from portico_tui.widgets.schema_form import local_path
from portico_tui.widgets.table_rows import TableColumn


class ContainersScreen(ListingScreen[Container]):
    """The caller's containers, newest first."""

    MODE = "containers"
    TAB = "Containers"
    COLUMNS = (
        TableColumn[Container]("NAME", lambda container: container.name, "bold", 36),
        TableColumn[Container](
            "LAST USED",
            lambda container: clock(container.last_active_at),
            "",
            sort=lambda container: container.last_active_at,
        ),
        TableColumn[Container](
            "MINUTES", lambda container: container.minutes, sort=lambda container: container.minutes
        ),
        TableColumn[Container]("ID", lambda container: container.id, "dim"),
    )
    EMPTY = (
        "No containers yet.\n\nPress n to create one: a sandbox folder shared by the code of several calls."
    )

    async def find(self) -> Sequence[Container]:
        return await self.client.containers.list()

    @action("n", "New", "Make a container")
    async def new(self) -> None:
        answers = await self.ask(
            Form(
                "Make a container",
                Field("name", "Name"),
                Field("minutes", "Minutes to keep the container after its last use", "20", check=int),
                Field("skills", "Skills available to the container's code · optional", optional=True),
            )
        )
        if answers is None:
            return
        skills = answers["skills"].replace(",", " ").split()
        container = await self.client.containers.create(
            answers["name"], skills=skills, minutes=int(answers["minutes"])
        )
        self.report("Container", f"{container.id} is '{container.name}'.")

    @row_action("enter", "Files", "The files of the container")
    async def files(self, container: Container) -> None:
        self.app.push_screen(ContainerFilesScreen(self.services, container))

    @row_action("d", "Delete", "Delete the container with its files")
    async def delete(self, container: Container) -> None:
        if await self.sure(f"Delete '{one_line(container.name)}' with its files?", "Delete"):
            await self.client.containers.remove(container.id)


class ContainerFilesScreen(SublistScreen[ContainerFile]):
    """The files of a container, newest first."""

    MODE = "containers"
    TAB = "Containers"
    COLUMNS = (
        TableColumn[ContainerFile]("FILE", lambda file: file.path, "bold"),
        TableColumn[ContainerFile]("BYTES", lambda file: f"{file.bytes:,}", sort=lambda file: file.bytes),
        TableColumn[ContainerFile]("FROM", lambda file: file.source),
        TableColumn[ContainerFile](
            "SINCE", lambda file: clock(file.created_at), "dim", sort=lambda file: file.created_at
        ),
    )
    EMPTY = "No files yet.\n\nPress u to upload one: code finds it in /work."

    def __init__(self, services: AppServices, container: Container) -> None:
        super().__init__(services, f"Files of {container.name}")
        self._container = container

    async def find(self) -> Sequence[ContainerFile]:
        return await self.client.containers.files(self._container.id)

    @action("u", "Upload", "Upload a local file, replacing a file with the same name")
    async def upload(self) -> None:
        answers = await self.ask(Form("Upload a file", Field("file", "Local file", check=local_path)))
        if answers is not None:
            container_file = await self.client.containers.add_file(
                self._container.id, local_path(answers["file"])
            )
            self.report("Upload", f"{container_file.path} is there.")

    @row_action("x", "Save", "Save the file on this machine")
    async def save(self, file: ContainerFile) -> None:
        answers = await self.ask(
            Form("Save the file", Field("folder", "Local folder", ".", check=local_path))
        )
        if answers is None:
            return
        content = await self.client.containers.content(self._container.id, file.id)
        await self.write_file(local_path(answers["folder"]) / file.path.rpartition("/")[2], content)

    @row_action("d", "Delete", "Remove the file from the container")
    async def delete(self, file: ContainerFile) -> None:
        if await self.sure(f"Delete {one_line(file.path)}?", "Delete"):
            await self.client.containers.remove_file(self._container.id, file.id)
