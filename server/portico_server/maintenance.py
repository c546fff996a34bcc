"""``python -m portico_server backup | restore | vacuum``, for a home folder that no running daemon uses.

Prints JSON lines: ``{"progress": …}`` at intervals, and finally the result. For a running daemon, use its HTTP API
instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

from portico_server import __version__
from portico_server.backup import swap
from portico_server.backup.restore import BackupArchive, restore
from portico_server.backup.write import backup, check_here, noted_settings
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError
from portico_server.db.database import Database
from portico_server.home import LOCK_FILE, Home
from portico_server.settings import LoadedSettings, Settings

PROGRESS_S: Final = 0.2
"""Interval between progress lines in seconds."""


def run(arguments: Namespace, loaded_settings: LoadedSettings) -> int:
    """Run the operation that the command line names. Raises `PorticoError`."""
    settings = loaded_settings.settings
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
                missing = asyncio.run(_send_backup(out, loaded_settings, settings.models if models else None))
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
            swap.flush(path.absolute().parent)
            return {"file": str(path), "bytes": path.stat().st_size, "missing": missing}
        except OSError as error:
            raise InvalidRequest(f"Cannot write '{path}': {error.strerror}.", param="file") from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


async def _send_backup(out: BinaryIO, settings: LoadedSettings, models: Path | None) -> int:
    home = settings.settings.home
    recorded_settings = noted_settings(settings)
    async with backup(
        home, version=__version__, settings=recorded_settings, models=models, report=_Progress()
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
            archive.check(_Progress())
            return {
                **result,
                "files": [{"name": name, "bytes": archive.size(name)} for name in archive.names()],
            }
        paths = [path for path in (settings.home, *settings.home.parents) if not path.exists()]
        with Home(settings.home):
            try:
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
