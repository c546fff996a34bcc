"""STEP models and IFC buildings: which parts are read, and how a passage states its position."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.server.features.readers.reading import Reading, stand_in_one_text

from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers import step, step_file


def written(schema: str, lines: Iterable[str], name: str = "boat.stp") -> bytes:
    """Return an exchange structure file with these lines as its data."""
    return "\n".join(
        [
            "ISO-10303-21;",
            "HEADER;",
            "FILE_DESCRIPTION(('A rowing boat','for two'),'2;1');",
            f"FILE_NAME('{name}','2026-11-20T10:00:00',('M. Larsen'),",
            "('Harbour\\X2\\96EA83B2\\X0\\'),'Writer 3','CAD 9','');",
            f"FILE_SCHEMA(('{schema}'));",
            "ENDSEC;",
            "DATA;",
            *lines,
            "ENDSEC;",
            "END-ISO-10303-21;",
            "",
        ]
    ).encode()


def product(number: int, name: str, about: str = "") -> list[str]:
    """Return a product with its definition, which has the ``number``."""
    at = number * 1_000
    return [
        f"#{at}=PRODUCT('P-{number}','{name}','{about}',(#1));",
        f"#{at + 1}=PRODUCT_DEFINITION_FORMATION_WITH_SPECIFIED_SOURCE('','',#{at},.NOT_KNOWN.);",
        f"#{number}=PRODUCT_DEFINITION('design','',#{at + 1},#2);",
    ]


def used(whole: int, *parts: int) -> list[str]:
    at = whole * 1_000 + 500
    return [
        f"#{at + number}=NEXT_ASSEMBLY_USAGE_OCCURRENCE('{number}','','',#{whole},#{part},$);"
        for number, part in enumerate(parts)
    ]


BOAT = written(
    "AUTOMOTIVE_DESIGN { 1 0 10303 214 1 1 1 1 }",
    [
        "/* it's written #9=PRODUCT('never','read','',(#1));",
        "over two lines */ #7000=( LENGTH_UNIT() NAMED_UNIT(*) SI_UNIT(.MILLI.,.METRE.) );",
        "#7001=(NAMED_UNIT(*)PLANE_ANGLE_UNIT()SI_UNIT($,.RADIAN.));",
        *product(11, "Boat"),
        *product(12, "Oar; left (or ''right'')", "Ash wood"),
        *product(13, "\\X2\\87BA683C\\X0\\ M6 \\S\\D"),
        *product(14, "Rowlock"),
        *product(15, "Manual", "How to row"),
        *used(11, 12, 12, 14),
        *used(14, 13, 13, 13, 13),
        "#90=CARTESIAN_POINT('shape',(1.,2.,3.));",
    ],
)


async def test_a_model_is_read_by_its_assemblies(read: Reading) -> None:
    parts = await read("boat.stp", BOAT)
    assert stand_in_one_text(parts)
    about, boat, rowlock, alone = parts
    assert about.text.splitlines() == [
        "Model in STEP (AUTOMOTIVE_DESIGN)",
        "Description: A rowing boat, for two",
        "Name: boat.stp",
        "Date: 2026-11-20T10:00:00",
        "Author: M. Larsen",
        "Organisation: Harbour雪莲",
        "Written by: Writer 3",
        "Exported from: CAD 9",
        "Units: millimetre, radian",
        "Products: 5",
        "Assemblies: 2",
        "Uppermost: Boat (P-11)",
    ]
    assert boat.text.splitlines() == [
        "Assembly Boat (P-11), consists of:",
        "2 × Oar; left (or 'right') (P-12): Ash wood",
        "1 × Rowlock (P-14)",
    ]
    assert boat.place.line == 1 + BOAT[: BOAT.index(b"#11000=")].count(b"\n")
    assert rowlock.place.heading == ("Boat", "Rowlock")
    assert rowlock.text.splitlines() == [
        "Assembly Rowlock (P-14), part of Boat (P-11), consists of:",
        "4 × 螺格 M6 Ä (P-13)",
    ]
    assert alone.text == "Products:\nManual (P-15): How to row"


def rooted(number: int, kind: str, name: str, *more: str, owner: str = "$") -> str:
    return f"#{number}={kind}('{number:022d}',{owner},'{name}',{','.join(more) or '$'});"


HOUSE = written(
    "IFC4",
    [
        "#1=IFCSIUNIT(*,.LENGTHUNIT.,.MILLI.,.METRE.);",
        "#2=IFCCONVERSIONBASEDUNIT(#9,.PLANEANGLEUNIT.,'DEGREE',#9);",
        rooted(10, "IFCPROJECT", "Boat house", "'Winter storage'", "$", "$", "'Phase 2'", "(#9)", "#9"),
        rooted(11, "IFCSITE", "Quay"),
        rooted(12, "IFCBUILDING", "House"),
        rooted(13, "IFCBUILDINGSTOREY", "Ground floor", *["$"] * 6, "450."),
        rooted(14, "IFCBUILDINGSTOREY", "Roof", *["$"] * 6, "3200."),
        rooted(20, "IFCRELAGGREGATES", "", "$", "#10", "(#11)"),
        rooted(21, "IFCRELAGGREGATES", "", "$", "#11", "(#12)"),
        rooted(22, "IFCRELAGGREGATES", "", "$", "#12", "(#13,#14)"),
        rooted(30, "IFCWALLSTANDARDCASE", "Wall A"),
        rooted(31, "IFCWALLSTANDARDCASE", "Wall B"),
        rooted(32, "IFCDOOR", "Gate"),
        rooted(33, "IFCDOORTYPE", "Sliding gate", "$", "$", "(#42)"),
        rooted(34, "IFCPLATE", "Loose plate"),
        rooted(40, "IFCPROPERTYSET", "Pset_WallCommon", "$", "(#50,#51)"),
        rooted(41, "IFCELEMENTQUANTITY", "Qto_Wall", "$", "$", "(#52)"),
        rooted(42, "IFCPROPERTYSET", "Pset_DoorCommon", "$", "(#53,#54)"),
        "#50=IFCPROPERTYSINGLEVALUE('FireRating',$,IFCLABEL('F90'),$);",
        "#51=IFCPROPERTYSINGLEVALUE('LoadBearing',$,IFCBOOLEAN(.T.),$);",
        "#52=IFCQUANTITYLENGTH('Length',$,$,4250.500);",
        "#53=IFCPROPERTYENUMERATEDVALUE('Use',$,(IFCLABEL('Boats'),IFCLABEL('People')),$);",
        "#54=IFCPROPERTYBOUNDEDVALUE('Width',$,IFCREAL(3.),IFCREAL(2.5),$);",
        "#55=IFCMATERIAL('Oak');",
        rooted(60, "IFCRELCONTAINEDINSPATIALSTRUCTURE", "", "$", "(#30,#31,#32)", "#13"),
        rooted(61, "IFCRELDEFINESBYPROPERTIES", "", "$", "(#30,#31)", "#40"),
        rooted(62, "IFCRELDEFINESBYPROPERTIES", "", "$", "(#30)", "#41"),
        rooted(63, "IFCRELDEFINESBYTYPE", "", "$", "(#32)", "#33"),
        rooted(64, "IFCRELASSOCIATESMATERIAL", "", "$", "(#32)", "#55"),
    ],
    "house.ifc",
)


async def test_a_building_is_read_by_storeys_with_the_property_sets_of_its_elements(read: Reading) -> None:
    about, *parts = await read("house.ifc", HOUSE)
    assert stand_in_one_text([about, *parts])
    for line in (
        "Building model in IFC (IFC4)",
        "Units: length in millimetre, planeangle in degree",
        "Sites: 1",
        "Storeys: 2",
        "Elements: Wall (2), Door (1), Plate (1)",
    ):
        assert line in about.text.splitlines()
    storey = ("Boat house", "Quay", "House", "Ground floor")
    assert [(part.place.heading, part.text) for part in parts] == [
        (storey[:1], f"Project Boat house: Winter storage, Phase 2, GlobalId {10:022d}"),
        (storey[:2], f"Site Quay, GlobalId {11:022d}"),
        (storey[:3], f"Building House, GlobalId {12:022d}"),
        (
            storey,
            f"Storey Ground floor, elevation 450 mm, GlobalId {13:022d}\n"
            "Wall (2): Wall A, Wall B\nDoor (1): Gate",
        ),
        (
            (*storey, "Wall", "Attributes"),
            f"Name | GlobalId\nWall A | {30:022d}\nWall B | {31:022d}",
        ),
        (
            (*storey, "Wall", "Pset_WallCommon"),
            "Name | FireRating (fire rating) | LoadBearing (load bearing)\nWall A | F90 | yes\nWall B | F90 | yes",
        ),
        ((*storey, "Wall", "Qto_Wall"), "Name | Length\nWall A | 4250.5 mm"),
        ((*storey, "Door", "Attributes"), f"Name | GlobalId\nGate | {32:022d}"),
        ((*storey, "Door", "Type"), "Name | Type\nGate | Sliding gate"),
        ((*storey, "Door", "Material"), "Name | Material\nGate | Oak"),
        ((*storey, "Door", "Pset_DoorCommon"), "Name | Use | Width\nGate | Boats, People | 2.5 to 3"),
        ((*storey[:3], "Roof"), f"Storey Roof, elevation 3200 mm, GlobalId {14:022d}"),
        (("Plate",), "Plate (1): Loose plate"),
        (("Plate", "Attributes"), f"Name | GlobalId\nLoose plate | {34:022d}"),
    ]


@pytest.mark.parametrize(
    ("walls", "properties", "note"),
    [
        (1, 200, ""),
        (1, 250, "Not read:\nPset_Wide: the properties after the first 200 (50)"),
        (2, 101, "Not read:\nPset_Wide: the properties after the first 200 (2)"),
    ],
)
async def test_property_sets_that_are_read_in_part_are_named(
    read: Reading, walls: int, properties: int, note: str
) -> None:
    lines = []
    for wall in range(walls):
        numbers = range(1_000 * (wall + 1), 1_000 * (wall + 1) + properties)
        lines += [
            *(f"#{number}=IFCPROPERTYSINGLEVALUE('P{number}',$,IFCREAL(1.),$);" for number in numbers),
            rooted(10 + wall, "IFCWALL", f"Wall {wall}"),
            rooted(20 + wall, "IFCPROPERTYSET", "Pset_Wide", "$", f"(#{',#'.join(map(str, numbers))})"),
            rooted(30 + wall, "IFCRELDEFINESBYPROPERTIES", "", "$", f"(#{10 + wall})", f"#{20 + wall}"),
        ]
    *_parts, last = await read("wide.ifc", written("IFC4", lines, "wide.ifc"))
    assert last.text == note or (not note and "Not read" not in last.text)


def test_cyclic_assemblies_and_spaces_are_read_without_looping() -> None:
    circle = [*product(11, "Hen"), *product(12, "Egg"), *used(11, 12, 11), *used(12, 11)]
    parts = list(step.read(SourceDocument("a.step", written("AP242", circle))))
    assert "1 × Egg (P-12)" in parts[1].text
    rooms = [
        rooted(10, "IFCSPACE", "Inside"),
        rooted(11, "IFCSPACE", "Outside"),
        rooted(12, "IFCRELAGGREGATES", "", "$", "#10", "(#11,#10)"),
        rooted(13, "IFCRELAGGREGATES", "", "$", "#11", "(#10)"),
        rooted(14, "IFCWALL", "Own part"),
        rooted(15, "IFCRELAGGREGATES", "", "$", "#14", "(#14)"),
        rooted(16, "IFCPROPERTYSET", "Own", "$", "(#16,#99)"),
        rooted(17, "IFCRELDEFINESBYPROPERTIES", "", "$", "(#14,#98)", "#16"),
    ]
    text = "\n".join(part.text for part in step.read(SourceDocument("a.ifc", written("IFC2X3", rooms))))
    assert "Space Inside" in text
    assert "Own part" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"solid cube\nfacet normal 0 0 1\n", "is not a STEP file"),
        (BOAT[:-30], "is truncated"),
        (written("AP214", []), "has no data"),
        (b"\xff\xfe" + BOAT.decode().encode("utf-16-le"), "is not a STEP file"),
        (written("AP214", ["#1=CARTESIAN_POINT('',(1.));"] * 11), "more than 10 instances"),
        (
            written("AP214", ["#1=PRODUCT('a','a','',$);", "#2=PRODUCT('b','b','',$);"]),
            "more than 1 products",
        ),
        (written("AP214", ["#1=PRODUCT('a','a','',$);"] * 3 + ["x" * 6_000]), "more than 0 MB"),
    ],
)
def test_an_unreadable_step_file_is_refused_with_a_reason(
    content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_file, "MAX_INSTANCES", 10)
    monkeypatch.setattr(step_file, "MAX_KEPT_INSTANCES", 1)
    monkeypatch.setattr(step_file, "MAX_FILE_BYTES", 6_000)
    with pytest.raises(Unreadable, match=said):
        list(step.read(SourceDocument("a.stp", content)))


@pytest.mark.parametrize(
    "line",
    [
        "#5=PRODUCT('open",
        "#5=PRODUCT(" + "(" * 100_000,
        "#5=PRODUCT(" + ")" * 100_000 + ";",
        "A" * 1_000_000,
        "#1 " * 300_000,
        "(" * 200_000 + "'",
        "/*" * 200_000,
        "#5=PRODUCT(" + "'a" * 100_001,
        "#99999999999999999999=PRODUCT();",
        "#5=PRODUCT(\\X2\\ZZ\\X0\\,'\\X2\\D800\\X0\\\\X4\\FFFFFFFF\\X0\\\\S');",
        "#5=();#6=IFCWALL();#7=NEXT_ASSEMBLY_USAGE_OCCURRENCE($,$,$,$,$,$);",
    ],
)
def test_garbage_between_instances_neither_hangs_nor_breaks_the_reader(line: str) -> None:
    for schema in ("AP214", "IFC4"):
        data = written(schema, [*product(11, "Boat"), rooted(12, "IFCWALL", "Wall"), line])
        about, *_parts = step.read(SourceDocument("a.stp", data))
        assert schema in about.text


def test_a_large_model_is_read_within_its_limits() -> None:
    points = "".join(
        f"#{number}=CARTESIAN_POINT('',({number}.,0.,0.));\n" for number in range(50_000, 250_000)
    )
    about, *parts = step.read(SourceDocument("a.stp", written("AP214", [*product(11, "Boat"), points])))
    assert "Products: 1" in about.text
    assert parts[-1].text == "Products:\nBoat (P-11)"
