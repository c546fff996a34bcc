"""``python -m portico_server backup | restore | vacuum | migrate``, for a home folder that no running daemon uses.

Prints JSON lines: ``{"progress": …}`` at intervals, and finally the result. For a running daemon, use its HTTP API
instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from portico import _build
from portico_server import home_replacement
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico_server.db.address import parse_address
from portico_server.db.database import Database
from portico_server.features.backup.restore import BackupArchive, check_restore, restore
from portico_server.features.backup.write import backup, check_here, noted_settings
from portico_server.home import LOCK_FILE, Home
from portico_server.settings import LoadedSettings, Settings

if TYPE_CHECKING:
    from portico_server.features.backup.file_place import FilePlace

PROGRESS_S: Final = 0.2
"""Interval between progress lines in seconds."""


def run(arguments: Namespace, loaded_settings: LoadedSettings) -> int:
    """Run the operation that the command line names. Raises `PorticoError`."""
    settings = loaded_settings.settings
    if arguments.command == "migrate":
        _print_line(asyncio.run(_migrate(arguments.target, settings, dry_run=arguments.dry_run)))
        return 0
    check_here(settings)
    match arguments.command:
        case "backup":
            _print_line(_write(arguments.path, loaded_settings, models=arguments.with_models))
        case "restore":
            _print_line(
                _restore(arguments.path, settings, replace=arguments.replace, dry_run=arguments.dry_run)
            )
        case _:
            _print_line(_vacuum(settings))
    return 0


def _write(path: Path, loaded_settings: LoadedSettings, *, models: bool) -> dict[str, Any]:
    settings = loaded_settings.settings
    _check_exists(settings.home)
    partial = path.with_name(f"{path.name}.part")
    with Home(settings.home):
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                missing = asyncio.run(
                    _send_backup(out, loaded_settings, settings.models if models else None, _build.version())
                )
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
            home_replacement.flush(path.absolute().parent)
            return {"file": str(path), "bytes": path.stat().st_size, "missing": missing}
        except OSError as error:
            raise InvalidRequest(f"Cannot write '{path}': {error.strerror}.", param="file") from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


async def _send_backup(out: BinaryIO, settings: LoadedSettings, models: Path | None, version: str) -> int:
    home = settings.settings.home
    recorded_settings = noted_settings(settings)
    async with backup(
        home,
        version=version,
        settings=recorded_settings,
        models=models,
        report=_Progress(),
    ) as new_backup:
        async for piece in new_backup.pieces():
            out.write(piece)
        return new_backup.missing


def _restore(path: Path, settings: Settings, *, replace: bool, dry_run: bool) -> dict[str, Any]:
    archive = BackupArchive(path)
    try:
        contents = archive.contents
        result: dict[str, Any] = {
            "home": str(settings.home),
            "portico": contents.portico,
            "created_at": contents.created_at,
            "entries": contents.entries,
            "bytes": contents.bytes,
            "models": contents.models,
            "missing": contents.missing,
            "settings": list(contents.settings),
            "restored": not dry_run,
            "aside": None,
        }
        if dry_run:
            check_restore(archive, settings.home, replace=replace, report=_Progress())
            return {
                **result,
                "files": [{"name": name, "bytes": archive.size(name)} for name in archive.names()],
            }
        paths = [path for path in (settings.home, *settings.home.parents) if not path.exists()]
        with Home(settings.home) as locked_home:
            try:
                completed = locked_home.completed_restore
                if completed is not None and completed.archive == archive.digest:
                    aside = completed.aside
                else:
                    aside = restore(archive, settings.home, replace=replace, report=_Progress())
            except PorticoError:
                if paths:
                    _remove_empty(settings.home, paths)
                raise
        return {**result, "aside": None if aside is None else str(aside)}
    finally:
        archive.close()


def _remove_empty(home: Path, paths: Sequence[Path]) -> None:
    """Remove empty folders that a restore has created, innermost first. The home folder is locked meanwhile."""
    (home / LOCK_FILE).unlink(missing_ok=True)
    with suppress(OSError):
        for folder in paths:
            folder.rmdir()


def _vacuum(settings: Settings) -> dict[str, Any]:
    _check_exists(settings.home)
    with Home(settings.home):
        database = Database.at(settings.database_path)
        try:
            database.prepare()
            vacuum_result = asyncio.run(database.vacuum())
        finally:
            database.close()
    if vacuum_result is None:
        size = settings.database_path.stat().st_size
        return {"before": size, "after": size, "freed": 0, "converted": False}
    return asdict(vacuum_result)


def migration_settings(source: str, target: str) -> dict[str, str]:
    """Return the settings that the two places of a migration determine: the home folder and the database.

    Raises `InvalidRequest` unless one place is a home folder and the other a PostgreSQL URL.
    """
    places = sorted((source, target), key=_is_postgres)
    if [_is_postgres(place) for place in places] != [False, True] or "://" in places[0]:
        raise InvalidRequest(
            "A migration needs a home folder and a PostgreSQL URL, in either order: portico migrate "
            "~/.local/share/portico postgresql://USER@HOST/NAME. Between two homes, use 'portico backup' and "
            "'portico restore'; between two PostgreSQL databases, pg_dump.",
            code="invalid_value",
            param="to",
        )
    return {"home": places[0], "database": places[1]}


def _is_postgres(place: str) -> bool:
    return place.startswith(("postgres://", "postgresql://"))


async def _migrate(target: str, settings: Settings, *, dry_run: bool) -> dict[str, Any]:
    from portico_server.db.side import open_file, open_postgres
    from portico_server.features.backup.migration import Migration

    to_postgres = _is_postgres(target)
    home, url = settings.home, parse_address(settings.database)
    if to_postgres:
        _check_exists(home)
    has_file = settings.database_path.is_file()
    names = (str(home), url.render_as_string(hide_password=True))
    async with AsyncExitStack() as stack:
        # A dry run does not create a home folder.
        stack.enter_context(Home(home) if home.is_dir() or not dry_run else nullcontext())
        if (
            not to_postgres
            and not has_file
            and (contents := home_replacement.holds(home) if home.is_dir() else [])
        ):
            raise Conflict(
                f"The home folder {home} is not empty ({', '.join(contents[:3])}). Migrate into another folder.",
                code="target_not_empty",
                param="to",
            )
        postgres = await stack.enter_async_context(
            open_postgres(settings.database, is_source=not to_postgres)
        )
        file = None
        if has_file or not dry_run:
            file = await stack.enter_async_context(
                open_file(settings.database_path, is_source=to_postgres or dry_run)
            )
        files = await stack.enter_async_context(_file_places(settings, to_postgres=to_postgres))
        adapters = (home / settings.adapters.name, settings.adapters)
        pair = None if adapters[0] == adapters[1] else adapters
        if to_postgres:
            assert file is not None
            migration = Migration(file, postgres, names, files, pair, _Progress())
        else:
            pair = pair and (pair[1], pair[0])
            migration = Migration(postgres, file, (names[1], names[0]), files, pair, _Progress())
        result = await (migration.plan() if dry_run else migration.run())
        return result.to_json()


@asynccontextmanager
async def _file_places(
    settings: Settings, *, to_postgres: bool
) -> AsyncIterator[tuple[FilePlace, FilePlace] | None]:
    """Yield the places of the files of source and target, or ``None`` if both use the home folder."""
    from portico_server.blobs.bucket import open_bucket
    from portico_server.features.backup.file_place import FilesBucket, FilesFolder

    home = FilesFolder(settings.home)
    if settings.files_in_bucket:
        bucket = FilesBucket(open_bucket(settings))
        try:
            yield (home, bucket) if to_postgres else (bucket, home)
        finally:
            await bucket.close()
    elif settings.files_folder == settings.home:
        yield None
    else:
        folder = FilesFolder(settings.files_folder)
        yield (home, folder) if to_postgres else (folder, home)


def _check_exists(home: Path) -> None:
    if not (home / "portico.db").is_file():
        raise NotFound(f"No Portico database found in {home}.", code="home_not_found", param="home")


class _Progress:
    """Prints the progress of an operation at intervals."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, stage: str, done_bytes: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_S:
            self._last = now
            _print_line({"progress": {"what": stage, "done": done_bytes, "total": total}})


def _print_line(line: dict[str, Any]) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)
