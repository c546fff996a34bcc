"""The files of a store in order of arrival, followed by the files that a sync has skipped."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from portico_tui.daemon import SkippedFile, StoreFile
from portico_tui.text import amount, cell, file_state
from portico_tui.widgets.table import Table
from portico_tui.widgets.table_rows import TableColumn

FILE_COLUMNS = (
    TableColumn[StoreFile | SkippedFile]("FILE", lambda file: _name(file), width=36),
    TableColumn[StoreFile | SkippedFile]("STATE", lambda file: file_state(_state(file))),
    TableColumn[StoreFile | SkippedFile](
        "SIZE",
        lambda file: amount(file.bytes) if isinstance(file, StoreFile) else "",
        sort=lambda file: file.bytes if isinstance(file, StoreFile) else None,
    ),
)


def _name(file: StoreFile | SkippedFile) -> Text:
    return cell(file.filename) if isinstance(file, StoreFile) else cell(file.name, "dim")


def _state(file: StoreFile | SkippedFile) -> str:
    return file.status if isinstance(file, StoreFile) else "skipped"


class FileTable(Table[StoreFile | SkippedFile]):
    """The table `#files`. Rows are files of the store, and files that a sync has skipped."""

    def __init__(self) -> None:
        super().__init__(*FILE_COLUMNS, id="files")
        self.files: Sequence[StoreFile] = ()
        self.skipped: Sequence[SkippedFile] = ()

    def list_files(self, files: Sequence[StoreFile], skipped_files: Sequence[SkippedFile]) -> None:
        """Show the files."""
        self.files, self.skipped = files, skipped_files
        self.put(
            {**{file.id: file for file in files}, **{f"skipped {file.name}": file for file in skipped_files}}
        )

    @property
    def file(self) -> StoreFile | None:
        """The chosen file, if it is in the store."""
        chosen_file = self.chosen
        return chosen_file if isinstance(chosen_file, StoreFile) else None

    @property
    def skipped_file(self) -> SkippedFile | None:
        """The chosen file, if a sync has skipped it."""
        chosen_file = self.chosen
        return chosen_file if isinstance(chosen_file, SkippedFile) else None
