"""Verification of webhook messages, for receivers.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from portico.errors import InvalidRequest
from portico.schemas.webhooks import WebhookEvent

TOLERANCE_S = 300
"""Maximum difference between a message's time and the local clock, in seconds."""

_PREFIX = "whsec_"


def verify_webhook(
    body: str | bytes, headers: Mapping[str, str], secret: str, *, tolerance_s: float = TOLERANCE_S
) -> WebhookEvent:
    """Verify a webhook message with ``secret``, and return its event.

    ``body`` is the body exactly as received, before any parsing; ``headers`` are the headers of the request, in upper
    or lower case. Raises `InvalidRequest` if no signature matches, if the message is too old or from the future, or if
    a header is missing. Signatures are compared in constant time.
    """
    lower_headers = {name.lower(): value for name, value in headers.items()}
    event_id, moment, signatures = (
        _header(lower_headers, name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    )
    if not (moment.isascii() and moment.isdigit() and len(moment) < 13):
        raise _refusal("The header 'webhook-timestamp' is not a number of seconds.")
    if abs(time.time() - int(moment)) > tolerance_s:
        raise _refusal(f"The message is older than {tolerance_s:g} s, or ahead of the local clock.")
    data = body.encode("utf-8", "replace") if isinstance(body, str) else body
    signed_data = b".".join((event_id.encode("utf-8", "replace"), moment.encode(), data))
    expected_signature = base64.b64encode(hmac.new(_key(secret), signed_data, hashlib.sha256).digest())
    # Compare all signatures, so that the time does not reveal which of them matches.
    right = [
        hmac.compare_digest(expected_signature, value.encode("utf-8", "replace"))
        for version, _comma, value in (part.partition(",") for part in signatures.split())
        if version == "v1"
    ]
    if not any(right):
        raise _refusal(
            "No signature matches the secret: the message is from another webhook, or the secret was rotated."
        )
    try:
        event = json.loads(data)
        return WebhookEvent(event["id"], event["type"], event["created_at"], event["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise _refusal("The message is signed, but is not an event.") from error


def _header(headers: Mapping[str, str], name: str) -> str:
    if name not in headers:
        raise _refusal(f"The header '{name}' is missing: pass the headers of the request.")
    return headers[name]


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(
            "This is not a webhook secret: expected 'whsec_' followed by base64.", param="secret"
        ) from error


def _refusal(words: str) -> InvalidRequest:
    return InvalidRequest(words, code="invalid_signature", param="headers")
