"""Archives: every document in them is read by its own reader, whatever the compression, within safe limits."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from tests.server.features.readers import documents, office
from tests.server.features.readers.reading import Reading, stand_in_one_text

from portico_server.features.chunkers.document import Unreadable

MEMBERS = {
    "docs/guide.md": b"# Ports\n\nThe port is 7419.\n",
    "docs/费用.csv": "船,费\n帆船,四十\n".encode(),
    "pages.pdf": documents.pdf("The tide is high."),
    ".git/config": b"[core]",
    "photo.jpg": b"\xff\xd8\xff\x00" * 9,
    "drawing.svg": b"<svg/>",
}


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "tar.bz2", "tar.xz"])
async def test_documents_in_an_archive_are_read_each_by_its_kind(read: Reading, kind: str) -> None:
    modes = {"tar": "w:", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
    data = office.zipped(MEMBERS) if kind == "zip" else office.tarred(MEMBERS, modes[kind])
    parts = await read(f"all.{kind}", data)
    assert [part.place.heading for part in parts] == [
        ("docs/guide.md", "Ports"),
        ("docs/费用.csv",),
        ("pages.pdf",),
        (),
    ]
    assert parts[3].text.startswith("Not read:\nphoto.jpg is a damaged or truncated image")
    assert parts[1].text == "船 | 费\n帆船 | 四十"
    assert (parts[2].text, parts[2].place.page) == ("The tide is high.", 1)
    assert stand_in_one_text(parts)


@pytest.mark.parametrize(
    ("suffix", "packed"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
async def test_a_single_compressed_file_is_read_by_the_name_inside(
    read: Reading, suffix: str, packed: object
) -> None:
    [part] = await read(f"guide.md.{suffix}", packed(b"# Ports\n\nOpen."))  # type: ignore[operator]
    assert part.place.heading == ("guide.md", "Ports")


async def test_an_archive_in_a_mail_in_an_archive_is_read_and_no_deeper(read: Reading) -> None:
    inner = office.zipped({"deep.txt": "found it"})
    data = office.zipped({"post.eml": office.mail("Hi", "see", ("in.zip", inner))})
    assert any(part.text == "found it" for part in await read("out.zip", data))
    deeper = office.zipped({"more.zip": data})
    parts = await read("out.zip", office.zipped({"most.zip": deeper, "top.txt": "on top"}))
    assert "on top" in {part.text for part in parts}
    assert "more than 3 levels deep" in parts[-1].text
    assert "found it" not in {part.text for part in parts}


async def test_a_damaged_document_in_an_archive_is_named_and_the_rest_read(read: Reading) -> None:
    parts = await read("all.zip", office.zipped({"bad.pdf": b"%PDF-1.7 nothing", "good.txt": "fine"}))
    assert parts[0].text == "fine"
    assert "bad.pdf is not a complete PDF" in parts[-1].text
    assert stand_in_one_text(parts)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\b"])
async def test_a_path_that_leads_out_of_an_archive_is_refused(read: Reading, name: str) -> None:
    for kind, data in (("zip", office.zipped({name: "x"})), ("tar", office.tarred({name: b"x"}, "w:"))):
        with pytest.raises(Unreadable, match="leads out of the archive"):
            await read(f"evil.{kind}", data)


async def test_archive_bombs_are_refused(read: Reading) -> None:
    large_archive = office.zipped({f"{i}.txt": "x" for i in range(10_001)})
    with pytest.raises(Unreadable, match="10001 parts"):
        await read("many.zip", large_archive)
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", bytes(70 * 2**20))
    with pytest.raises(Unreadable, match="more than 64 MB"):
        await read("large.zip", large.getvalue())
    with pytest.raises(Unreadable, match="more than 64 MB"):
        await read("large.txt.gz", gzip.compress(b"a" * (70 * 2**20)))


async def test_tar_links_are_skipped_and_oversized_or_sparse_entries_refused(
    read: Reading,
) -> None:
    def entry(name: bytes, kind: int, size: int, body: bytes = b"") -> bytes:
        info = tarfile.TarInfo(name.decode("latin-1"))
        info.type, info.size, info.linkname = bytes([kind]), size, "/etc/passwd"
        head = info.tobuf(tarfile.GNU_FORMAT, "latin-1")
        return head + body + b"\0" * (-len(body) % 512)

    text = b"The port is 7419."
    valid_entry = entry(b"kept.txt", ord("0"), len(text), text)
    links = b"".join(entry(b"out.txt", kind, 2**30) for kind in b"12346")
    latin_entry = entry("é.txt".encode("latin-1"), ord("0"), len(text), text)
    parts = await read("odd.tar", links + valid_entry + latin_entry)
    assert [part.place.heading for part in parts] == [("kept.txt",), ("\ufffd.txt",)]
    sparse = tarfile.TarInfo("hole.txt")
    sparse.type, sparse.pax_headers = (
        tarfile.REGTYPE,
        {"GNU.sparse.major": "0", "GNU.sparse.size": str(2**40)},
    )
    pax = entry(b"x", ord("x"), 2**20, b"1" * 2**20)
    for hostile, reason in (
        (sparse.tobuf(tarfile.PAX_FORMAT), "sparse"),
        (entry(b"hole.txt", ord("S"), 0), "sparse file"),
        (pax, "exceeds 64 KB"),
        (entry(b"a.txt", ord("0"), 2**33), "gigabytes"),
        (entry(b"a.txt", ord("0"), 2**20), "it is truncated"),
        (links * 2_001, "more than 10,000 entries"),
    ):
        for packed in (bytes, gzip.compress):
            with pytest.raises(Unreadable, match=reason):
                await read("evil.tar", packed(valid_entry + hostile))


async def test_a_password_protected_archive_is_refused_with_that_reason(read: Reading) -> None:
    data = bytearray(office.zipped({"a.txt": "x"}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    with pytest.raises(Unreadable, match="protected by a password"):
        await read("locked.zip", bytes(data))


async def test_damaged_pictures_in_an_archive_are_named(read: Reading) -> None:
    [part] = await read("photos.zip", office.zipped({"a.jpg": b"\xff\xd8\xff\x00" * 9}))
    assert part.text.startswith("Not read:\na.jpg is a damaged or truncated image")


async def test_zip_member_names_are_decoded_in_their_original_encoding(read: Reading) -> None:
    encodings = {"合同.txt": "gbk", "契約のコピー.txt": "cp932", "Größe.txt": "cp437", "é.txt": "utf-8"}
    for name, encoding in encodings.items():
        raw = name.encode(encoding)
        data = office.zipped({"X" * len(raw): "The key is under the mat."}).replace(b"X" * len(raw), raw)
        (part,) = await read("old.zip", data)
        assert part.place.heading == (name,)
