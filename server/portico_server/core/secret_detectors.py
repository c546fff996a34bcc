"""Detectors for keys, tokens and passwords."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from portico_server.core.detectors import Detector

MIN_SECRET_ENTROPY: Final = 3.2
"""Minimum entropy, in bits per character, of a value that counts as a secret because of its name."""

_PLACEHOLDERS: Final = (
    "example",
    "your",
    "xxxx",
    "****",
    "changeme",
    "<",
    "${",
    "{{",
    "placeholder",
    "redacted",
    "...",
)


def _check_secret_value(text: str, start: int, end: int) -> int:
    """Return the end of a value that is assigned to a name such as ``api_key`` and looks random, or 0."""
    value = text[start:end]
    if any(word in value.lower() for word in _PLACEHOLDERS) or not any(map(str.isdigit, value)):
        return 0
    counts = Counter(value)
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    return end if entropy >= MIN_SECRET_ENTROPY and any(map(str.isalpha, value)) else 0


def _check_key_value(text: str, start: int, end: int) -> int:
    """Return the end of a key in a well-known format, or 0. Placeholders such as ``your-key`` or ``xxxx`` do not
    count.
    """
    value = text[start:end].lower()
    return 0 if "xxxx" in value or "..." in value or "your" in value else end


SECRETS: Final = (
    Detector(
        "private_key",
        "[PRIVATE_KEY]",
        (
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:-?[A-Za-z0-9+/=\s:,])*(?:-----END [A-Z0-9 ]*-----)?",
        ),
        reach=64,
    ),
    Detector("aws_key", "[AWS_KEY]", (r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",), _check_key_value, reach=32),
    Detector(
        "github_token",
        "[GITHUB_TOKEN]",
        (r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",),
        _check_key_value,
    ),
    Detector(
        "slack_token",
        "[SLACK_TOKEN]",
        (r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",),
        _check_key_value,
    ),
    Detector(
        "api_key",
        "[API_KEY]",
        (
            r"\bsk-(?:proj-|ant-|svcacct-|or-v1-)?[A-Za-z0-9_-]{20,}",
            r"\b(?:AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}|[rs]k_live_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{36}"
            r"|glpat-[\w-]{20,})",
        ),
        _check_key_value,
    ),
    Detector("jwt", "[TOKEN]", (r"\beyJ(?:hbGci|0eXAi|raWQi|qa3Ui|jdHki)[\w-]+(?:\.[\w-]+){0,2}",)),
    Detector(
        "url_password",
        "[PASSWORD]",
        (r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:([^\s:/@]{3,})@",),
        _check_key_value,
        1,
        200,
    ),
    Detector(
        "assigned_secret",
        "[SECRET]",
        (
            r"(?i)(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?key|auth[_-]?token|access[_-]?token|token|passw(?:or)?d|密钥|密码)"
            r"[\"']?\s{0,3}(?:[:=]|：|是|is)\s{0,3}[\"']?([A-Za-z0-9+/_=.!@#$%^&*~-]{12,})",
        ),
        _check_secret_value,
        1,
        64,
    ),
)
