"""Models from Hugging Face and ModelScope: list a repository, pick the model's files, download them.

Imports aiohttp: loaded on first use. The calls are ``/api/models/REPO/revision/REV?blobs=true`` and
``/REPO/resolve/COMMIT/FILE`` at Hugging Face, ``/api/v1/models/REPO/repo/files?Revision=…`` and
``/api/v1/models/REPO/repo?Revision=…&FilePath=…`` at ModelScope.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.http.client import open_session
from portico_server.models.sources.disk_room import require_room
from portico_server.models.sources.download import ExpectedFile, RemoteFile, download, get_json, partial_files
from portico_server.models.sources.file_choice import FileChoice, choose_files
from portico_server.models.sources.local import PARTIAL_MARK, find_placed_by_hand, open_local
from portico_server.models.sources.receipt import DownloadReceipt, ReceiptFile
from portico_server.models.sources.source import ModelSource
from portico_server.settings import Settings, comma_separated

logger = logging.getLogger(__name__)

ReportBytes = Callable[[int, int | None], None]

_COMMIT = re.compile(r"^[0-9a-f]{7,64}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_SHA1 = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True, slots=True)
class RepositoryListing:
    """A repository at one revision: its commit (empty if the hub names none) and the expected properties of each
    file.
    """

    commit: str
    files: Mapping[str, ExpectedFile]


@dataclass(frozen=True, slots=True)
class Hub:
    """One hub for one source: the addresses of its listing and its files, and the credentials."""

    name: str
    endpoint: str
    headers: Mapping[str, str]

    def listing_url(self, source: ModelSource) -> str:
        if self.name == "hf":
            revision = quote(source.revision or "main", safe="")
            return f"{self.endpoint}/api/models/{source.location}/revision/{revision}?blobs=true"
        query = urlencode({"Revision": source.revision or "master", "Recursive": "true"})
        return f"{self.endpoint}/api/v1/models/{source.location}/repo/files?{query}"

    def file_url(self, source: ModelSource, commit: str, file: str) -> str:
        """Return the URL of the file at the listed commit, so that a push during a download cannot mix two versions."""
        if self.name == "hf":
            return f"{self.endpoint}/{source.location}/resolve/{quote(commit, safe='')}/{quote(file)}"
        query = urlencode({"Revision": source.revision or "master", "FilePath": file})
        return f"{self.endpoint}/api/v1/models/{source.location}/repo?{query}"

    def read_listing(self, body: Any, source: ModelSource) -> RepositoryListing:
        listing = hf_listing(body) if self.name == "hf" else modelscope_listing(body)
        if listing is None or not listing.files:
            raise Unavailable(
                f"{self.endpoint} returned no list of files for '{source}'. Check the setting "
                f"'{'hf' if self.name == 'hf' else 'modelscope'}_endpoint', or try again later.",
                code="hub_failed",
            )
        return listing

    def to_error(self, source: ModelSource, status: int, headers: Mapping[str, str]) -> PorticoError:
        """Return the error for an unsuccessful response: a gated or unknown repository, or a failing hub."""
        reason = headers.get("X-Error-Code", "")
        page = f"{self.endpoint}/{source.location}" if self.name == "hf" else self.endpoint
        if reason == "GatedRepo" or (status == 403 and not reason):
            return Forbidden(
                f"'{source}' is gated: accept its terms at {page} and set PORTICO_HF_TOKEN to your token."
                if self.name == "hf"
                else f"'{source}' is not public at {page}, and Portico can fetch only public models from this "
                "hub.",
                code="gated_model",
                param="source",
            )
        if reason == "RevisionNotFound":
            return NotFound(
                f"'{source}': {source.location} has no revision '{source.revision or 'main'}'.",
                code="model_not_found",
                param="source",
            )
        if status in (401, 404):
            token = (
                " If it is private, set PORTICO_HF_TOKEN to a token that can read it."
                if self.name == "hf" and status == 401
                else ""
            )
            return NotFound(
                f"'{source}' does not exist at {self.endpoint}: check its organisation and name.{token}",
                code="model_not_found",
                param="source",
            )
        return Unavailable(
            f"{self.endpoint} responded to '{source}' with HTTP {status}. Try again later.", code="hub_failed"
        )


def hf_listing(body: Any) -> RepositoryListing | None:
    """Parse Hugging Face's model info; return None for anything else."""
    if not isinstance(body, dict) or not isinstance(body.get("sha"), str):
        return None
    files: dict[str, ExpectedFile] = {}
    for item in body.get("siblings") or []:
        name, size = item.get("rfilename"), item.get("size")
        lfs = item.get("lfs") or {}
        if isinstance(name, str) and isinstance(size, int):
            digest, blob = lfs.get("sha256") or lfs.get("oid"), item.get("blobId")
            files[name] = ExpectedFile(
                size, _matching(_SHA256, digest), "" if lfs else _matching(_SHA1, blob)
            )
    return RepositoryListing(body["sha"], files) if _COMMIT.match(body["sha"]) else None


def modelscope_listing(body: Any) -> RepositoryListing | None:
    """Parse ModelScope's list of files; return None for anything else."""
    data = body.get("Data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        return None
    files: dict[str, ExpectedFile] = {}
    for item in data.get("Files") or []:
        name, size = item.get("Path"), item.get("Size")
        if item.get("Type") != "tree" and isinstance(name, str) and isinstance(size, int):
            files[name] = ExpectedFile(size, _matching(_SHA256, item.get("Sha256")), "")
    return RepositoryListing("", files)


def _matching(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.match(value) else ""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A listed repository: the model chosen from it, and the location of each of the model's files."""

    listing: RepositoryListing
    choice: FileChoice
    remote: Callable[[str], RemoteFile]
    """A function that returns the location of a file by its name."""

    @property
    def expected(self) -> Mapping[str, ExpectedFile]:
        """Return the expected properties of each file of the model."""
        return {file: self.listing.files[file] for file in self.choice.files}


@contextlib.asynccontextmanager
async def list_repository(source: ModelSource, folder: Path, settings: Settings) -> AsyncIterator[ListedFile]:
    """List the repository of ``source``; ``folder`` is the target of its files. Fetches nothing.

    If a hub does not respond, its mirrors are asked one after another.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
    async with open_session(timeout) as session:

        def remote(hub: Hub, url: str) -> RemoteFile:
            return RemoteFile(
                session,
                url,
                hub.headers,
                lambda status, headers: hub.to_error(source, status, headers),
                lambda error: _unreachable(hub, source, folder, error),
            )

        hub, listing = await _first(hubs(source, settings), source, remote)
        choice = choose_files(listing.files, source.file, source)
        yield ListedFile(
            listing, choice, lambda file: remote(hub, hub.file_url(source, listing.commit, file))
        )


def hubs(source: ModelSource, settings: Settings) -> Sequence[Hub]:
    """Return the hubs of a source, in the order in which to ask them. The first hub's token is never sent to a
    mirror.
    """
    if source.scheme != "hf":
        return [Hub("modelscope", settings.modelscope_endpoint.rstrip("/"), {})]
    token = {"Authorization": f"Bearer {settings.hf_token}"} if settings.hf_token else {}
    mirrors = [url.rstrip("/") for url in comma_separated(settings.hf_mirrors)]
    return [Hub("hf", settings.hf_endpoint.rstrip("/"), token), *(Hub("hf", url, {}) for url in mirrors)]


async def _first(
    asked_hubs: Sequence[Hub], source: ModelSource, remote: Callable[[Hub, str], RemoteFile]
) -> tuple[Hub, RepositoryListing]:
    """Return the first hub that responds, and its listing. If a hub refuses the request, no other hub is asked."""
    for hub in asked_hubs:
        try:
            return hub, hub.read_listing(await get_json(remote(hub, hub.listing_url(source))), source)
        except Unavailable as error:
            if hub is asked_hubs[-1]:
                raise
            logger.warning("%s does not respond for '%s': %s", hub.endpoint, source, error.message)
    raise AssertionError("there is a hub for every source")


async def fetch_repository(
    source: ModelSource, folder: Path, settings: Settings, report: ReportBytes
) -> DownloadReceipt:
    """Download the files of ``source`` into ``folder``, whose lock the caller holds, and return their receipt.

    If the download fails or is cancelled, the received data is kept as a ``.part`` file, from which the next fetch
    continues.
    """
    async with list_repository(source, folder, settings) as listed_file:
        choice, expected_files = listed_file.choice, listed_file.expected
        total, done_bytes = sum(item.size for item in expected_files.values()), 0
        remaining_bytes = total - sum(
            partial_files(folder / file, item) for file, item in expected_files.items()
        )
        require_room(folder, remaining_bytes, source)
        (folder / PARTIAL_MARK).touch()
        digests: dict[str, str] = {}
        for file, item in expected_files.items():
            base = done_bytes

            def reported(file_bytes: int, base: int = base) -> None:
                report(base + file_bytes, total)

            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            digests[file] = await download(listed_file.remote(file), target, item, source, reported)
            done_bytes += item.size
    if choice.path.endswith(".gguf"):
        _require_model(folder / choice.path)
    receipt_files = {file: ReceiptFile(item.size, digests[file]) for file, item in expected_files.items()}
    return DownloadReceipt(choice.path, listed_file.listing.commit, receipt_files)


def _require_model(path: Path) -> None:
    try:
        open_local(path)
    except InvalidRequest:
        path.unlink()  # the hub's file is not a model: keeping the file would only hide the problem
        raise


def _unreachable(hub: Hub, source: ModelSource, folder: Path, error: str) -> Unavailable:
    return Unavailable(
        f"{hub.endpoint} could not be reached for '{source}' ({error}). {find_placed_by_hand(source, folder)}",
        code="no_network",
        param="source",
    )
