"""What a mail program shows of a message."""

from __future__ import annotations

import pytest
from tests.server.features.readers.reading import Reading

_CALENDAR = (
    "BEGIN:VCALENDAR\r\nPRODID:-//Example//1\r\nBEGIN:VTIMEZONE\r\nDTSTART:19700101T000000\r\nEND:VTIMEZONE\r\n"
    "BEGIN:VEVENT\r\nSUMMARY;LANGUAGE=en:Mooring drill\r\n  of spring\r\nDTSTART:20240312T080000Z\r\n"
    "DTEND;VALUE=DATE:20240313\r\nLOCATION:Quay nine\\, berth two\r\nORGANIZER:mailto:ida@harbour.example\r\n"
    "X-ID:9\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
_EVENT = (
    "Event: Mooring drill of spring\nStart: 2024-03-12 08:00 UTC\nEnd: 2024-03-13\nPlace: Quay nine, berth two\n"
    "Organizer: ida@harbour.example"
)


def part(content: str | bytes, kind: str = "text/plain", headers: str = "") -> bytes:
    data = content if isinstance(content, bytes) else content.encode()
    return f"Content-Type: {kind}\r\n{headers}\r\n".encode() + data


def parts(kind: str, *inner: bytes, mark: str = "x") -> bytes:
    content = b"".join(f"--{mark}\r\n".encode() + item + b"\r\n" for item in inner)
    return part(content + f"--{mark}--\r\n".encode(), f"multipart/{kind}; boundary={mark}")


SEEN = {
    "HTML beside plain text": (
        parts("alternative", part("Open it in a browser."), part("<p>The <b>lantern</b> is lit.</p>", "text/html")),
        "The lantern is lit.",
    ),
    "plain text beside HTML without text": (
        parts("alternative", part("The lantern is lit."), part("<img src=x>", "text/html")),
        "The lantern is lit.",
    ),
    "text behind a picture": (
        parts("mixed", part("First."), part("GIF89a", "image/gif"), part("Last."), part("<p>End.</p>", "text/html")),
        "First.\n\nLast.\n\nEnd.",
    ),
    "a charset that only the HTML names": (
        part("<meta charset=windows-1252><p>Gebühr</p>".encode("windows-1252"), "text/html"),
        "Gebühr",
    ),
    "Windows-1252 labelled ISO-8859-1": (
        part("The “ebb” tide.".encode("windows-1252"), "text/plain; charset=iso-8859-1"),
        "The “ebb” tide.",
    ),
    "UTF-8 labelled ASCII": (part("Gebühr", "text/plain; charset=us-ascii"), "Gebühr"),
    "an invitation": (part(_CALENDAR, "text/calendar; method=REQUEST"), _EVENT),
    "an invitation beside text": (
        parts("alternative", part("See below."), part(_CALENDAR, "text/calendar")),
        f"See below.\n\n{_EVENT}",
    ),
    "an attached invitation": (
        parts("mixed", part("See below."), part(_CALENDAR, "text/calendar; name=drill.ics")),
        f"See below.\n\n{_EVENT}",
    ),
    "a calendar without events": (
        parts("mixed", part("See below."), part("BEGIN:VCALENDAR\r\nEND:VCALENDAR", "text/calendar")),
        "See below.",
    ),
    "flowed text": (
        part("The tug \r\nwaits.\r\n > no quotation\r\n-- \r\nIda", "text/plain; format=flowed"),
        "The tug waits.\n> no quotation\n-- \nIda",
    ),
    "flowed text of Chinese": (
        part("泊位 \r\n费用\r\n", "text/plain; charset=utf-8; format=flowed; delsp=yes"),
        "泊位费用",
    ),
    "flowed quotations": (
        part("> The tug \r\n> waits.\r\n>> Why? \r\nBecause.", "text/plain; format=flowed"),
        "> The tug waits.\n>> Why?\nBecause.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEN)
async def test_the_body_is_what_a_person_sees(read: Reading, kind: str) -> None:
    content, text = SEEN[kind]
    message = b"Subject: Harbour\r\nMIME-Version: 1.0\r\n" + content
    [message_part] = await read("a.eml", message)
    assert message_part.text == f"Subject: Harbour\n\n{text}"


async def test_an_invitation_belongs_to_the_message_that_contains_it(read: Reading) -> None:
    inner = b"Subject: Inner\r\nMIME-Version: 1.0\r\n" + part(_CALENDAR, "text/calendar")
    outer = parts("mixed", part("See below."), part(inner, "message/rfc822"), mark="y")
    message_parts = await read("a.eml", b"Subject: Outer\r\nMIME-Version: 1.0\r\n" + outer)
    assert [message_part.text for message_part in message_parts] == [
        "Subject: Outer\nAttachment: message.eml\n\nSee below.",
        f"Subject: Inner\n\n{_EVENT}",
    ]
