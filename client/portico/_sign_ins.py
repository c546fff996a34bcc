"""This user's sign-ins to daemons: tokens in a file that only the user can read, sent with requests and renewed in
time.

The file is checked at every request without a key. It is read again only if it has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from portico._issuer import GrantedTokens, renew_tokens
from portico._private_file import write_file
from portico.errors import InvalidRequest, PorticoError, Unauthenticated, Unavailable

T = TypeVar("T")

RENEW_AHEAD_S: Final = 60.0
"""Seconds before expiry at which a token is renewed, but at most half of the token's lifetime."""

RENEWAL_RETRY_S: Final = 30.0
"""Seconds before a failed renewal is retried. Also the minimum age of a token that is renewed."""

LOCK_TIMEOUT_S: Final = 30.0
LOCK_POLL_INTERVAL_S: Final = 0.05
MAX_FILE_BYTES: Final = 2**22


@dataclass(frozen=True, slots=True)
class KeptSignIn:
    """A user's sign-in to one daemon. Times are in seconds since 1970."""

    issuer: str
    client_id: str
    subject: str
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    given_at: float
    expires_at: float

    @classmethod
    def of(cls, issuer: str, client_id: str, tokens: GrantedTokens) -> KeptSignIn:
        """Create a sign-in from tokens that an issuer has granted now."""
        identity = (tokens.subject, tokens.token, tokens.refresh_token)
        return cls(issuer, client_id, *identity, time.time(), tokens.expires_at)

    @property
    def renew_at(self) -> float:
        """The time at which to renew the token, or its expiry if it cannot be renewed. A local clock that is fast does
        not cause extra requests.
        """
        if not self.refresh_token:
            return self.expires_at
        ahead = min(RENEW_AHEAD_S, max(0.0, self.expires_at - self.given_at) / 2)
        return max(self.expires_at - ahead, min(self.given_at, time.time()) + RENEWAL_RETRY_S)


def folder() -> Path:
    """Return the user's settings folder."""
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/portico").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "portico"
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "portico"


def file() -> Path:
    """Return the path of the sign-in file."""
    return folder() / "sign-ins.json"


def place_of(url: str) -> str:
    """Return a daemon's URL in the normalized form that serves as key in the file."""
    found_url = httpx.URL(url)
    return f"{found_url.scheme}://{found_url.netloc.decode('ascii')}{found_url.path.rstrip('/')}"


_read: tuple[object, Mapping[str, KeptSignIn]] = (None, {})
_failed_at: dict[str, float] = {}
"""The monotonic time at which renewal last failed, keyed by the daemon's address."""


def read_sign_ins() -> Mapping[str, KeptSignIn]:
    """Return all sign-ins, keyed by daemon address. Raise `InvalidRequest` if other users can read or write the file,
    or if its contents are invalid.
    """
    global _read
    path = file()
    try:
        file_state = path.stat()
    except OSError:
        return {}
    state = (
        path,
        file_state.st_mtime_ns,
        file_state.st_ino,
        file_state.st_size,
        file_state.st_mode,
        file_state.st_uid,
    )
    if _read[0] != state:
        _read = (state, _content(path))
    return _read[1]


def _content(path: Path) -> Mapping[str, KeptSignIn]:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as buffered_reader:
            _require_private(os.fstat(descriptor), path)
            raw = buffered_reader.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise ValueError(f"it exceeds {MAX_FILE_BYTES:,} bytes")
        rows = json.loads(raw)["sign_ins"]
        sign_ins = {str(place): KeptSignIn(**row) for place, row in rows.items()}
        if not all(_is_whole(sign_in) for sign_in in sign_ins.values()):
            raise ValueError("a field is invalid")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidRequest(
            f"{path} does not contain sign-ins: {error}. Remove it, and sign in again."
        ) from None
    return sign_ins


def _is_whole(sign_in: KeptSignIn) -> bool:
    words = (sign_in.issuer, sign_in.client_id, sign_in.subject, sign_in.token, sign_in.refresh_token)
    times = (sign_in.given_at, sign_in.expires_at)
    return all(isinstance(word, str) for word in words) and all(isinstance(at, int | float) for at in times)


def _require_private(file_state: os.stat_result, path: Path) -> None:
    """Raise `InvalidRequest` unless a file with secrets is private to this user."""
    if sys.platform == "win32":
        return
    if not stat.S_ISREG(file_state.st_mode) or file_state.st_uid != os.geteuid():
        raise InvalidRequest(
            f"{path} does not belong to you, so it is not read. Remove it, and sign in again."
        )
    if file_state.st_mode & 0o077:
        raise InvalidRequest(
            f"Others can read or write {path} (mode {stat.S_IMODE(file_state.st_mode):o}), so it is not "
            f"used. Run 'chmod 600 {path}'; if others use this machine, remove it and sign in again.",
            code="file_not_private",
        )


def keep(place: str, sign_in: KeptSignIn | None) -> None:
    """Store the sign-in for a daemon, or remove it if ``sign_in`` is ``None``. The caller must hold the lock
    (`hold_lock`).
    """
    sign_ins = {at: entry for at, entry in read_sign_ins().items() if at != place}
    rows = {**sign_ins, **({} if sign_in is None else {place: sign_in})}
    path = file()
    document = {"sign_ins": {at: asdict(entry) for at, entry in sorted(rows.items())}}
    try:
        write_file(path, json.dumps(document, indent=2).encode())
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}. Sign in again.") from error


@contextlib.contextmanager
def hold_lock() -> Iterator[None]:
    """Hold the lock that serializes changes to the sign-in file by this user's processes. Raises `Unavailable` after
    `LOCK_TIMEOUT_S`.
    """
    path = folder() / "sign-ins.lock"
    try:
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise InvalidRequest(f"Sign-ins cannot be changed: {path}: {error.strerror}.") from error
    try:
        end = time.monotonic() + LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > end:
                raise Unavailable(
                    f"Another process has held {path} for more than {LOCK_TIMEOUT_S:g} s. Try again."
                )
            time.sleep(LOCK_POLL_INTERVAL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to completion in a separate thread, so that it does not matter whether the caller has an event
    loop.
    """
    with ThreadPoolExecutor(1, "portico sign-in") as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def current(place: str, refused_token: str = "") -> KeptSignIn | None:
    """Return the current sign-in for a daemon. Renew it first if renewal is due, or if the daemon rejected its token
    (``refused_token``).

    Raises `Unauthenticated` if the sign-in has ended, and `Unavailable` if it cannot be renewed now.
    """
    sign_in = read_sign_ins().get(place)
    if sign_in is None or not _is_due(sign_in, refused_token):
        return sign_in
    failed_at = _failed_at.get(place)
    if failed_at is not None and time.monotonic() - failed_at < RENEWAL_RETRY_S:
        return _as_it_is(sign_in)
    with hold_lock():
        sign_in = read_sign_ins().get(place)
        if sign_in is None or not _is_due(sign_in, refused_token):  # another process has changed the sign-in
            return sign_in
        try:
            return _renew(place, sign_in)
        except Unavailable:
            _failed_at[place] = time.monotonic()
            return _as_it_is(sign_in)
        except Unauthenticated:
            keep(place, None)
            raise _expiry_error(place) from None


def _is_due(sign_in: KeptSignIn, refused_token: str) -> bool:
    now = time.time()
    return now >= sign_in.renew_at or (
        sign_in.token == refused_token and now >= sign_in.given_at + RENEWAL_RETRY_S
    )


def _as_it_is(sign_in: KeptSignIn) -> KeptSignIn:
    """Return a sign-in that cannot be renewed now, if its token is still valid. Otherwise raise `Unavailable`."""
    if time.time() < sign_in.expires_at:
        return sign_in
    raise Unavailable(
        f"Your sign-in must be renewed, but the issuer {sign_in.issuer} does not respond. Try again later.",
        code="issuer_unavailable",
    )


def _renew(place: str, sign_in: KeptSignIn) -> KeptSignIn:
    """Request new tokens from the issuer, and store them, because the issuer accepts a refresh token only once."""
    if not sign_in.refresh_token:
        raise Unauthenticated("The sign-in cannot be renewed.")
    arguments = (sign_in.issuer, sign_in.client_id, sign_in.refresh_token, sign_in.subject)
    try:
        tokens = run_apart(lambda: renew_tokens(*arguments))
    except InvalidRequest as error:  # the issuer has changed
        raise Unavailable(error.message) from error
    if tokens is None:
        if time.time() >= sign_in.expires_at:
            raise Unauthenticated("The issuer returned no new ID token.")
        new = replace(sign_in, refresh_token="")
    else:
        new = KeptSignIn.of(sign_in.issuer, sign_in.client_id, tokens)
        new = replace(new, refresh_token=tokens.refresh_token or sign_in.refresh_token)
    keep(place, new)
    return new


def _expiry_error(place: str) -> Unauthenticated:
    return Unauthenticated(
        f"Your sign-in at {place} has ended. Sign in again: portico --url {place} login", code="sign_in_ended"
    )


class SignInAuth(httpx.Auth):
    """Sends this user's token with requests to one daemon, and to no other server.

    Without a sign-in, requests are sent without a token. If the sign-in has expired, an error is raised only when the
    daemon requires a token.
    """

    def __init__(self, url: str) -> None:
        self._place = place_of(url)
        self._base = httpx.URL(self._place)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authenticate requests of blocking clients."""
        sent_token, problem = self._token(request, "")
        answer = yield _with(request, sent_token)
        if answer.status_code == 401:
            new_token = self._again(request, sent_token, problem)
            if new_token:
                yield _with(request, new_token)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authenticate requests of asyncio clients."""
        if self._must_wait():
            sent_token, problem = await asyncio.to_thread(self._token, request, "")
        else:
            sent_token, problem = self._token(request, "")
        answer = yield _with(request, sent_token)
        if answer.status_code == 401 and (sent_token or problem is not None):
            new_token = await asyncio.to_thread(self._again, request, sent_token, problem)
            if new_token:
                yield _with(request, new_token)

    def _must_wait(self) -> bool:
        with contextlib.suppress(PorticoError):
            sign_in = read_sign_ins().get(self._place)
            return sign_in is not None and _is_due(sign_in, "")
        return False

    def _token(self, request: httpx.Request, refused_token: str) -> tuple[str, PorticoError | None]:
        """Return the token to send with a request, and an error. The token is empty if there is none to send. The
        error is set if reading or renewing the sign-in failed.
        """
        url, base = request.url, self._base
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
            return "", None
        try:
            sign_in = current(self._place, refused_token)
        except PorticoError as error:
            return "", error
        return ("" if sign_in is None else sign_in.token), None

    def _again(self, request: httpx.Request, sent_token: str, problem: PorticoError | None) -> str:
        """Return the token for a second attempt after the daemon has required authentication, or an empty text if a
        second attempt is pointless. Raises ``problem``.
        """
        if problem is None and not sent_token:
            return ""
        token, problem = self._token(request, sent_token) if problem is None else ("", problem)
        if problem is not None:
            raise problem
        return "" if token == sent_token else token


def _with(request: httpx.Request, token: str) -> httpx.Request:
    if token:
        request.headers["authorization"] = f"Bearer {token}"
    return request
