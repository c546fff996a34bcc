"""AWS Signature Version 4, for requests without a body: who asks, as an ``Authorization`` header.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair and, for temporary ones, its token. Never shown."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def encoded(text: str, *, slashes: bool = False) -> str:
    """Percent-encoded as the signature counts it: everything but letters, digits and ``-._~``."""
    return quote(text, safe="-._~/" if slashes else "-._~")


def query(values: Mapping[str, str]) -> str:
    """A query in the order and encoding in which it is signed."""
    return "&".join(f"{encoded(name)}={encoded(value)}" for name, value in sorted(values.items()))


def signed(
    who: Credentials,
    region: str,
    host: str,
    path: str,
    query_string: str,
    now: datetime,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a GET request. ``path`` and ``query_string`` are encoded, ``now`` is in UTC."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    sent = {
        **{name.lower(): value for name, value in (headers or {}).items()},
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": stamp,
    }
    if who.token:
        sent["x-amz-security-token"] = who.token
    counted = {**sent, "host": host}
    names = ";".join(sorted(counted))
    canonical = "\n".join(
        [
            "GET",
            path,
            query_string,
            *(f"{name}:{counted[name].strip()}" for name in sorted(counted)),
            "",
            names,
            EMPTY,
        ]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{who.secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={who.access_key}/{scope},SignedHeaders={names},Signature={key.hex()}"
    )
    return sent
