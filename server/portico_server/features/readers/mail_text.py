"""The text that a mail program shows of a message: its body, other texts in it, and invitations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import EmailMessage, MIMEPart

from portico_server.core.words import decode_text
from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers import html

MAX_MULTIPART_DEPTH = 30
"""Maximum nesting depth of the parts of a message."""

_FOLDED = re.compile(r"\r?\n[ \t]")
_QUOTE_MARKS = re.compile(r"(?:> ?)*")
_EVENT_PROPERTIES = {
    "SUMMARY": "Event",
    "DTSTART": "Start",
    "DTEND": "End",
    "LOCATION": "Place",
    "ORGANIZER": "Organizer",
    "DESCRIPTION": "Description",
}
"""Properties of an event that a person sees, and what they are called."""

_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d\d)?(Z?)")
_ESCAPES = {"\\n": "\n", "\\N": "\n", "\\,": ",", "\\;": ";", "\\\\": "\\"}
_ESCAPE = re.compile(r"\\[nN,;\\]")


def body_text(message: EmailMessage) -> str:
    """Return the texts and the invitations of a message in their order. HTML is preferred to plain text beside it."""
    texts = list(filter(None, _texts(message, 0)))
    body = None if texts else message.get_body(("html", "plain"))
    return "\n\n".join(texts) if body is None else _text_of(body)


def _texts(part: MIMEPart, depth: int) -> Iterator[str]:
    kind = part.get_content_type()
    if is_calendar(part):
        yield calendar_text(content_of(part))
    elif kind in ("text/plain", "text/html"):
        if not part.is_attachment() and not part.get_filename():
            yield _text_of(part)
    elif part.get_content_maintype() == "multipart" and depth < MAX_MULTIPART_DEPTH:
        inner = [(item, [text for text in _texts(item, depth + 1) if text]) for item in part.iter_parts()]
        if kind == "multipart/alternative":
            # The forms follow each other from the plainest to the richest.
            forms = [texts for item, texts in inner if texts and not is_calendar(item)]
            yield from forms[-1] if forms else ()
            inner = [(item, texts) for item, texts in inner if is_calendar(item)]
        for _, texts in inner:
            yield from texts


def is_calendar(part: MIMEPart) -> bool:
    """Return whether a part is an invitation."""
    return part.get_content_type() == "text/calendar"


def content_of(part: MIMEPart) -> str:
    """Return the decoded text of a part."""
    data = part.get_payload(decode=True)
    return decode_text(data, parameter(part, "charset", "content-type")) if isinstance(data, bytes) else ""


def parameter(part: MIMEPart, name: str, header: str) -> str:
    """Return a parameter of a header, decoded if it is encoded (RFC 2231), or "" if it is missing."""
    value = part.get_param(name, "", header)
    if isinstance(value, tuple):
        charset, _language, text = value
        return decode_text(text.encode("latin-1", "replace"), charset or "utf-8")
    return str(value)


def calendar_text(calendar: str) -> str:
    """Return what a person sees of the events of a calendar (RFC 5545), a line for each property."""
    lines: list[str] = []
    is_event = False
    for line in _FOLDED.sub("", calendar).splitlines():
        name, _, value = line.partition(":")
        name = name.partition(";")[0].upper()
        if name in ("BEGIN", "END") and value.strip().upper() in ("VEVENT", "VTODO"):
            is_event = name == "BEGIN"
        elif is_event and name in _EVENT_PROPERTIES and value.strip():
            lines.append(f"{_EVENT_PROPERTIES[name]}: {_property_text(name, value.strip())}")
    return "\n".join(lines)


def _property_text(name: str, value: str) -> str:
    if name == "ORGANIZER":
        return value.removeprefix("mailto:").removeprefix("MAILTO:")
    if (date := _DATE.fullmatch(value)) is not None:
        year, month, day, hour, minute, is_utc = date.groups()
        time = f" {hour}:{minute}" if hour else ""
        return f"{year}-{month}-{day}{time}{' UTC' if is_utc else ''}"
    return _ESCAPE.sub(lambda match: _ESCAPES[match[0]], value)


def _text_of(part: MIMEPart) -> str:
    if part.get_content_type() == "text/html":
        return _text_of_html(part)
    text = content_of(part).replace("\r\n", "\n").replace("\x00", "\ufffd")
    if parameter(part, "format", "content-type").lower() == "flowed":
        text = "\n".join(_unflowed(text, parameter(part, "delsp", "content-type").lower() == "yes"))
    return text.strip()


def _text_of_html(part: MIMEPart) -> str:
    """Return the text of a part of HTML, whose charset the part names, otherwise the HTML itself."""
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    if parameter(part, "charset", "content-type"):
        data = content_of(part).encode()
    if not data.strip():
        return ""
    try:
        sections = html.sections(SourceDocument("body.html", data))
        return "\n\n".join(text for _heading, text in sections).replace("\r\n", "\n").strip()
    except Unreadable:
        return ""


def _unflowed(text: str, joins_without_space: bool) -> Iterator[str]:
    """Yield the lines of a text that was broken for the transport: a line that ends with a space continues in the next
    line of the same quotation (RFC 3676).
    """
    paragraph = ""
    paragraph_marks = ""
    for line in text.split("\n"):
        quotation = _QUOTE_MARKS.match(line)
        marks = quotation[0].replace(" ", "") if quotation else ""
        content = line[len(quotation[0]) if quotation else 0 :].removeprefix(" " if not marks else "")
        if paragraph and marks != paragraph_marks:
            yield _quotation_line(paragraph_marks, paragraph.rstrip())
            paragraph = ""
        paragraph_marks = marks
        flows = content.endswith(" ") and content != "-- "
        paragraph += content[:-1] if flows and joins_without_space else content
        if not flows:
            yield _quotation_line(marks, paragraph)
            paragraph = ""
    if paragraph:
        yield _quotation_line(paragraph_marks, paragraph.rstrip())


def _quotation_line(marks: str, text: str) -> str:
    return f"{marks} {text}" if marks else text
