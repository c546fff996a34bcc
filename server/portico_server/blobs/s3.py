"""The location, credentials and request signatures of ``s3://`` buckets."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.fetching import FetchedResponse, FetchSession
from portico_server.settings import Settings

# Requests are signed with AWS Signature Version 4, as an ``Authorization`` header.
# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html


EMPTY_BODY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class BucketCredentials:
    """A key pair and, for temporary credentials, their token. The secret key and the token are never shown."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def encode_path(text: str, *, slashes: bool = False) -> str:
    """Percent-encode a path as the signature requires: everything but letters, digits and ``-._~``."""
    return quote(text, safe="-._~/" if slashes else "-._~")


def encode_query(values: Mapping[str, str]) -> str:
    """Encode a query string in the order and form that the signature requires."""
    return "&".join(f"{encode_path(name)}={encode_path(value)}" for name, value in sorted(values.items()))


def sign_headers(
    credentials: BucketCredentials,
    region: str,
    host: str,
    path: str,
    query_string: str,
    now: datetime,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body_sha256: str = EMPTY_BODY_SHA256,
) -> dict[str, str]:
    """Return the signed headers of a request. ``path`` and ``query_string`` are encoded, ``now`` is in UTC."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    signed_headers = {
        **{name.lower(): value for name, value in (headers or {}).items()},
        "x-amz-content-sha256": body_sha256,
        "x-amz-date": stamp,
    }
    if credentials.token:
        signed_headers["x-amz-security-token"] = credentials.token
    all_headers = {**signed_headers, "host": host}
    names = ";".join(sorted(all_headers))
    canonical = "\n".join(
        [
            method,
            path,
            query_string,
            *(f"{name}:{all_headers[name].strip()}" for name in sorted(all_headers)),
            "",
            names,
            body_sha256,
        ]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    signed_headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope},SignedHeaders={names},Signature={key.hex()}"
    )
    return signed_headers


@dataclass(frozen=True, slots=True)
class BucketEndpoint:
    """The endpoint of buckets, and the credentials for it. Without ``credentials``, requests are unsigned, which
    suffices for public buckets.
    """

    endpoint: str
    region: str
    credentials: BucketCredentials | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str] | None = None) -> BucketEndpoint:
        """Create the endpoint from the settings. Settings that are not set are read from the environment variables of
        AWS's own tools.

        Raises `InvalidRequest` if the endpoint is not ``http(s)://HOST[:PORT]``, or if only half of a key pair is set.
        """
        variables = os.environ if environment is None else environment
        region = (
            settings.s3_region
            or variables.get("AWS_REGION")
            or variables.get("AWS_DEFAULT_REGION")
            or "us-east-1"
        )
        endpoint = (
            settings.s3_endpoint or variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL")
        )
        endpoint = (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise InvalidRequest(
                "The setting s3_endpoint must be http://HOST:PORT or https://HOST, without a path.",
                code="invalid_setting",
                param="s3_endpoint",
            )
        if settings.s3_access_key or settings.s3_secret_key:
            key, secret, token = settings.s3_access_key, settings.s3_secret_key, ""
        else:
            key, secret = variables.get("AWS_ACCESS_KEY_ID", ""), variables.get("AWS_SECRET_ACCESS_KEY", "")
            token = variables.get("AWS_SESSION_TOKEN", "")
        if bool(key) != bool(secret):
            raise InvalidRequest(
                "Only one of s3_access_key and s3_secret_key is set; set both, or neither for public buckets.",
                code="invalid_setting",
                param="s3_access_key",
            )
        return cls(endpoint, region, BucketCredentials(key, secret, token) if key else None)

    @property
    def host(self) -> str:
        """The value of the ``Host`` header."""
        return urlsplit(self.endpoint).netloc

    @property
    def trusted(self) -> tuple[str, ...]:
        """The host and port of the endpoint, trusted because the operator configured them."""
        parts = urlsplit(self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return (f"{parts.hostname}:{port}",)

    def open(
        self, session: FetchSession, path: str, query: Mapping[str, str], seconds: float
    ) -> AbstractAsyncContextManager[FetchedResponse]:
        """Request ``path`` (``/BUCKET/KEY``), signed if there are credentials."""
        at, encoded_query = encode_path(path, slashes=True), encode_query(query)
        headers: dict[str, str] = {}
        if self.credentials is not None:
            now = datetime.now(UTC)
            headers = sign_headers(self.credentials, self.region, self.host, at, encoded_query, now)
        url = f"{self.endpoint}{at}{f'?{encoded_query}' if encoded_query else ''}"
        return session.open(url, headers, seconds=seconds, is_signed=True)
