"""What a store follows other than a folder, as people write it and as the row of the store keeps it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.db.stores import StoreRow
from portico_server.settings import comma_separated

SourceKind = Literal["web", "pages", "s3", "git", "webdav", "imap"]

MAX_ADDRESS_CHARS = 2_048
"""Characters of an address."""

MAX_ADDRESSES = 10_000
"""Addresses in one list."""

GIT = "git+"
"""What stands before the address of a Git repository, as pip has it."""

WEBDAV = "webdav+"
"""What stands before the address of a folder on a WebDAV server."""

IMAP_PORTS = {"imaps": 993, "imap": 143}
"""The schemes of mail folders, and where their servers are found."""

_REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)))[\w][\w./+-]{0,199}(?<![./])", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """``web``: one address that is looked into (a sitemap, a directory index, a list, else a document itself);
    ``pages``: documents by their addresses; ``s3``: a bucket, or what lies below a prefix in it; ``git``: a
    repository; ``webdav``: a folder on a server and those in it; ``imap``: a folder of a mailbox.
    """

    kind: SourceKind
    addresses: tuple[str, ...]

    def kept(self) -> dict[str, Any]:
        """For the row of the store."""
        return {"kind": self.kind, "addresses": list(self.addresses)}

    def written(self) -> str | list[str]:
        """As people write it."""
        return list(self.addresses) if self.kind == "pages" else self.addresses[0]

    @property
    def title(self) -> str:
        """For a sentence; without a query, which may hold a secret."""
        first = self.addresses[0].partition("?")[0]
        return first if len(self.addresses) == 1 else f"{first} and {len(self.addresses) - 1} more addresses"


def followed_source(row: StoreRow) -> str:
    """What a store follows, for a sentence."""
    return f"the folder {row.folder}" if row.source is None else source_of(row.source).title


def source_of(saved_source: Mapping[str, Any]) -> SourceSpec:
    """From the row of a store."""
    return SourceSpec(saved_source["kind"], tuple(saved_source["addresses"]))


def parse_source(value: str | Sequence[str], param: str = "source") -> SourceSpec:
    """Read ``s3://BUCKET/PREFIX``, ``git+https://HOST/PATH[@REF][#subdirectory=FOLDER]``, ``webdav+https://HOST/PATH``,
    ``imaps://HOST[:PORT]/FOLDER``, an ``http(s)://`` address, or a list of the last. Raises `InvalidRequest`.
    """
    if isinstance(value, str) and value.strip().startswith(GIT):
        return SourceSpec("git", (GitAddress.parse(value, param).written(),))
    if isinstance(value, str) and value.strip().startswith(WEBDAV):
        return SourceSpec("webdav", (_webdav(value, param),))
    if isinstance(value, str) and value.strip().partition("://")[0] in IMAP_PORTS:
        return SourceSpec("imap", (MailAddress.parse(value, param).written(),))
    if isinstance(value, str):
        address = _address(value, param)
        if address.startswith("s3://"):
            return SourceSpec("s3", (_bucket(address, param),))
        return SourceSpec("web", (address,))
    if not 0 < len(value) <= MAX_ADDRESSES:
        raise _invalid(
            f"A list of 1 to {MAX_ADDRESSES:,} addresses was expected, not of {len(value):,}.", param
        )
    addresses = tuple(dict.fromkeys(_address(item, param) for item in value))
    for address in addresses:
        if address.startswith("s3://"):
            raise _invalid(f"'{address[:80]}' cannot be in a list: a store follows one bucket.", param)
    return SourceSpec("pages", addresses)


@dataclass(frozen=True, slots=True)
class GitAddress:
    """A repository: the ``url`` of it, a branch, tag or commit (``ref``, empty for the default branch), and the folder
    in it that is followed (empty for all).
    """

    url: str
    ref: str = ""
    folder: str = ""

    @classmethod
    def parse(cls, text: str, param: str = "source") -> GitAddress:
        """Read the form of pip. Raises `InvalidRequest`."""
        address, _, fragment = text.strip().removeprefix(GIT).partition("#")
        scheme, mark, remainder = address.partition("://")
        host, slash, path = remainder.partition("/")
        path, _, ref = path.partition("@")  # behind the host: a user before it is refused below
        url = _address(f"{scheme}{mark}{host}{slash}{path}", param)
        name, _, folder = fragment.partition("=")
        folder = unquote(folder).strip("/")
        if (
            urlsplit(url).scheme not in ("http", "https")
            or urlsplit(url).query
            or not urlsplit(url).path.strip("/")
        ):
            raise _invalid(f"'{text[:80]}' is not a repository: git+https://HOST/PATH was expected.", param)
        if ref and _REF.fullmatch(ref) is None:
            raise _invalid(f"'{ref[:80]}' cannot be a branch, a tag or a commit.", param)
        if fragment and (name != "subdirectory" or not _is_folder(folder)):
            raise _invalid(f"'#{fragment[:80]}' is not known: #subdirectory=FOLDER was expected.", param)
        return cls(url, ref, folder)

    def written(self) -> str:
        """As people write it."""
        ref = f"@{self.ref}" if self.ref else ""
        return f"{GIT}{self.url}{ref}" + (f"#subdirectory={self.folder}" if self.folder else "")


@dataclass(frozen=True, slots=True)
class MailAddress:
    """A folder of a mailbox: ``INBOX``, or the path of another as its server writes it."""

    scheme: str
    host: str
    port: int
    folder: str

    @classmethod
    def parse(cls, text: str, param: str = "source") -> MailAddress:
        """Read ``imaps://HOST[:PORT]/FOLDER``. Raises `InvalidRequest`."""
        address = _address(text, param, (*IMAP_PORTS,))
        parts = urlsplit(address)
        assert parts.hostname is not None, "checked"
        folder = unquote(parts.path).strip("/") or "INBOX"
        if parts.query or not folder.isprintable():
            raise _invalid(f"'{text[:80]}' is not a mail folder: imaps://HOST/FOLDER was expected.", param)
        return cls(parts.scheme, parts.hostname, parts.port or IMAP_PORTS[parts.scheme], folder)

    @property
    def netloc(self) -> str:
        """The host, and the port if it is not the usual one."""
        return self._host if self.port == IMAP_PORTS[self.scheme] else f"{self._host}:{self.port}"

    @property
    def checked(self) -> str:
        """What the client that fetches is asked whether it may be reached."""
        return f"https://{self._host}:{self.port}/"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def written(self) -> str:
        """As people write it."""
        return f"{self.scheme}://{self.netloc}/{quote(self.folder)}"


def may_log_in(address: str) -> bool:
    """Whether the setting ``source_logins`` is asked for what is followed."""
    return address.startswith((GIT, WEBDAV, *IMAP_PORTS))


def login_of(logins: str, url: str) -> str:
    """``USER:PASSWORD`` for the host of ``url`` in the setting ``source_logins``; empty if there is none.

    A token alone is the password of a user whose name does not matter, as the large hosts have it.
    """
    parts = urlsplit(url)
    for entry in comma_separated(logins):
        host, _, login = entry.partition("=")
        if host.lower() in (parts.netloc.lower(), parts.hostname):
            return login if ":" in login else f"x-access-token:{login}"
    return ""


def _is_folder(path: str) -> bool:
    return path.isprintable() and all(part not in ("", ".", "..") for part in path.split("/"))


def _webdav(address: str, param: str) -> str:
    url = _address(address.strip().removeprefix(WEBDAV), param, ("http", "https"))
    if urlsplit(url).query:
        raise _invalid(f"'{address[:80]}' is not a folder: webdav+https://HOST/PATH was expected.", param)
    return f"{WEBDAV}{url.rstrip('/')}/"


def _address(text: str, param: str, schemes: Sequence[str] = ("http", "https", "s3")) -> str:
    text = text.strip()
    if len(text) > MAX_ADDRESS_CHARS or not text.isprintable() or " " in text:
        raise _invalid(
            f"'{ascii(text[:80])[1:-1]}' is not an address: it is too long or has blanks in it.", param
        )
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise _invalid(f"'{text[:80]}' is not a URL.", param) from error
    if parts.scheme not in schemes or not host:
        raise _invalid(
            f"'{text[:80]}' cannot be followed: s3://BUCKET/PREFIX, git+https://HOST/PATH, webdav+https://HOST/PATH, "
            "imaps://HOST/FOLDER or an http:// or https:// address was expected. "
            "A folder of this machine is followed as 'folder'.",
            param,
        )
    if parts.username is not None or parts.password is not None:
        raise _invalid("An address with a user name or password in it is not followed.", param)
    return text.partition("#")[0]


def _bucket(address: str, param: str) -> str:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if _BUCKET.fullmatch(bucket) is None:
        raise _invalid(
            f"'{bucket[:80]}' cannot be a bucket: 3 to 63 small letters, digits, dots and hyphens.", param
        )
    prefix = prefix.strip("/")
    return f"s3://{bucket}/{prefix}/" if prefix else f"s3://{bucket}"


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_source", param=param)
