"""Finds personal data, secrets, injected instructions and threats in texts by rules: patterns and checksums, no model.

Patterns are searched in linear time (`portico_server.core.pattern`). A text is read as a person reads it: full-width
and styled letters and digits count as plain ones, and characters without width do not count. What is encoded, as in
base64, is not read.
"""

from __future__ import annotations

import ipaddress
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.pattern import LinearPattern, linear

MIN_SECRET_ENTROPY: Final = 3.2
"""Bits for each character of a value that is taken for a secret because of the name it is assigned to."""

_NO_WIDTH: Final = "\u200b"
"""What all characters without width are folded to, before they are left out."""

Check = Callable[[str, int, int], int]
"""Whether a run of characters of a text is what it looks like: where it ends then, 0 if it is not."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Something that was found: where it stands in the text, and what kind of thing it is."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of thing. ``label`` is what a masked one is replaced by; ``reach`` how many characters of it may come
    before it can be told. ``group`` of the pattern is what is found. ``bounded``: the pattern is not ours.
    """

    kind: str
    label: str
    patterns: tuple[str, ...]
    check: Check | None = None
    group: int = 0
    reach: int = 64
    bounded: bool = False

    def compiled(self) -> tuple[LinearPattern, ...]:
        """Raises `UnsupportedPattern`."""
        return tuple(linear(text) for text in self.patterns) if self.bounded else _own(self.patterns)


@cache
def _own(patterns: tuple[str, ...]) -> tuple[LinearPattern, ...]:
    return tuple(map(LinearPattern, patterns))


def find(text: str, detectors: Iterable[Detector]) -> list[Detection]:
    """What the detectors find in a text, from left to right; of what overlaps the first and longest.

    Raises `UnsupportedPattern` if the text is too long for a pattern that is not ours.
    """
    read, places = _as_read(text)
    data = read.encode("utf-8", "replace")
    plain = len(data) == len(read)
    found: list[Detection] = []
    for detector in detectors:
        for pattern in detector.compiled():
            if detector.bounded:
                pattern.require_affordable(data)
            at, begun = 0, 0
            for first, last in pattern.spans(data, detector.group):
                if plain:
                    start, end = first, last
                else:  # spans come from left to right: each is counted on from the one before
                    start = begun + len(data[at:first].decode("utf-8", "replace"))
                    end = start + len(data[first:last].decode("utf-8", "replace"))
                    at, begun = first, start
                if detector.check is not None:
                    end = detector.check(read, start, end)
                if end > start:
                    found.append(Detection(start, end, detector.kind))
    if places is not None:
        found = [Detection(places[hit.start], places[hit.end - 1] + 1, hit.kind) for hit in found]
    return _apart(found)


def mask(text: str, hits: Sequence[Detection], labels: Callable[[str], str]) -> str:
    """The text with the label of its kind in the place of each hit."""
    parts, at = [], 0
    for hit in hits:
        parts += [text[at : hit.start], labels(hit.kind)]
        at = hit.end
    return "".join([*parts, text[at:]])


def _apart(hits: list[Detection]) -> list[Detection]:
    kept: list[Detection] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if not kept or hit.start >= kept[-1].end:
            kept.append(hit)
        elif hit.end > kept[-1].end:  # the rest of it is no better known
            kept[-1] = Detection(kept[-1].start, hit.end, kept[-1].kind)
    return kept


# A text as it is read.


class _Fold(dict[int, int]):
    """Characters to those that they are read as, one for one; filled as they are met, in the first plane."""

    def __missing__(self, code: int) -> int:
        char = chr(code)
        read = code
        if unicodedata.category(char) == "Cf" or 0xFE00 <= code <= 0xFE0F:
            read = ord(_NO_WIDTH)
        elif (digit := unicodedata.decimal(char, None)) is not None:
            read = ord("0") + digit
        else:
            folded = unicodedata.normalize("NFKC", char)
            if len(folded) == 1:
                read = ord(folded)
            elif code in _DASHES:
                read = ord("-")
        if code in _DASHES:
            read = ord("-")
        if code < 0x10000:
            self[code] = read
        return read


_DASHES: Final = frozenset((0x2010, 0x2011, 0x2012, 0x2013, 0x2212, 0xFE63, 0xFF0D))
_FOLD: Final = _Fold()


def _as_read(text: str) -> tuple[str, Sequence[int] | None]:
    """The text as it is read, and the place of each of its characters where some are left out."""
    if text.isascii():
        return text, None
    folded = text.translate(_FOLD)
    if _NO_WIDTH not in folded:
        return folded, None
    places = [place for place, char in enumerate(folded) if char != _NO_WIDTH]
    return folded.replace(_NO_WIDTH, ""), places


def last_read(text: str, count: int) -> int:
    """Where the last ``count`` characters begin that are read."""
    places = _as_read(text)[1]
    if places is None:
        return max(0, len(text) - count)
    return places[-count] if count <= len(places) else 0


def without_unread(text: str) -> str:
    """The text without what is left out where it is read."""
    places = _as_read(text)[1]
    return text if places is None else "".join([text[place] for place in places])


# Whether what looks like something is that.


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a number is not a part of a longer one, of a decimal or of a word."""
    before, behind = text[max(0, start - 2) : start], text[end : end + 2]
    if before and ((before[-1].isascii() and before[-1].isalnum()) or before[-1] in "_#"):
        return False
    if len(before) == 2 and before[-1] in ".-/" and before[0].isascii() and before[0].isalnum():
        return False
    if behind and ((behind[0].isascii() and behind[0].isalnum()) or behind[0] == "_"):
        return False
    return not (len(behind) == 2 and behind[0] in ".-/" and behind[1].isascii() and behind[1].isdigit())


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _email(text: str, start: int, end: int) -> int:
    if text[start - 1 : start] == ":" and "://" in text[max(0, start - 90) : start]:
        return 0  # a password and a host
    local, _, domain = text[start:end].partition("@")
    ending = domain.rpartition(".")[2]
    good = len(local) <= 64 and len(domain) <= 253 and len(ending) >= 2 and ending.isalpha()
    return end if good and not local.startswith(".") and ".." not in local + domain else 0


_CARD_PREFIXES: Final = ("4", "34", "35", "36", "37", "38", "30", "5", "6", *map(str, range(22, 28)))


def _card(text: str, start: int, end: int) -> int:
    digits = _digits(text[start:end])
    known = 13 <= len(digits) <= 19 and digits.startswith(_CARD_PREFIXES) and len(set(digits)) > 1
    return end if known and _stands_alone(text, start, end) and luhn(digits) else 0


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others, by ISO/IEC 7812."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


_IBAN_LENGTHS: Final = {
    country: int(length)
    for length, countries in (
        ("15", "NO"),
        ("16", "BE"),
        ("18", "DK FI FO GL NL SD"),
        ("19", "MK SI"),
        ("20", "AT BA EE KZ LT LU MN XK"),
        ("21", "CH HR LI LV"),
        ("22", "BG BH CR DE GB GE IE ME RS VA"),
        ("23", "AE GI IL IQ OM SO TL"),
        ("24", "AD CZ ES MD PK RO SA SE SK TN VG"),
        ("25", "LY PT ST"),
        ("26", "IS TR"),
        ("27", "BI DJ FR GR IT MC MR SM"),
        ("28", "AL AZ BY CY DO GT HN HU LB NI PL SV"),
        ("29", "BR EG PS QA UA"),
        ("30", "JO KW MU YE"),
        ("31", "MT SC"),
        ("32", "LC"),
        ("33", "RU"),
    )
    for country in countries.split()
}
"""Characters of an IBAN by country: https://www.swift.com/standards/data-standards/iban-international-bank-account-number."""


def _iban(text: str, start: int, end: int) -> int:
    length, number, at = _IBAN_LENGTHS.get(text[start : start + 2], 0), "", start
    while at < end and len(number) < length:  # words behind it may look like a part
        number += text[at] if text[at] != " " else ""
        at += 1
    if not length or len(number) < length or (at < len(text) and text[at].isascii() and text[at].isalnum()):
        return 0
    return at if int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1 else 0


def _ipv4(text: str, start: int, end: int) -> int:
    parts = [int(part) for part in text[start:end].split(".")]
    before = text[max(0, start - 9) : start].lower().rstrip()
    version = before.endswith(("version", "版本", "release", "v"))
    local = parts[0] in (0, 127, 255) or parts == [255] * 4
    good = max(parts) <= 255 and not local and not version
    return end if good and _stands_alone(text, start, end) else 0


def _ipv6(text: str, start: int, end: int) -> int:
    found = text[start:end]
    groups = [group for group in found.split(":") if group]
    if len(groups) < 3 or not any(map(str.isdigit, found)) or not _stands_alone(text, start, end):
        return 0
    try:
        address = ipaddress.IPv6Address(found)
    except ValueError:
        return 0
    return 0 if address.is_loopback or address.is_unspecified else end


_CN_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _cn_id(text: str, start: int, end: int) -> int:
    number = text[start:end].upper()
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return 0
    wanted = "10X98765432"[sum(w * int(d) for w, d in zip(_CN_WEIGHTS, number, strict=False)) % 11]
    good = wanted == number[17] and "11" <= number[:2] <= "91" and born.year >= 1900
    return end if good and _stands_alone(text, start, end) else 0


def _ssn(text: str, start: int, end: int) -> int:
    area, group, serial = text[start : start + 3], text[start + 4 : start + 6], text[start + 7 : end]
    good = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    return end if good and _stands_alone(text, start, end) else 0


def _phone(text: str, start: int, end: int) -> int:
    count = len(_digits(text[start:end]))
    return end if 8 <= count <= 15 and _stands_alone(text, start, end) else 0


def _alone(text: str, start: int, end: int) -> int:
    return end if _stands_alone(text, start, end) else 0


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


def _secret_value(text: str, start: int, end: int) -> int:
    """What is assigned to a name such as ``api_key`` is a secret if it looks like chance."""
    value = text[start:end]
    if any(word in value.lower() for word in _PLACEHOLDERS) or not any(map(str.isdigit, value)):
        return 0
    counts = Counter(value)
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    return end if entropy >= MIN_SECRET_ENTROPY and any(map(str.isalpha, value)) else 0


def _key_value(text: str, start: int, end: int) -> int:
    """A key of a well-known form that is not an example of the form."""
    value = text[start:end].lower()
    return 0 if "xxxx" in value or "..." in value or "your" in value else end


_NEGATIONS: Final = (
    "not ",
    "never ",
    "n't ",
    "n’t ",
    "cannot ",
    "不要",
    "不能",
    "不得",
    "切勿",
    "请勿",
    "不应",
    "别",
)


def _not_denied(text: str, start: int, end: int) -> int:
    """An instruction counts unless it is one not to do that."""
    return 0 if text[max(0, start - 10) : start].lower().endswith(_NEGATIONS) else end


# What is looked for.

_PERSONAL: Final = (
    Detector(
        "email",
        "[EMAIL]",
        (
            r"(?i)[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+",
        ),
        _email,
        reach=128,
    ),
    Detector(
        "card",
        "[CARD]",
        (r"\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{1,7}|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{13,19}",),
        _card,
        reach=32,
    ),
    Detector("iban", "[IBAN]", (r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,40}",), _iban, reach=64),
    Detector("cn_resident_id", "[RESIDENT_ID]", (r"\d{17}[\dXx]",), _cn_id, reach=24),
    Detector("us_ssn", "[SSN]", (r"\d{3}-\d{2}-\d{4}",), _ssn, reach=16),
    Detector(
        "phone",
        "[PHONE]",
        (
            r"\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}",
            r"1[3-9]\d(?:[ -]?\d{4}){2}|0\d{2,3}-\d{7,8}",
            r"\([2-9]\d{2}\) ?[2-9]\d{2}[.-]\d{4}|[2-9]\d{2}[.-][2-9]\d{2}[.-]\d{4}",
        ),
        _phone,
        reach=32,
    ),
    Detector("ip_address", "[IP]", (r"\d{1,3}(?:\.\d{1,3}){3}",), _ipv4, reach=24),
    Detector("ip_address", "[IP]", (r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}",), _ipv6, reach=48),
)

_SECRETS: Final = (
    Detector(
        "private_key",
        "[PRIVATE_KEY]",
        (
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:-?[A-Za-z0-9+/=\s:,])*(?:-----END [A-Z0-9 ]*-----)?",
        ),
        reach=64,
    ),
    Detector("aws_key", "[AWS_KEY]", (r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",), _key_value, reach=32),
    Detector(
        "github_token",
        "[GITHUB_TOKEN]",
        (r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",),
        _key_value,
    ),
    Detector(
        "slack_token",
        "[SLACK_TOKEN]",
        (r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",),
        _key_value,
    ),
    Detector(
        "api_key",
        "[API_KEY]",
        (
            r"\bsk-(?:proj-|ant-|svcacct-|or-v1-)?[A-Za-z0-9_-]{20,}",
            r"\b(?:AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}|[rs]k_live_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{36}"
            r"|glpat-[\w-]{20,})",
        ),
        _key_value,
    ),
    Detector("jwt", "[TOKEN]", (r"\beyJ(?:hbGci|0eXAi|raWQi|qa3Ui|jdHki)[\w-]+(?:\.[\w-]+){0,2}",)),
    Detector(
        "url_password",
        "[PASSWORD]",
        (r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:([^\s:/@]{3,})@",),
        _key_value,
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
        _secret_value,
        1,
        64,
    ),
)

_INJECTIONS: Final = (
    Detector(
        "injected_instruction",
        "[INSTRUCTION]",
        (
            r"(?i)\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,30}?\b(?:all|any|previous|prior|above|earlier|preceding|your|system)\b"
            r"[^.\n]{0,30}?\b(?:instructions?|prompts?|rules|guidelines|directions|commands)\b",
            r"(?i)\byou are now\b[^.\n]{0,40}?\b(?:DAN|jailbroken|unrestricted|developer mode"
            r"|without (?:any )?(?:restrictions|rules|limits|filters))\b",
            r"(?i)\b(?:reveal|print|show|repeat|output|disclose|leak|send)\b[^.\n]{0,30}?\b(?:system|hidden"
            r"|initial|secret|developer) (?:prompt|instructions|message)\b",
            r"(?i)\b(?:do not|don't|never|without) (?:tell|inform|mention|alert|telling|informing"
            r"|alerting)\b[^.\n]{0,20}?\buser\b",
            r"<\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)\|>|\[/?INST\]|<</?SYS>>",
            r"(?im)^\s*(?:system|new (?:system )?instructions?|important instructions?)\s*:\s*(?:you (?:are|must"
            r"|will)|ignore|from now|always|never|do not)\b",
        ),
        _not_denied,
        reach=160,
    ),
    Detector(
        "injected_instruction",
        "[INSTRUCTION]",
        (
            r"(?:忽略|无视|無視|忘记|忘記|忘掉|不要理会|不用管|抛开|绕过)[^。！？\n]{0,10}?(?:之前|以上|上面|上述|先前|前面|所有|全部|一切|你的|原来|系统)"
            r"[^。！？\n]{0,8}?(?:指令|指示|提示|命令|规则|規則|设定|限制|约束)",
            r"(?:输出|显示|告诉我|泄露|打印|重复|公开|发给我|说出|輸出)[^。！？\n]{0,10}?(?:系统提示|系统指令|系统消息|初始提示|隐藏指令|系統提示|提示词)",
            r"(?:不要|别|不得|切勿)(?:告诉|告知|通知|提醒|让)[^。！？\n]{0,4}?用户",
            r"从现在(?:开始|起)[^。！？\n]{0,16}?(?:不受|没有(?:任何)?限制|不再(?:受|遵守)|无视|越狱)",
        ),
        _not_denied,
        reach=160,
    ),
)

_THREATS: Final = (
    Detector(
        "self_harm_intent",
        "[SELF_HARM]",
        (
            r"(?i)\bi(?:'m|’m| am)? (?:really |just )?(?:want|wanna|going|plan|planning"
            r"|intend) (?:to )?(?:kill myself|end my (?:own )?life|commit suicide|hurt myself|cut myself)\b",
            r"我(?:真的|好|很|现在)?(?:想|想要|要|打算|准备)(?:自杀|自残|轻生|结束(?:我的|自己的)?生命|了结自己|割腕)",
        ),
        reach=80,
    ),
    Detector(
        "threat",
        "[THREAT]",
        (
            r"(?i)\bi(?:'ll|’ll| will|'m going to|’m going to| am going to|'m gonna) "
            r"(?:kill|murder|shoot|stab|strangle|hurt) (?:you|him|her|them|your (?:family|kids|wife|husband"
            r"|children))\b",
            r"我(?:一定|迟早|今晚|明天)?(?:要|会)?(?:杀了|弄死|砍死|打死|捅死|宰了)(?:你|他|她)",
        ),
        reach=80,
    ),
    Detector(
        "insult", "[INSULT]", (r"(?i)\b(?:go )?kill yourself\b|\bgo die\b", r"你?(?:怎么不)?去死吧"), reach=24
    ),
)

GROUPS: Final = {"pii": _PERSONAL, "secrets": _SECRETS, "injection": _INJECTIONS, "threats": _THREATS}
"""The detectors that come with Portico, by the name of their group."""

KINDS: Final = {
    detector.kind: tuple(other for group in GROUPS.values() for other in group if other.kind == detector.kind)
    for detectors in GROUPS.values()
    for detector in detectors
}
"""The same by kind: what is found of one kind may take several detectors."""
