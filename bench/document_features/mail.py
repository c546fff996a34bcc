"""Mails (eml), each with one feature: written by Python's email package, and as other clients send them."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable, Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path

import docx
from reportlab.pdfgen.canvas import Canvas

from document_features.case import RED_SQUARE, Case, Feature, save

_START, _END = "The mole is closed", "Boats leave at dawn"
_SQUARE = base64.b64encode(RED_SQUARE).decode()
_IN_BASE64 = _SQUARE[:20]
_DATE = "Tue, 12 Mar 2024 08:15:00 +0100"


def cases(folder: Path) -> Iterator[Case]:
    """Write the mails and yield their cases."""
    for number, (feature, change) in enumerate(_WRITTEN.items()):
        message = EmailMessage()
        message["From"] = "Ida Holm <ida@harbour.example>"
        message["To"] = "Nils Berg <nils@quay.example>"
        message["Date"] = _DATE
        message["Subject"] = "Harbour rules"
        change(message)
        yield save(
            folder,
            "email",
            feature,
            "eml",
            message.as_bytes(policy=policy.default if number % 2 else policy.SMTP),
        )
    for feature, source in _SENT.items():
        content = source if isinstance(source, bytes) else source.encode()
        yield save(folder, "source", feature, "eml", content.replace(b"\n", b"\r\n"))


def _in_body(name: str, *shown: str, hidden: tuple[str, ...] = ()) -> Feature:
    """A feature between the first and the last paragraph of a mail."""
    return Feature(name, ("Harbour rules", _START, *shown, _END), hidden=hidden)


def _after_body(
    name: str,
    *shown: str,
    file: str = "",
    rows: tuple[tuple[str, ...], ...] = (),
    hidden: tuple[str, ...] = (),
) -> Feature:
    """A feature which a mail program shows below the text of the mail, such as an attachment.

    Some programs list the names of attachments above the text and others below it, so the name may be in any line.
    """
    return Feature(name, ("Harbour rules", _START, _END, *shown), ((file,), *rows) if file else rows, hidden)


def _text(middle: str = "") -> str:
    return f"{_START}.\n\n{middle}\n\n{_END}.\n" if middle else f"{_START}.\n\n{_END}.\n"


def _html(middle: str = "", head: str = "") -> str:
    return f"<html><head>{head}</head><body><p>{_START}.</p>\n{middle}\n<p>{_END}.</p></body></html>\n"


# ---- written by Python's email package -----------------------------------------------------------------------

_Change = Callable[[EmailMessage], None]


def _header(name: str, value: str) -> _Change:
    """Set a header of a mail with a plain body."""

    def change(message: EmailMessage) -> None:
        del message[name]
        message[name] = value
        message.set_content(_text())

    return change


def _body(middle: str, charset: str = "utf-8", cte: str | None = None) -> _Change:
    return lambda message: message.set_content(_text(middle), charset=charset, cte=cte)


def _html_body(middle: str, head: str = "") -> _Change:
    return lambda message: message.set_content(_html(middle, head), subtype="html")


def _attached(content: bytes, name: str, kind: str, body: str | None = None) -> _Change:
    def change(message: EmailMessage) -> None:
        message.set_content(_text() if body is None else body)
        maintype, subtype = kind.split("/")
        message.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)

    return change


def _pdf(*pages: str) -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file)
    for page in pages:
        canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _word(*paragraphs: str) -> bytes:
    document, file = docx.Document(), io.BytesIO()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    document.save(file)
    return file.getvalue()


def _zip(name: str, content: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def _with_html_alternative(message: EmailMessage) -> None:
    message.set_content(_text("This program shows no pewter."))
    message.add_alternative(_html("<p>The <b>lantern</b> is lit.</p>"), subtype="html")


def _with_same_alternative(message: EmailMessage) -> None:
    message.set_content(_text("The lantern is lit."))
    message.add_alternative(_html("<p>The lantern is lit.</p>"), subtype="html")


def _with_inline_picture(message: EmailMessage) -> None:
    message.set_content(_html('<p><img src="cid:square" alt="a red lantern"></p>'), subtype="html")
    message.add_related(RED_SQUARE, "image", "png", cid="<square>")


def _with_nested_parts(message: EmailMessage) -> None:
    message.set_content(_text("This program shows no pewter."))
    message.add_alternative(_html('<p>The <img src="cid:square" alt="lantern"> is lit.</p>'), subtype="html")
    html = message.get_payload(1)
    assert isinstance(html, EmailMessage)
    html.add_related(RED_SQUARE, "image", "png", cid="<square>")
    message.add_attachment("Dues are eleven crowns.\n", filename="dues.txt")


def _inner(subject: str, text: str) -> EmailMessage:
    inner = EmailMessage()
    inner["From"] = "Otto Falk <otto@pier.example>"
    inner["To"] = "Ida Holm <ida@harbour.example>"
    inner["Date"] = "Mon, 11 Mar 2024 10:00:00 +0100"
    inner["Subject"] = subject
    inner.set_content(text)
    return inner


def _with_mail(message: EmailMessage) -> None:
    message.set_content(_text())
    message.add_attachment(_inner("Capstan wanted", "Please send a windlass.\n"))


def _with_mail_of_html_and_attachment(message: EmailMessage) -> None:
    inner = _inner("Capstan wanted", "This program shows no pewter.\n")
    inner.add_alternative("<p>Please send a <i>windlass</i>.</p>", subtype="html")
    inner.add_attachment("Nine fathoms deep.\n", filename="sounding.txt")
    message.set_content(_text())
    message.add_attachment(inner)


def _with_mails_in_mails(message: EmailMessage) -> None:
    middle = _inner("Capstan wanted", "Please send a windlass.\n")
    middle.add_attachment(_inner("Bollard broken", "It fell at ebb.\n"))
    message.set_content(_text())
    message.add_attachment(middle)


def _with_two_of_a_name(message: EmailMessage) -> None:
    message.set_content(_text())
    for text in ("Dues are eleven crowns.\n", "Pilots wait at the buoy.\n"):
        message.add_attachment(text, filename="notes.txt")


_EVENT = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Quay//Planner//EN\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n"
    "UID:4711@harbour.example\r\nDTSTAMP:20240301T080000Z\r\nDTSTART:20240312T080000Z\r\nDTEND:20240312T090000Z\r\n"
    "SUMMARY:Mooring drill\r\nLOCATION:Quay nine\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
_EVENT_SOURCE = ("BEGIN:VEVENT", "DTSTART", "PRODID")


def _with_invitation_only(message: EmailMessage) -> None:
    message.set_content(_EVENT, subtype="calendar", params={"method": "REQUEST"})


def _with_hidden_headers(message: EmailMessage) -> None:
    message["X-Mailer"] = "Quaysender 7"
    message["X-Spam-Status"] = "No, score=quoin"
    message["Received"] = "from relay.gunwale.example by mx.thwart.example; Tue, 12 Mar 2024 08:15:02 +0100"
    message["DKIM-Signature"] = "v=1; a=rsa-sha256; d=harbour.example; s=kelson; b=ZGVja2hhbmQ="
    message.set_content(_text())


_CELLS = (
    "<tr><th>Berth</th><th>Dues</th></tr><tr><td>Lindau</td><td>thalers</td></tr>"
    "<tr><td>Ostend</td><td>crowns</td></tr>"
)
_CELL_ROWS = (("Berth", "Dues"), ("Lindau", "thalers"), ("Ostend", "crowns"))
_LONG_LINE = (
    "The pilot boards at the buoy and the tug waits by the groyne, "
    "while the lock keeper counts the barges of the convoy"
)

_WRITTEN: dict[Feature, _Change] = {
    Feature(
        "an umlaut in the subject", ("Liegeplätze im Außenhafen", _START, _END), hidden=("=?utf-8",)
    ): _header("Subject", "Liegeplätze im Außenhafen"),
    Feature(
        "a long Chinese subject",
        ("外港泊位费自九月一日起调整并适用于所有来访渔船与货船请各船长提前通知港务处办理手续", _START, _END),
    ): _header(
        "Subject", "外港泊位费自九月一日起调整并适用于所有来访渔船与货船请各船长提前通知港务处办理手续"
    ),
    Feature("a long subject over two lines", (_LONG_LINE, _START, _END)): _header("Subject", _LONG_LINE),
    Feature("a sender with an umlaut", ("Jürgen Weißhaupt", _START, _END)): _header(
        "From", "Jürgen Weißhaupt <juergen@quay.example>"
    ),
    Feature("a sender", ("Ida Holm", _START, _END)): _header("X-Priority", "3"),
    Feature("a comma in a sender", ("Holm, Ida", _START, _END)): _header(
        "From", '"Holm, Ida" <ida@harbour.example>'
    ),
    Feature("several recipients", ("Greta Lund", "Otto Falk", _START, _END)): _header(
        "To", "Greta Lund <greta@quay.example>, Otto Falk <otto@pier.example>"
    ),
    Feature("a copy to others", ("Pia Sund", _START, _END)): _header("Cc", "Pia Sund <pia@pier.example>"),
    Feature("a date", ("2024", _START, _END)): _header("X-Priority", "3"),
    _in_body("base64 text", "泊位费 crowns", hidden=("5rO",)): _body("泊位费 crowns.", cte="base64"),
    _in_body("quoted-printable text with long lines", _LONG_LINE, "zwölf", hidden=("=C3",)): _body(
        f"{_LONG_LINE}; zwölf Schlepper.", cte="quoted-printable"
    ),
    _in_body("an equals sign in quoted-printable text", "tide=ebb zwölf", hidden=("=3D",)): _body(
        "tide=ebb zwölf", cte="quoted-printable"
    ),
    _in_body("ISO-8859-1 text", "Gebühr für Außenhäfen"): _body("Gebühr für Außenhäfen.", "iso-8859-1"),
    _in_body("ISO-2022-JP text", "港の係留料"): _body("港の係留料", "iso-2022-jp"),
    _in_body("GB18030 text", "泊位费每日十二元"): _body("泊位费每日十二元", "gb18030", "base64"),
    _in_body("Windows-1252 text", "“ebb” costs 12 €"): _body(
        "An “ebb” costs 12 €.", "windows-1252", "quoted-printable"
    ),
    _in_body("KOI8-R text", "причал закрыт"): _body("причал закрыт", "koi8-r", "8bit"),
    _in_body("an HTML alternative", "lantern is lit", hidden=("pewter",)): _with_html_alternative,
    _in_body("an HTML alternative with the same text", "lantern is lit", hidden=("dawn. The mole",)): (
        _with_same_alternative
    ),
    _in_body("HTML only", "lantern", "is lit", hidden=("<b>",)): _html_body(
        "<p>The <b>lantern</b> is lit.</p>"
    ),
    Feature(
        "a table in HTML",
        ("Harbour rules", _START, "Berth", "Dues", "Lindau", "thalers", "Ostend", "crowns", _END),
        _CELL_ROWS,
    ): _html_body(f"<table>{_CELLS}</table>"),
    Feature(
        "tables for layout in HTML",
        ("Harbour rules", _START, "Berth", "Dues", "Lindau", "thalers", "Ostend", "crowns", _END),
        _CELL_ROWS,
    ): _html_body(
        f'<table role="presentation" width="100%"><tr><td align="center"><table>{_CELLS}</table></td></tr></table>'
    ),
    _in_body("a list in HTML", "tug", "barge", hidden=("tugbarge",)): _html_body(
        "<ul><li>tug</li><li>barge</li></ul>"
    ),
    _in_body("lines broken in HTML", "tug", "barge", hidden=("tugbarge",)): _html_body(
        "<div>tug<br>barge</div>"
    ),
    _in_body("entities in HTML", "Nord & Söhne", "12 €"): _html_body(
        "<p>Nord&nbsp;&amp; S&ouml;hne pay 12&#160;&euro;.</p>"
    ),
    _in_body("a style and a script in HTML", "lantern", hidden=("gunwale", "kelson")): _html_body(
        "<p>The lantern is lit.</p><script>track('kelson')</script>", "<style>.gunwale {color: red}</style>"
    ),
    _in_body("a comment in HTML", "lantern", hidden=("gunwale",)): _html_body(
        "<!-- gunwale --><p>A lantern.</p>"
    ),
    _in_body("hidden text for the preview", "lantern", hidden=("gunwale",)): _html_body(
        '<div style="display:none;mso-hide:all">See the gunwale first</div><p>A lantern.</p>'
    ),
    _in_body("text of size 0 for the preview", "lantern", hidden=("gunwale",)): _html_body(
        '<div style="font-size:0;line-height:0;max-height:0;opacity:0;overflow:hidden">See the gunwale</div>'
        "<p>A lantern.</p>"
    ),
    _in_body("a picture that counts readers", "lantern", hidden=("gunwale",)): _html_body(
        '<p>A lantern.</p><img src="https://count.example/open.gif?id=gunwale" width="1" height="1" alt="">'
    ),
    _in_body("an earlier mail quoted in HTML", "lantern", "Otto Falk wrote", "windlass"): _html_body(
        '<p>A lantern.</p><div class="gmail_quote"><div>On Monday Otto Falk wrote:</div>'
        '<blockquote style="border-left:1px solid">Send a windlass.</blockquote></div>'
    ),
    _after_body("a text attachment", "eleven crowns", file="dues.txt"): _attached(
        b"Dues are eleven crowns.\n", "dues.txt", "text/plain"
    ),
    _after_body(
        "a CSV attachment", "Lindau", "thalers", "Ostend", file="dues.csv", rows=(("Lindau", "thalers"),)
    ): (_attached(b"Berth,Dues\r\nLindau,thalers\r\nOstend,crowns\r\n", "dues.csv", "text/csv")),
    _after_body(
        "an HTML attachment", "eleven", "crowns", file="dues.html", hidden=("<b>", "gunwale")
    ): _attached(
        b"<html><head><style>.gunwale{}</style></head><p>Dues are <b>eleven</b> crowns.</p></html>",
        "dues.html",
        "text/html",
    ),
    _after_body(
        "a PDF attachment", "eleven crowns", "nine thalers", file="dues.pdf", hidden=("JVBERi",)
    ): _attached(_pdf("Dues are eleven crowns", "Pilots get nine thalers"), "dues.pdf", "application/pdf"),
    _after_body(
        "a Word attachment", "eleven crowns", "nine thalers", file="dues.docx", hidden=("UEsDB",)
    ): _attached(
        _word("Dues are eleven crowns.", "Pilots get nine thalers."),
        "dues.docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    _after_body("a zip attachment", file="charts.zip", hidden=("UEsDB",)): _attached(
        _zip("soundings.txt", "Nine fathoms.\n"), "charts.zip", "application/zip"
    ),
    _after_body("a picture attachment", file="lantern.png", hidden=(_IN_BASE64,)): _attached(
        RED_SQUARE, "lantern.png", "image/png"
    ),
    _after_body("an attachment of unknown kind", file="winch.bin", hidden=("AAECA",)): _attached(
        bytes(range(64)), "winch.bin", "application/octet-stream"
    ),
    _after_body(
        "an umlaut in the name of an attachment", "eleven crowns", file="Gebühren für Außenhäfen.txt"
    ): _attached(b"Dues are eleven crowns.\n", "Gebühren für Außenhäfen.txt", "text/plain"),
    _after_body("a Chinese name of an attachment", "eleven crowns", file="外港泊位费.txt"): _attached(
        b"Dues are eleven crowns.\n", "外港泊位费.txt", "text/plain"
    ),
    _after_body("two attachments with one name", "eleven crowns", "at the buoy"): _with_two_of_a_name,
    Feature("an attachment without a text", ("Harbour rules", "eleven crowns"), (("dues.txt",),)): _attached(
        b"Dues are eleven crowns.\n", "dues.txt", "text/plain", body=""
    ),
    _after_body("a mail in a mail", "Capstan wanted", "a windlass"): _with_mail,
    _after_body(
        "a mail in a mail with an attachment",
        "Capstan wanted",
        "a windlass",
        "Nine fathoms",
        file="sounding.txt",
        hidden=("pewter",),
    ): _with_mail_of_html_and_attachment,
    _after_body("a mail in a mail in a mail", "Capstan wanted", "a windlass", "Bollard broken", "at ebb"): (
        _with_mails_in_mails
    ),
    _in_body("a picture in the text", "a red lantern", hidden=(_IN_BASE64,)): _with_inline_picture,
    Feature(
        "parts in parts",
        ("Harbour rules", _START, "lantern", "is lit", _END, "eleven crowns"),
        (("dues.txt",),),
        hidden=("pewter", _IN_BASE64),
    ): _with_nested_parts,
    Feature("an invitation", ("Harbour rules", "Mooring drill", "Quay nine"), hidden=_EVENT_SOURCE): (
        _with_invitation_only
    ),
    _after_body(
        "an attached calendar", "Mooring drill", "Quay nine", file="drill.ics", hidden=_EVENT_SOURCE
    ): _attached(_EVENT.encode(), "drill.ics", "text/calendar"),
    _in_body("a signature", "lantern", "Ida Holm", "Harbour master"): lambda message: message.set_content(
        f"{_START}.\n\nA lantern.\n\n-- \nIda Holm\nHarbour master\n{_END}.\n"
    ),
    _in_body("a forwarded text", "Forwarded message", "Capstan wanted", "a windlass"): _body(
        "---------- Forwarded message ---------\nFrom: Otto Falk <otto@pier.example>\nDate: Mon, 11 Mar 2024\n"
        "Subject: Capstan wanted\nTo: <ida@harbour.example>\n\nPlease send a windlass."
    ),
    _in_body(
        "answers between quoted lines", "Is the crane free", "until noon", "And the tug", "under repair"
    ): _body(
        "> Is the crane free?\nYes, until noon.\n\n> And the tug?\n>> (the old tug)\nIt is under repair."
    ),
    _in_body("headers for programs", hidden=("Quaysender", "quoin", "gunwale", "thwart", "kelson")): (
        _with_hidden_headers
    ),
}


# ---- as other clients send them ------------------------------------------------------------------------------


def _mail(headers: str, body: str, *, subject: str = "Harbour rules") -> str:
    return (
        f"From: Ida Holm <ida@harbour.example>\nTo: Nils Berg <nils@quay.example>\nDate: {_DATE}\n"
        f"Subject: {subject}\nMIME-Version: 1.0\n{headers}\n\n{body}"
    )


def _plain(middle: str, parameters: str = "charset=utf-8", encoding: str = "8bit") -> str:
    return _mail(
        f"Content-Type: text/plain; {parameters}\nContent-Transfer-Encoding: {encoding}", _text(middle)
    )


def _in_charset(middle: str, charset: str, codec: str | None = None) -> bytes:
    return _plain(middle, f"charset={charset}").encode(codec or charset)


def _parts(kind: str, *parts: str, boundary: str = "=_hawser", before: str = "", end: str = "--") -> str:
    """Return a multipart with these parts, which begin with their headers."""
    divided = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="{boundary}"\n\n{before}{divided}--{boundary}{end}\n'


def _multipart(kind: str, *parts: str, before: str = "", end: str = "--") -> str:
    headers, _, body = _parts(kind, *parts, before=before, end=end).partition("\n\n")
    return _mail(headers, body)


def _part(kind: str, content: str, headers: str = "") -> str:
    return f"Content-Type: {kind}\n{headers}\n{content}"


_TEXT_PART = _part("text/plain; charset=utf-8", _text())
_DUES = "Dues are eleven crowns.\n"
_IN_TWO_WORDS = "\n ".join(
    f"=?utf-8?B?{base64.b64encode(part.encode()).decode()}?=" for part in ("Hafengeb", "ühren")
)
_PICTURE_PART = _part(
    "image/png; name=image001.png",
    f"{_SQUARE}\n",
    "Content-Transfer-Encoding: base64\nContent-ID: <square>\n",
)
_INNER_MAIL = (
    "From: Otto Falk <otto@pier.example>\nTo: Ida Holm <ida@harbour.example>\nSubject: Capstan wanted\n"
    "Content-Type: text/plain; charset=utf-8\n\nPlease send a windlass.\n"
)

_SENT: dict[Feature, str | bytes] = {
    Feature("a Q-encoded subject", ("Liegeplätze im Winter", _START, _END), hidden=("plätze_im",)): _mail(
        "Content-Type: text/plain; charset=utf-8",
        _text(),
        subject="=?windows-1252?Q?Liegepl=E4tze_im_Winter?=",
    ),
    Feature("a subject in two encoded words", ("Hafengebühren", _START, _END)): _mail(
        "Content-Type: text/plain; charset=utf-8", _text(), subject=_IN_TWO_WORDS
    ),
    Feature("an encoded word in a plain subject", ("Re: Gebühr paid", _START, _END)): _mail(
        "Content-Type: text/plain; charset=utf-8", _text(), subject="Re: =?iso-8859-1?q?Geb=FChr?= paid"
    ),
    Feature("a GB2312 subject", ("泊位费通知", _START, _END)): _mail(
        "Content-Type: text/plain; charset=utf-8",
        _text(),
        subject=f"=?gb2312?B?{base64.b64encode('泊位费通知'.encode('gb2312')).decode()}?=",
    ),
    Feature("an ISO-2022-JP subject", ("港の係留料", _START, _END)): _mail(
        "Content-Type: text/plain; charset=utf-8",
        _text(),
        subject=f"=?ISO-2022-JP?B?{base64.b64encode('港の係留料'.encode('iso-2022-jp')).decode()}?=",
    ),
    Feature("a subject in raw UTF-8", ("Liegeplätze im Winter", _START, _END)): _mail(
        "Content-Type: text/plain; charset=utf-8", _text(), subject="Liegeplätze im Winter"
    ),
    Feature("a subject folded with a tab", ("Harbour rules of spring", _START, _END)): _mail(
        "Content-Type: text/plain; charset=utf-8", _text(), subject="Harbour rules\n\tof spring"
    ),
    Feature("header names in small letters", ("Harbour rules", _START, "lantern", _END)): (
        f"from: ida@harbour.example\nto: nils@quay.example\nsubject: Harbour rules\ndate: {_DATE}\n"
        f"content-type: text/plain; charset=utf-8\n\n{_text('A lantern.')}"
    ),
    _in_body("no MIME headers", "lantern"): (
        f"From: ida@harbour.example\nTo: nils@quay.example\nDate: {_DATE}\nSubject: Harbour rules\n\n"
        f"{_text('A lantern.')}"
    ),
    _in_body("the first line of a mailbox", "lantern"): (
        f"From ida@harbour.example Tue Mar 12 08:15:00 2024\n{_plain('A lantern.')}"
    ),
    _in_body("flowed text", "The tug waits by the groyne until the pilot boards"): _plain(
        "The tug waits \nby the groyne \nuntil the pilot boards.", "charset=utf-8; format=flowed"
    ),
    _in_body("flowed text with DelSp", "Kaimauern", hidden=("Kaimau ern",)): _plain(
        "Alle Kaimau \nern sind nass.", "charset=utf-8; format=flowed; delsp=yes"
    ),
    _in_body("flowed quotes", "The tug waits by the groyne", "until noon"): _plain(
        "> The tug waits \n> by the groyne.\nYes, until noon.", "charset=utf-8; format=flowed"
    ),
    _in_body("a soft break in a word", "The groyne is wet", hidden=("gro=", "gro yne")): _plain(
        "The gro=\nyne is wet.", encoding="quoted-printable"
    ),
    _in_body("small letters in quoted-printable text", "Gebühr"): _plain(
        "Die Geb=c3=bchr.", encoding="Quoted-Printable"
    ),
    _in_body("base64 in one line", "lantern"): _mail(
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: BASE64",
        base64.b64encode(_text("A lantern. " + _LONG_LINE).encode()).decode() + "\n",
    ),
    _in_body("a charset in quotes", "Gebühr"): _plain("Die Gebühr.", 'charset="UTF-8"'),
    _in_body("a charset without a hyphen", "Gebühr"): _plain("Die Gebühr.", "charset=utf8"),
    _in_body("GBK text said to be GB2312", "朱镕基的泊位"): _in_charset("朱镕基的泊位", "gb2312", "gbk"),
    _in_body("Windows-1252 text said to be ISO-8859-1", "“ebb” tide"): _in_charset(
        "The “ebb” tide.", "iso-8859-1", "windows-1252"
    ),
    _in_body("Shift-JIS text", "港の係留料"): _in_charset("港の係留料", "shift_jis"),
    _in_body("Big5 text", "碼頭泊位費"): _in_charset("碼頭泊位費", "big5"),
    _in_body("Korean text of Outlook", "항구 요금"): _in_charset("항구 요금", "ks_c_5601-1987", "cp949"),
    _in_body("Windows-1251 text", "причал закрыт"): _in_charset("причал закрыт", "windows-1251"),
    _in_body("a charset in the HTML only", "Gebühr"): _mail(
        "Content-Type: text/html\nContent-Transfer-Encoding: 8bit",
        _html(
            "<p>Die Gebühr.</p>", '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">'
        ),
    ).encode("windows-1252"),
    _in_body("text between the parts", hidden=("multi-part message",)): _multipart(
        "mixed", _TEXT_PART, before="This is a multi-part message in MIME format.\n"
    ),
    _in_body("parts without an end", "lantern"): _mail(
        'Content-Type: multipart/mixed; boundary="=_hawser"',
        f"--=_hawser\n{_part('text/plain; charset=utf-8', _text('A lantern.'))}",
    ),
    _in_body("parts of several charsets", "причал", "Gebühr"): b"".join(
        (
            _mail('Content-Type: multipart/mixed; boundary="=_hawser"', "--=_hawser\n").encode(),
            _part("text/plain; charset=koi8-r", f"{_START}.\n\nпричал\n\n").encode("koi8-r"),
            b"--=_hawser\n",
            _part("text/plain; charset=iso-8859-1", f"Gebühr\n\n{_END}.\n").encode("iso-8859-1"),
            b"--=_hawser--\n",
        )
    ),
    _in_body("text after a picture", "lantern", hidden=(_IN_BASE64,)): _multipart(
        "mixed",
        _part("text/plain; charset=us-ascii", f"{_START}.\n"),
        _PICTURE_PART.replace("\nContent-ID", "\nContent-Disposition: inline\nContent-ID"),
        _part("text/plain; charset=us-ascii", f"A lantern.\n\n{_END}.\n"),
    ),
    _in_body("a picture within the alternative", "a red lantern", hidden=("pewter", _IN_BASE64)): _multipart(
        "alternative",
        _part("text/plain; charset=utf-8", _text("No pewter here.")),
        _parts(
            "related",
            _part("text/html; charset=utf-8", _html('<p><img src="cid:square" alt="a red lantern"></p>')),
            _PICTURE_PART,
            boundary="=_inner",
        ),
    ),
    _in_body("paragraphs of Outlook", "lantern", "windlass", hidden=("o:p", "MsoNormal")): _mail(
        "Content-Type: text/html; charset=utf-8",
        _html(
            '<p class="MsoNormal">A lantern.<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p>'
            '<p class="MsoNormal">A windlass.<o:p></o:p></p>',
            "<style><!-- p.MsoNormal {margin:0cm;} --></style>",
        ),
    ),
    _in_body("an earlier mail in Outlook", "lantern", "Otto Falk", "Capstan wanted", "a windlass"): _mail(
        "Content-Type: text/html; charset=utf-8",
        _html(
            '<p>A lantern.</p><div style="border:none;border-top:solid #E1E1E1 1.0pt"><p><b>From:</b> Otto Falk<br>'
            "<b>Sent:</b> Monday<br><b>Subject:</b> Capstan wanted</p></div><p>Send a windlass.</p>"
        ),
    ),
    _in_body("an AMP alternative", "lantern", hidden=("gunwale", "pewter")): _multipart(
        "alternative",
        _part("text/plain; charset=utf-8", _text("No pewter here.")),
        _part(
            "text/x-amp-html; charset=utf-8", "<!doctype html><html amp4email><body>The gunwale</body></html>"
        ),
        _part("text/html; charset=utf-8", _html("<p>A lantern.</p>")),
    ),
    _after_body("a continued file name", "eleven crowns", file="Gebühren der Außenhäfen.txt"): _multipart(
        "mixed",
        _TEXT_PART,
        _part(
            "text/plain; charset=utf-8",
            _DUES,
            "Content-Disposition: attachment;\n filename*0*=utf-8''Geb%C3%BChren%20der%20;\n"
            " filename*1*=Au%C3%9Fenh%C3%A4fen.txt\n",
        ),
    ),
    _after_body("an encoded word as file name", "eleven crowns", file="Gebühren.txt"): _multipart(
        "mixed",
        _TEXT_PART,
        _part(
            "text/plain; charset=utf-8",
            _DUES,
            'Content-Disposition: attachment; filename="=?utf-8?Q?Geb=C3=BChren.txt?="\n',
        ),
    ),
    _after_body("a file name of the content type", "eleven crowns", file="dues.txt"): _multipart(
        "mixed",
        _TEXT_PART,
        _part('text/plain; charset=utf-8; name="dues.txt"', _DUES, "Content-Disposition: attachment\n"),
    ),
    _after_body("a mail attached as a file", "Capstan wanted", "a windlass", file="request.eml"): _multipart(
        "mixed",
        _TEXT_PART,
        _part(
            "application/octet-stream; name=request.eml",
            f"{base64.encodebytes(_INNER_MAIL.encode()).decode()}",
            "Content-Disposition: attachment; filename=request.eml\nContent-Transfer-Encoding: base64\n",
        ),
    ),
    _after_body("a forwarded mail within", "Capstan wanted", "a windlass"): _multipart(
        "mixed", _TEXT_PART, _part("message/rfc822", _INNER_MAIL, "Content-Disposition: inline\n")
    ),
    Feature(
        "a digest", ("Harbour rules", "Capstan wanted", "a windlass", "Bollard broken", "at ebb")
    ): _multipart(
        "digest",
        f"\n{_INNER_MAIL}",
        "\n"
        + _INNER_MAIL.replace("Capstan wanted", "Bollard broken").replace(
            "Please send a windlass", "It fell at ebb"
        ),
    ),
    Feature("a bounce report", ("Harbour rules", "could not be delivered", "Capstan wanted")): _multipart(
        "report; report-type=delivery-status",
        _part("text/plain; charset=us-ascii", "Your mail could not be delivered.\n"),
        _part(
            "message/delivery-status",
            "Reporting-MTA: dns; mx.quay.example\n\nFinal-Recipient: rfc822; otto@pier.example\n"
            "Action: failed\nStatus: 5.2.2\nDiagnostic-Code: smtp; 552 mailbox full\n",
        ),
        _part("message/rfc822", _INNER_MAIL),
    ),
    _in_body("a part for Outlook only", "lantern", hidden=("eJ8+I",)): _multipart(
        "mixed",
        _part("text/plain; charset=utf-8", _text("A lantern.")),
        _part(
            'application/ms-tnef; name="winmail.dat"',
            "eJ8+IgAAAQaQCAAEAAAAAAABAAEAAQeQBgAIAAAA5AQAAAAAAADoAAEIgAcAGAAAAElQTS5NaWNy\n",
            'Content-Disposition: attachment; filename="winmail.dat"\nContent-Transfer-Encoding: base64\n',
        ),
    ),
    _in_body("a signature of S/MIME", "lantern", hidden=("MIIFvA",)): _multipart(
        "signed; protocol=application/pkcs7-signature",
        _part("text/plain; charset=utf-8", _text("A lantern.")),
        _part(
            "application/pkcs7-signature; name=smime.p7s",
            "MIIFvAYJKoZIhvcNAQcCoIIFrTCCBakCAQExDTALBglghkgBZQMEAgEwCwYJKoZIhvcNAQcBoIID\n",
            "Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=smime.p7s\n",
        ),
    ),
    Feature(
        "an invitation beside a text",
        ("Harbour rules", _START, "lantern", _END),
        hidden=("pewter", *_EVENT_SOURCE),
    ): _multipart(
        "alternative",
        _part("text/plain; charset=utf-8", _text("No pewter here.")),
        _part("text/html; charset=utf-8", _html("<p>A lantern.</p>")),
        _part("text/calendar; charset=utf-8; method=REQUEST", _EVENT.replace("\r\n", "\n")),
    ),
    Feature(
        "an invitation with folded lines",
        ("Harbour rules", "Mooring drill of spring", "Quay nine, berth two"),
        hidden=("dr ill", *_EVENT_SOURCE),
    ): _mail(
        "Content-Type: text/calendar; charset=utf-8; method=REQUEST",
        _EVENT.replace("\r\n", "\n")
        .replace("Mooring drill", "Mooring dr\n ill of spring")
        .replace("Quay nine", "Quay nine\\, berth two"),
    ),
}
