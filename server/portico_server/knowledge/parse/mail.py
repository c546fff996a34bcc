"""Mail: a message (eml) or a mailbox (mbox). Each message yields sender, date and text, then its attachments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart

from portico_server.knowledge.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.knowledge.parse import html

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Maximum size of a message including attachments, in bytes."""

_SHOWN = ("Subject", "From", "To", "Cc", "Date")
_BEGIN = re.compile(rb"From \S+.*\d{4}\s*$")


def read(source: SourceDocument) -> Iterator[Part | SourceDocument]:
    """Yield each message with its subject as the heading, followed by its attached documents."""
    writer = PartWriter()
    has_parts = False
    for raw in _messages(source):
        message = message_from_bytes(raw, policy=policy.default)
        if not message.keys():
            continue
        has_parts = True
        assert isinstance(message, EmailMessage)
        subject = _header(message, "Subject") or "(no subject)"
        source_documents = list(_attachments(message))
        lines = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
        lines += [f"Attachment: {item.name}" for item in source_documents]
        body = _body(message)
        yield writer.part("\n".join([*lines, "", body]).strip(), heading=(subject,))
        for item in source_documents:
            yield SourceDocument(item.name, item.content, (subject, item.name))
    if not has_parts:
        raise Unreadable("contains no message: headers such as From and Date are missing.")


def _messages(source: SourceDocument) -> Iterator[bytes]:
    """Yield the messages of a file. In a mailbox, a message begins with a line ``From ADDRESS DATE`` after an
    empty line.
    """
    with source.open() as file:
        lines: list[bytes] = []
        length = 0
        blank = True
        for line in file:
            if blank and _BEGIN.match(line):
                if lines:
                    yield b"".join(lines)
                lines, length = [], 0
                continue
            blank = not line.strip()
            lines.append(line[1:] if line.startswith(b">From ") else line)
            length += len(line)
            if length > MAX_MESSAGE_BYTES:
                raise Unreadable(f"contains a message of more than {MAX_MESSAGE_BYTES // 2**20} MB.")
        if any(line.strip() for line in lines):
            yield b"".join(lines)


def _header(message: EmailMessage, name: str) -> str:
    try:
        value = message[name]
    except (
        ValueError,
        IndexError,
        AttributeError,
    ):  # the parser raises these errors for certain malformed headers
        return ""
    return " ".join(str(value).replace("\x00", "").split()) if value else ""


def _body(message: EmailMessage) -> str:
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    text = _content(part)
    if part.get_content_type() == "text/html" and text.strip():
        text = "\n\n".join(
            body_text for _heading, body_text in html.sections(SourceDocument("body.html", text.encode()))
        )
    return text.replace("\r\n", "\n").replace("\x00", "\ufffd").strip()


def _content(part: MIMEPart) -> str:
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError, ValueError):  # an unknown charset
        data = part.get_payload(decode=True)
        return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""


def _attachments(message: EmailMessage) -> Iterator[SourceDocument]:
    for part in message.iter_attachments():
        name = (part.get_filename() or "").replace("\x00", "").rpartition("/")[2]
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload(0) if part.is_multipart() else None
            if isinstance(inner, EmailMessage):
                yield SourceDocument(name or "message.eml", inner.as_bytes(policy=policy.default))
            continue
        data = part.get_payload(decode=True)
        if name and isinstance(data, bytes) and data:
            yield SourceDocument(name, data)
