"""Parsing of whole numbers and charsets in outside input."""

from __future__ import annotations

import re

import pytest
from tests.daemon import ROOT

from portico_server.core.words import decode_text, whole_number

NAMES_ALONE = {
    *("core/words.py", "api/openai/form.py", "models/openai_wire.py", "http/fetch/client.py"),
    *("features/stores/links/rules.py", "features/guards/checks.py"),
    *("features/agents/entailment.py", "features/stores/contradictions.py", "core/glosses.py"),
    *(
        "features/answers/statements.py",
        "features/answers/claims.py",
        "features/answers/terms.py",
        "features/answers/names.py",
    ),
}
"""Code that makes no number of a text of digits."""

OWN = {
    *(
        "launchers/slurm.py",
        "models/hardware.py",
        "environments/build.py",
    ),  # programs and files of this machine
    *(
        "features/gpu_engines/transformers/worker/draw.py",
        "features/gpu_engines/transformers/worker/server.py",
    ),  # the daemon
    "archives/tar.py",  # at most ten bytes
}


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1_000", "1.0", "\u00b2", "\u0663", "9" * 19, "9" * 5_000]
)
def test_text_that_is_not_a_number_of_at_most_eighteen_digits_gives_none(text: str) -> None:
    assert whole_number(text) is None


def test_valid_digits_are_parsed_as_a_whole_number() -> None:
    assert (whole_number("0"), whole_number("007"), whole_number("9" * 18)) == (0, 7, 10**18 - 1)
    assert (whole_number("123", 3), whole_number("1234", 3)) == (123, None)


def test_no_other_code_checks_outside_text_with_isdigit() -> None:
    """No other code checks outside text with ``isdigit``.

    ``int`` refuses some of what ``isdigit`` allows, and raises for thousands of digits; `whole_number` handles both.
    """
    server = ROOT / "server" / "portico_server"
    file_names = {
        str(file.relative_to(server))
        for file in server.rglob("*.py")
        if re.search(r"\.is(?:digit|decimal|numeric)\(", file.read_text())
    }
    assert file_names == NAMES_ALONE | OWN, "read it with core.words.whole_number"


@pytest.mark.parametrize(
    "charset",
    [
        "punycode",
        "idna",
        "undefined",
        "unicode_escape",
        "utf-7",
        "cp037",
        "rot13",
        "zip",
        "\x00",
        "x" * 5_000,
        "",
    ],
)
def test_bytes_of_an_unsupported_charset_are_decoded_as_utf_8(charset: str) -> None:
    assert decode_text("Sluttårn \\x41".encode() * 50_000, charset).startswith("Sluttårn \\x41S")


@pytest.mark.parametrize(
    ("text", "codec", "charset"),
    [
        ("高山", "gb18030", "GB2312"),
        ("高山", "big5", "Big5"),
        ("山です", "iso2022_jp", "ISO-2022-JP"),
        ("山です", "cp932", "Shift_JIS"),
        ("한국", "euc_kr", "EUC-KR"),
        ("é", "latin-1", "ISO-8859-1"),
        ("š", "cp1250", "windows-1250"),
        ("й", "koi8_r", "KOI8-R"),
        ("é", "utf-16", "UTF-16"),
        ("ก", "tis_620", "TIS-620"),
        ("é", "mac_roman", "macintosh"),
    ],
)
def test_bytes_are_read_in_their_charset(text: str, codec: str, charset: str) -> None:
    assert decode_text(text.encode(codec), charset) == text


CHOSEN_HERE = {
    "core/words.py",
    *(
        "features/readers/archive.py",
        "features/readers/formats.py",
        "features/readers/step_file.py",
    ),  # detected from bytes
}
"""Code whose charset is not named by outside input."""


def test_no_other_code_decodes_with_a_charset_named_from_outside() -> None:
    """No other code decodes with a codec named from outside.

    Some of Python's encodings take hours for a megabyte (punycode); `decoded` handles them.
    """
    server = ROOT / "server" / "portico_server"
    file_names = {
        str(file.relative_to(server))
        for file in server.rglob("*.py")
        if re.search(r"\.decode\((?:[a-z_.]*(?:charset|encoding)|known)\b", file.read_text())
    }
    assert file_names == CHOSEN_HERE, "decode it with core.words.decoded"
