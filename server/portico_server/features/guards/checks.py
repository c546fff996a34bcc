"""Checks whether a candidate match is a real one."""

from __future__ import annotations

import ipaddress
from datetime import date
from typing import Final


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether the number is not part of a longer number, a date, a version or a word."""
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


def check_email(text: str, start: int, end: int) -> int:
    """Return the end of an e-mail address, or 0."""
    if text[start - 1 : start] == ":" and "://" in text[max(0, start - 90) : start]:
        return 0  # a password and a host name
    local, _, domain = text[start:end].partition("@")
    ending = domain.rpartition(".")[2]
    good = len(local) <= 64 and len(domain) <= 253 and len(ending) >= 2 and ending.isalpha()
    return end if good and not local.startswith(".") and ".." not in local + domain else 0


_CARD_PREFIXES: Final = ("4", "34", "35", "36", "37", "38", "30", "5", "6", *map(str, range(22, 28)))


def check_card(text: str, start: int, end: int) -> int:
    """Return the end of a payment card number, or 0."""
    digits = _digits(text[start:end])
    is_known = 13 <= len(digits) <= 19 and digits.startswith(_CARD_PREFIXES) and len(set(digits)) > 1
    return end if is_known and _stands_alone(text, start, end) and luhn(digits) else 0


def luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of the others, by ISO/IEC 7812."""
    doubled_digits = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled_digits)) % 10 == 0


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
"""Length of an IBAN for each country code:
https://www.swift.com/standards/data-standards/iban-international-bank-account-number.
"""


def check_iban(text: str, start: int, end: int) -> int:
    """Return the end of an IBAN, or 0."""
    length, number, at = _IBAN_LENGTHS.get(text[start : start + 2], 0), "", start
    while at < end and len(number) < length:  # the match may include words that follow the IBAN
        number += text[at] if text[at] != " " else ""
        at += 1
    if not length or len(number) < length or (at < len(text) and text[at].isascii() and text[at].isalnum()):
        return 0
    return at if int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1 else 0


def check_ipv4(text: str, start: int, end: int) -> int:
    """Return the end of an IPv4 address, or 0."""
    parts = [int(part) for part in text[start:end].split(".")]
    before = text[max(0, start - 9) : start].lower().rstrip()
    version = before.endswith(("version", "版本", "release", "v"))
    local = parts[0] in (0, 127, 255) or parts == [255] * 4
    good = max(parts) <= 255 and not local and not version
    return end if good and _stands_alone(text, start, end) else 0


def check_ipv6(text: str, start: int, end: int) -> int:
    """Return the end of an IPv6 address, or 0."""
    found_address = text[start:end]
    groups = [group for group in found_address.split(":") if group]
    if len(groups) < 3 or not any(map(str.isdigit, found_address)) or not _stands_alone(text, start, end):
        return 0
    try:
        address = ipaddress.IPv6Address(found_address)
    except ValueError:
        return 0
    return 0 if address.is_loopback or address.is_unspecified else end


_CN_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def check_cn_id(text: str, start: int, end: int) -> int:
    """Return the end of a Chinese resident identity number, or 0."""
    number = text[start:end].upper()
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return 0
    check_digit = "10X98765432"[sum(w * int(d) for w, d in zip(_CN_WEIGHTS, number, strict=False)) % 11]
    good = check_digit == number[17] and "11" <= number[:2] <= "91" and born.year >= 1900
    return end if good and _stands_alone(text, start, end) else 0


def check_ssn(text: str, start: int, end: int) -> int:
    """Return the end of a US social security number, or 0."""
    area, group, serial = text[start : start + 3], text[start + 4 : start + 6], text[start + 7 : end]
    good = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    return end if good and _stands_alone(text, start, end) else 0


def check_phone(text: str, start: int, end: int) -> int:
    """Return the end of a telephone number, or 0."""
    count = len(_digits(text[start:end]))
    return end if 8 <= count <= 15 and _stands_alone(text, start, end) else 0


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


def check_not_denied(text: str, start: int, end: int) -> int:
    """Return the end of an instruction, or 0 if the text says not to follow it."""
    return 0 if text[max(0, start - 10) : start].lower().endswith(_NEGATIONS) else end
