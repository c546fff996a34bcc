"""A Git repository as a source: the latest state of a branch, a tag or a commit, fetched without the history."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from portico_server import git
from portico_server.blobs.place import ReceivedFile
from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.fetching import FetchedResponse, Fetcher
from portico_server.core.filenames import to_filename
from portico_server.db.stores import StoreFileRow
from portico_server.features.files.files import FileStorage
from portico_server.features.sources import fetch
from portico_server.features.sources.fetch import ETagCache, ETagEntry
from portico_server.features.sources.limits import SourceLimits
from portico_server.features.sources.source import FetchFailure, FetchResult
from portico_server.features.sources.spec import GitAddress
from portico_server.features.sources.walk import (
    EMPTY_FILE,
    IGNORED_FOLDERS,
    SourceEntry,
    Walk,
    unfit_reason,
)

MAX_FETCHES = 10
"""Number of fetches after which the fetched data is deleted and fetched again, because each fetch adds a pack file."""

LOCAL_REF = "refs/portico/source"
"""The Git reference to the state that was fetched last."""

READ_BYTES = 65_536

_LINK, _SUBMODULE = "120000", "160000"


class GitSource:
    """A repository as a `portico_server.features.sources.source.StoreSource`.

    ``folder`` stores the fetched data without a work tree, and can be deleted at any time. ``fetching`` is locked
    during a fetch. ``login`` is ``USER:PASSWORD`` for the host, or empty.
    """

    def __init__(
        self,
        address: GitAddress,
        fetcher: Fetcher,
        files: FileStorage,
        notes: ETagCache,
        limits: SourceLimits,
        folder: Path,
        fetching: asyncio.Lock,
        login: str,
    ) -> None:
        self._address = address
        self._fetcher = fetcher
        self._files = files
        self._notes = notes
        self._limits = limits
        self._folder = folder
        self._fetching = fetching
        self._login = login
        self._digests: dict[str, str] = {}
        """Digests of the stored contents of this repository, by Git object id."""

    @property
    def address(self) -> str:
        return f"repository {self._address.url}"

    async def scan(self) -> Walk:
        await self._notes.load()
        self._digests = self._notes.digests()
        async with self._fetching:
            await self._fetch()
            try:
                listing_output = await git.run(self._folder, "ls-tree", "-r", "-l", "-z", LOCAL_REF)
            except InvalidRequest as error:
                raise self._refusal(error.message) from error
        walk = Walk()
        below = f"{self._address.folder}/" if self._address.folder else ""
        entries = [
            line.partition("\t")
            for line in listing_output.decode("utf-8", "surrogateescape").split("\0")
            if line
        ]
        for description, _tab, path in entries:
            if path.startswith(below):
                self._see(walk, description.split(), path.removeprefix(below))
        if below and not any(path.startswith(below) for _description, _tab, path in entries):
            raise self._refusal(f"it has no folder '{self._address.folder}'")
        if len(walk.files) > self._limits.files:
            raise fetch.source_too_large(
                f"{self._address.url} contains more than {self._limits.files:,} files. Follow a folder of "
                "the repository with #subdirectory=FOLDER, or raise the setting source_max_files.",
            )
        self._notes.keep({source_entry.at for source_entry in walk.files.values()})
        return walk

    async def digest(self, source_entry: SourceEntry) -> str | None:
        return self._digests.get(source_entry.at)

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        fetch_results: list[FetchResult] = []
        objects = _Objects(await git.start(self._folder, "cat-file", "--batch"))
        try:
            async with asyncio.timeout(git.FETCH_TIMEOUT_S):
                for source_entry, _old in entries:
                    fetch_results.append(await self._take(objects, source_entry))
        except BaseException as error:
            await fetch.drop_received(self._files, fetch_results)
            if isinstance(error, (EOFError, ConnectionError, TimeoutError)):
                raise Unavailable(
                    f"The fetched data of the {self.address} cannot be read. Sync again.",
                    code="source_unreadable",
                ) from error
            raise
        finally:
            await objects.close()
        await self._notes.save()
        return fetch_results

    async def _take(self, objects: _Objects, source_entry: SourceEntry) -> FetchResult:
        body = objects.read(source_entry.at)
        response = FetchedResponse(self._address.url, 200, {}, "", body)
        fetched_file = await fetch.receive_document(
            self._files, response, source_entry.name, self._limits.bytes
        )
        refusal = fetched_file.reason if isinstance(fetched_file, FetchFailure) else ""
        sha256 = fetched_file.sha256 if isinstance(fetched_file, ReceivedFile) else ""
        self._notes.note(
            source_entry.at, ETagEntry(source_entry.name, source_entry.at, sha256=sha256, refused=refusal)
        )
        return fetched_file

    async def _fetch(self) -> None:
        await pools.FILES.run(self._prepare)
        url = self._address.url
        environment = git.reaching(url, await self._fetcher.addresses(url), login=self._login)
        try:
            if not (self._folder / "HEAD").exists():
                await git.run(self._folder, "init", "--bare", "--quiet", "--template=")
            refspec = f"+{self._address.ref or 'HEAD'}:{LOCAL_REF}"
            options = ("--depth", "1", "--no-tags", "--quiet", "--no-write-fetch-head", "--update-shallow")
            await git.run(self._folder, "fetch", *options, "--", url, refspec, environment=environment)
        except PorticoError as error:
            if error.code == "git_missing":
                raise
            raise self._refusal(error.message) from error

    def _prepare(self) -> None:
        """Create the folder for fetched data. After too many fetches, empty the folder."""
        packs = self._folder / "objects" / "pack"
        if packs.is_dir() and sum(1 for path in packs.iterdir() if path.suffix == ".pack") >= MAX_FETCHES:
            shutil.rmtree(self._folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _refusal(self, reason: str) -> Unavailable:
        if "could not read Username" in reason or "Authentication failed" in reason:
            host = urlsplit(self._address.url).hostname
            reason = (
                f"it requires a login: set or check source_logins, as {host}=TOKEN or {host}=USER:PASSWORD"
            )
        elif "couldn't find remote ref" in reason:
            reason = f"it has no branch, tag or commit '{self._address.ref or 'HEAD'}'"
        return fetch.unreadable(self.address, reason)

    def _see(self, walk: Walk, fields: Sequence[str], path: str) -> None:
        mode, _type, object_id, size = fields
        parts = path.split("/")
        if any(part.startswith(".") or part in IGNORED_FOLDERS for part in parts):
            return  # a hidden file or a file in a package folder, by the rules for folders
        name = to_filename(path)
        if mode in (_LINK, _SUBMODULE):
            walk.skip(name, "a link" if mode == _LINK else "another repository")
            return
        note = self._notes.of(object_id)
        reason = unfit_reason(
            name,
            int(size),
            max_bytes=self._limits.bytes,
            pictures=self._limits.pictures,
            recordings=self._limits.recordings,
        )
        reason = reason or ("" if int(size) else EMPTY_FILE)
        reason = reason or ("unusable name" if name in walk.files else note.refused)
        if reason:
            walk.skip(name, reason)
        else:
            walk.files[name] = SourceEntry(name, object_id, int(size), int(object_id[:15], 16))


class _Objects:
    """Reads the bytes of objects one after another with ``git cat-file --batch``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of the object ``name``. Raise `EOFError` if the repository does not contain the object."""
        stream_writer, answers = self._process.stdin, self._process.stdout
        assert stream_writer is not None, "the process was started with pipes"
        assert answers is not None, "the process was started with pipes"
        stream_writer.write(f"{name}\n".encode())
        await stream_writer.drain()
        head = (await answers.readline()).split()
        if len(head) != 3:
            raise EOFError(name)
        remaining_bytes = int(head[2])
        while remaining_bytes:
            block = await answers.read(min(remaining_bytes, READ_BYTES))
            if not block:
                raise EOFError(name)
            remaining_bytes -= len(block)
            yield block
        await answers.readexactly(1)  # skip the line break that follows

    async def close(self) -> None:
        await git.stop(self._process)
