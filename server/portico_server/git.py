"""Runs Git as a child process, which connects only to checked addresses and runs nothing from a repository."""

from __future__ import annotations

import asyncio
import base64
import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from portico_server.core.errors import DeadlineExceeded, InvalidRequest

FETCH_TIMEOUT_S: Final = 600.0
"""Maximum time for fetching a repository, in seconds."""

MAX_FILE_BYTES: Final = 4 * 1024**3
"""Maximum size of a file that Git writes, in bytes. A fetch writes all its data to one file."""

MAX_OUTPUT_BYTES: Final = 64 * 2**20
"""Maximum size of Git's output or error messages, in bytes: the names of several hundred thousand files."""

READ_BYTES: Final = 64 * 1024

PORTS: Final = {"https": 443, "http": 80}

_SETTINGS: Final = (
    "core.symlinks=false",
    "core.hooksPath=/dev/null",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
)
"""Git settings for every call: Git creates no symbolic links, runs no hooks, uses no stored credentials and starts no
background process.
"""


async def run(
    folder: Path,
    *arguments: str,
    timeout_s: float = FETCH_TIMEOUT_S,
    environment: dict[str, str] | None = None,
) -> bytes:
    """Run Git in ``folder``, which must exist, and return its output.

    Without an ``environment`` from `reaching`, Git can access only files of this machine. Raises `InvalidRequest` with
    Git's own error message or for too much output, and `DeadlineExceeded`.
    """
    process = await start(folder, *arguments, environment=environment)
    try:
        async with asyncio.timeout(timeout_s):
            assert process.stdin is not None, "the process was started with pipes"
            process.stdin.close()
            out, errors = await asyncio.gather(_output(process.stdout), _output(process.stderr))
            await process.wait()
    except TimeoutError as error:
        raise DeadlineExceeded(f"Git did not finish within {timeout_s:g} s.", param="url") from error
    finally:
        await stop(process)
    if process.returncode:
        reason = errors.decode(errors="replace").strip().rpartition("fatal: ")[2].replace("\n", " ")[:300]
        raise InvalidRequest(
            reason or f"Git exited with status {process.returncode}.", code="git_failed", param="url"
        )
    return out


async def _output(stream: asyncio.StreamReader | None) -> bytes:
    """Return the bytes that Git writes. Raise `InvalidRequest` for more than `MAX_OUTPUT_BYTES`: a repository of a few
    kilobytes can list billions of files.
    """
    assert stream is not None, "the process was started with pipes"
    data = bytearray()
    while block := await stream.read(READ_BYTES):
        data += block
        if len(data) > MAX_OUTPUT_BYTES:
            raise InvalidRequest(
                f"Git wrote more than {MAX_OUTPUT_BYTES >> 20} MB of names or messages.",
                code="git_failed",
                param="url",
            )
    return bytes(data)


async def start(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start Git in ``folder`` with pipes, so that the caller can read its output while it runs. End it with `stop`."""
    variables = {
        name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE", "GIT_SSL_CAINFO") if name in os.environ
    }
    quiet = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "HOME": str(folder),
        "LC_ALL": "C",
    }
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *(part for setting in _SETTINGS for part in ("-c", setting)),
            *arguments,
            cwd=folder,
            env={**variables, **quiet, **(environment or configured(("protocol.allow", "never")))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise InvalidRequest(
            "Git is not installed on the daemon's machine. Install it, or clone the repository yourself and use the "
            "folder.",
            code="git_missing",
            param="url",
        ) from error
    if hasattr(resource, "prlimit"):  # available only on Linux
        with suppress(ProcessLookupError):  # it has already ended
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    return process


async def stop(process: asyncio.subprocess.Process) -> None:
    """Kill the process if it is still running, and wait until it has ended."""
    if process.returncode is None:
        process.kill()
        await asyncio.shield(process.wait())


def reaching(url: str, addresses: Sequence[str], *, login: str = "", protocol: str = "") -> dict[str, str]:
    """Return an environment in which Git can access the host of ``url``, only at the resolved IP ``addresses``.

    Git can use only the protocol of the URL, or ``protocol`` if set, and follows no redirects. ``login`` is
    ``USER:PASSWORD`` for the host.
    """
    parts = urlsplit(url)
    settings = [
        ("protocol.allow", "never"),
        (f"protocol.{protocol or parts.scheme}.allow", "always"),
        ("http.followRedirects", "false"),
        ("http.proxy", ""),
    ]
    if addresses:
        pinned_addresses = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
        settings.append(
            (
                "http.curloptResolve",
                f"{parts.hostname}:{parts.port or PORTS[parts.scheme]}:{pinned_addresses}",
            )
        )
    if login:
        encoded_login = base64.b64encode(login.encode()).decode()
        settings.append(
            (f"http.{parts.scheme}://{parts.netloc}/.extraHeader", f"Authorization: Basic {encoded_login}")
        )
    return configured(*settings)


def configured(*settings: tuple[str, str]) -> dict[str, str]:
    """Return an environment with Git settings. Other users of the machine cannot read it, unlike command-line
    arguments.
    """
    environment = {"GIT_CONFIG_COUNT": str(len(settings))}
    for at, (name, value) in enumerate(settings):
        environment |= {f"GIT_CONFIG_KEY_{at}": name, f"GIT_CONFIG_VALUE_{at}": value}
    return environment
