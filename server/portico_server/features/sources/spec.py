"""Sources of stores other than folders, both as users write them and as the store's row contains them."""

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
"""Maximum length of an address in characters."""

MAX_ADDRESSES = 10_000
"""Maximum number of addresses in a list."""

GIT = "git+"
"""Prefix of the address of a Git repository, as in pip."""

WEBDAV = "webdav+"
"""Prefix of the address of a folder on a WebDAV server."""

IMAP_PORTS = {"imaps": 993, "imap": 143}
"""Schemes of mail folders, with the default ports of their servers."""

_REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)))[\w][\w./+-]{0,199}(?<![./])", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """The source of a store; ``kind`` is one of:

    ``web``: one address, which Portico examines (a sitemap, a directory index, a list, or otherwise a single
    document); ``pages``: addresses of documents; ``s3``: a bucket, or a prefix in a bucket; ``git``: a repository;
    ``webdav``: a folder on a server, with its subfolders; ``imap``: a mailbox folder.
    """

    kind: SourceKind
    addresses: tuple[str, ...]

    def kept(self) -> dict[str, Any]:
        """Return the source in the form that the store's row contains."""
        return {"kind": self.kind, "addresses": list(self.addresses)}

    def written(self) -> str | list[str]:
        """Return the source in the form that users write."""
        return list(self.addresses) if self.kind == "pages" else self.addresses[0]

    @property
    def title(self) -> str:
        """The source's name for messages, without the query of an address, because it may contain a secret."""
        first = self.addresses[0].partition("?")[0]
        return first if len(self.addresses) == 1 else f"{first} and {len(self.addresses) - 1} more addresses"


def followed_source(row: StoreRow) -> str:
    """Return the name of a store's source for messages."""
    return f"the folder {row.folder}" if row.source is None else source_of(row.source).title


def source_of(saved_source: Mapping[str, Any]) -> SourceSpec:
    """Parse a source that was read from the row of a store."""
    return SourceSpec(saved_source["kind"], tuple(saved_source["addresses"]))


def parse_source(value: str | Sequence[str], param: str = "source") -> SourceSpec:
    """Parse a source. Raises `InvalidRequest`.

    Accepts ``s3://BUCKET/PREFIX``, ``git+https://HOST/PATH[@REF][#subdirectory=FOLDER]``,
    ``webdav+https://HOST/PATH``, ``imaps://HOST[:PORT]/FOLDER``, an ``http(s)://`` address, or a list of
    ``http(s)://`` addresses.
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
        raise _invalid(f"Expected a list of 1 to {MAX_ADDRESSES:,} addresses, not {len(value):,}.", param)
    addresses = tuple(dict.fromkeys(_address(item, param) for item in value))
    for address in addresses:
        if address.startswith("s3://"):
            raise _invalid(
                f"'{address[:80]}' cannot be in a list: a list can contain only http:// and https:// "
                "addresses.",
                param,
            )
    return SourceSpec("pages", addresses)


@dataclass(frozen=True, slots=True)
class GitAddress:
    """The address of a repository: its ``url``, the branch, tag or commit (``ref``, empty for the default branch), and
    the followed folder.

    The folder is empty if the store follows the whole repository.
    """

    url: str
    ref: str = ""
    folder: str = ""

    @classmethod
    def parse(cls, text: str, param: str = "source") -> GitAddress:
        """Parse an address in pip's format. Raises `InvalidRequest`."""
        address, _, fragment = text.strip().removeprefix(GIT).partition("#")
        scheme, mark, remainder = address.partition("://")
        host, slash, path = remainder.partition("/")
        path, _, ref = path.partition(
            "@"
        )  # text after the host; a user name before the host is rejected below
        url = _address(f"{scheme}{mark}{host}{slash}{path}", param)
        name, _, folder = fragment.partition("=")
        folder = unquote(folder).strip("/")
        if (
            urlsplit(url).scheme not in ("http", "https")
            or urlsplit(url).query
            or not urlsplit(url).path.strip("/")
        ):
            raise _invalid(f"'{text[:80]}' is not a repository: expected git+https://HOST/PATH.", param)
        if ref and _REF.fullmatch(ref) is None:
            raise _invalid(f"'{ref[:80]}' is not a valid branch, tag or commit.", param)
        if fragment and (name != "subdirectory" or not _is_folder(folder)):
            raise _invalid(f"'#{fragment[:80]}' is not supported: expected #subdirectory=FOLDER.", param)
        return cls(url, ref, folder)

    def written(self) -> str:
        """Return the address in the form that users write."""
        ref = f"@{self.ref}" if self.ref else ""
        return f"{GIT}{self.url}{ref}" + (f"#subdirectory={self.folder}" if self.folder else "")


@dataclass(frozen=True, slots=True)
class MailAddress:
    """The address of a mailbox folder: ``INBOX``, or the path of another folder in the format of the server."""

    scheme: str
    host: str
    port: int
    folder: str

    @classmethod
    def parse(cls, text: str, param: str = "source") -> MailAddress:
        """Parse ``imaps://HOST[:PORT]/FOLDER``. Raises `InvalidRequest`."""
        address = _address(text, param, (*IMAP_PORTS,))
        parts = urlsplit(address)
        assert parts.hostname is not None, "checked"
        folder = unquote(parts.path).strip("/") or "INBOX"
        if parts.query or not folder.isprintable():
            raise _invalid(f"'{text[:80]}' is not a mail folder: expected imaps://HOST/FOLDER.", param)
        return cls(parts.scheme, parts.hostname, parts.port or IMAP_PORTS[parts.scheme], folder)

    @property
    def netloc(self) -> str:
        """The host, followed by the port unless it is the default port."""
        return self._host if self.port == IMAP_PORTS[self.scheme] else f"{self._host}:{self.port}"

    @property
    def checked(self) -> str:
        """The URL that the HTTP client uses to check whether the host may be accessed."""
        return f"https://{self._host}:{self.port}/"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def written(self) -> str:
        """Return the address in the form that users write."""
        return f"{self.scheme}://{self.netloc}/{quote(self.folder)}"


def may_log_in(address: str) -> bool:
    """Return whether a login from the setting ``source_logins`` can apply to a source."""
    return address.startswith((GIT, WEBDAV, *IMAP_PORTS))


def login_of(logins: str, url: str) -> str:
    """Return ``USER:PASSWORD`` for the host of ``url`` from the setting ``source_logins``, or an empty string.

    If the setting contains only a token, the token becomes the password of an arbitrary user name, because the large
    hosts accept this.
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
        raise _invalid(f"'{address[:80]}' is not a folder: expected webdav+https://HOST/PATH.", param)
    return f"{WEBDAV}{url.rstrip('/')}/"


def _address(text: str, param: str, schemes: Sequence[str] = ("http", "https", "s3")) -> str:
    text = text.strip()
    if len(text) > MAX_ADDRESS_CHARS or not text.isprintable() or " " in text:
        raise _invalid(
            f"'{ascii(text[:80])[1:-1]}' is not a valid address: it is too long or contains white space.",
            param,
        )
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise _invalid(f"'{text[:80]}' is not a valid URL.", param) from error
    if parts.scheme not in schemes or not host:
        raise _invalid(
            f"'{text[:80]}' cannot be followed: expected s3://BUCKET/PREFIX, git+https://HOST/PATH, "
            "webdav+https://HOST/PATH, imaps://HOST/FOLDER or an http:// or https:// address. Use 'folder' "
            "to follow a folder of this machine.",
            param,
        )
    if parts.username is not None or parts.password is not None:
        raise _invalid("Addresses with a user name or password cannot be followed.", param)
    return text.partition("#")[0]


def _bucket(address: str, param: str) -> str:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if _BUCKET.fullmatch(bucket) is None:
        raise _invalid(
            f"'{bucket[:80]}' is not a valid bucket name: use 3 to 63 lowercase letters, digits, dots and "
            "hyphens.",
            param,
        )
    prefix = prefix.strip("/")
    return f"s3://{bucket}/{prefix}/" if prefix else f"s3://{bucket}"


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_source", param=param)
