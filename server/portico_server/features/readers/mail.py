"""Mail: a message (eml) or a mailbox (mbox). Each message yields sender, date and text, then its attachments.

Headers are decoded here, because Python's parser of headers takes quadratic time and decodes with any of its codecs.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import EmailPolicy

from portico_server.core.words import decode_text
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.mail_text import body_text, is_calendar, parameter

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Maximum size of a message including attachments, in bytes."""

MAX_MIME_HEADER_CHARS = 4_096
"""Maximum length of a header that describes a part of a message, such as Content-Type, in characters."""

_SHOWN = ("Subject", "From", "To", "Cc", "Date")
_BEGIN = re.compile(rb"From \S.*\d{4}\s*$")
_ENCODED_WORD = re.compile(r"=\?([^?*\s]{1,60})(?:\*[^?\s]{0,20})?\?([QqBb])\?([^?]*)\?=")
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")


class _MimeHeader(str):
    """A header as text, with the property that the email package expects of ``Content-Disposition``."""

    __slots__ = ()

    @property
    def content_disposition(self) -> str:
        return self.partition(";")[0].strip().lower()


class _MailPolicy(EmailPolicy):
    """Returns headers as decoded text."""

    def header_fetch_parse(self, name: str, value: str) -> _MimeHeader:
        if name.lower().startswith("content-") and len(value) > MAX_MIME_HEADER_CHARS:
            raise Unreadable(
                f"contains a header '{name[:40]}' of more than {MAX_MIME_HEADER_CHARS:,} characters. Save the "
                "message again, or add its text."
            )
        text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return _MimeHeader(_ENCODED_WORD.sub(_decoded_word, _BETWEEN_WORDS.sub("", text)))


_POLICY = _MailPolicy(refold_source="none")


def _decoded_word(match: re.Match[str]) -> str:
    """Return an encoded word as text (RFC 2047)."""
    charset, kind, encoded = match.groups()
    data = encoded.encode("utf-8", "replace")
    try:
        data_bytes = binascii.a2b_qp(data, header=True) if kind in "Qq" else binascii.a2b_base64(data + b"==")
    except binascii.Error:
        return match[0]
    return decode_text(data_bytes, charset)


def read(source: SourceDocument) -> Iterator[Part | SourceDocument]:
    """Yield each message with its subject as the heading, followed by its attached documents."""
    writer = PartWriter()
    has_parts = False
    for raw in _messages(source):
        message = message_from_bytes(raw, policy=_POLICY)
        if not message.keys():
            continue
        has_parts = True
        assert isinstance(message, EmailMessage)
        subject = _header(message, "Subject") or "(no subject)"
        source_documents = list(_attachments(message))
        lines = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
        lines += [f"Attachment: {item.name}" for item in source_documents]
        body = body_text(message)
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
    return " ".join((message[name] or "").replace("\x00", "").split())


def _attachments(message: EmailMessage) -> Iterator[SourceDocument]:
    for part in message.iter_attachments():
        file_name = parameter(part, "filename", "content-disposition") or parameter(
            part, "name", "content-type"
        )
        name = file_name.strip().replace("\x00", "").rpartition("/")[2]
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload(0) if part.is_multipart() else None
            if isinstance(inner, EmailMessage):
                yield SourceDocument(name or "message.eml", inner.as_bytes(policy=_POLICY))
            continue
        if is_calendar(part):
            continue  # the body has its events
        data = part.get_payload(decode=True)
        if name and isinstance(data, bytes) and data:
            yield SourceDocument(name, data)
