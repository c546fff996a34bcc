"""Links between passages: found by rules, followed by searches, stored with the chunks, shown to authorised callers."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import Connection, func, select
from tests.server.features.readers.documents import CHAIN_EVIDENCE, CHAIN_QUESTION, chain, write_files
from tests.server.features.stores.store_services import StoreServices, store_services

from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Filter, Search, SearchResult
from portico_server.db import links, links_progress
from portico_server.db.schema import chunks as chunk_table
from portico_server.db.schema import links as link_table
from portico_server.db.stores import StoreRow
from portico_server.features.stores import link_catch_up
from portico_server.features.stores.links.rules import LinkSource, question_terms, terms

CHAIN = chain(12)


async def names(
    shop: StoreServices,
    store: StoreRow,
    question: str = CHAIN_QUESTION,
    caller: Principal = LOCAL,
    **options: Any,
) -> list[str]:
    result = await shop.runner.call(
        "search", f"store/{store.id}", Search(question, max_num_results=5, **options), caller
    )
    assert isinstance(result, SearchResult)
    return [passage.filename for passage in result.passages]


async def count(shop: StoreServices) -> int:
    def counted(connection: Connection) -> int:
        return int(connection.execute(select(func.count()).select_from(link_table)).scalar_one())

    return await shop.database.read(counted)


async def chunk_of(shop: StoreServices, store: StoreRow, filename: str) -> int:
    file = (await shop.stores.contents.by_name(await shop.stores.get(store.id, LOCAL), [filename]))[filename]

    def first(connection: Connection) -> int:
        query = select(func.min(chunk_table.c.id)).where(chunk_table.c.file_id == file.file_id)
        return int(connection.execute(query).scalar_one())

    return await shop.database.read(first)


# --- rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The Orlix lamp was built by Harwick Works in 1931.", {"orlix", "harwick works"}),
        ("Dr. Mara Velling's brother lives in Port Ansel. See below.", {"mara velling", "port ansel"}),
        ("The Bank of Tolven and NASA met J. R. Tolkien.", {"bank of tolven", "nasa", "j. r. tolkien"}),
        ("Call `load_config()` or parse_header, then fooBar.", {"load_config", "parse_header", "foobar"}),
        ("It replaces the K-19 and follows RFC 2119.", {"k-19", "rfc 2119"}),
        ('The novel "a quiet winter" was burnt.', {"quiet winter"}),
        ("See Section 4.2, Table 3 and Appendix B.", {"section 4.2", "table 3", "appendix b"}),
        ("More in [the guide](../setup/install.md#linux).", {"file setup/install.md"}),
        ("As said before.[^2]", {"footnote 2"}),
        ("这本《星槎三号》由顾明远所著。", {"星槎三号", "顾明远"}),
        ("云岭精密仪器公司位于澄溪市。", {"云岭精密仪器公司", "澄溪市"}),
        (
            "雲嶺精密儀器公司位於澄溪市。",
            {"云岭精密仪器公司", "澄溪市"},
        ),  # traditional characters are equivalent
        ("《星槎三号》,ＮＡＳＡ", {"星槎三号", "nasa"}),  # so are full-width letters
        ("见第4.2节、表3和第十二章。", {"section 4.2", "table 3", "chapter 12"}),
        ("工人一直手工装配琼澜牌显微镜。", {"琼澜牌"}),
    ],
)
def test_names_and_references_in_a_passage_are_extracted(text: str, named: set[str]) -> None:
    assert named <= {term.text for term in terms(LinkSource(text, filename="docs/a/b.md"))} | {
        term.text.replace("docs/", "") for term in terms(LinkSource(text, filename="docs/a/b.md"))
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("In Langhaven the shops close at noon.", {"langhaven"}),
        ("Langhaven is an old town.", set()),
        ("水从清沙江里抽。", {"清沙江"}),
    ],
)
def test_only_certain_names_get_the_name_weight(text: str, names: set[str]) -> None:
    assert {term.text for term in terms(LinkSource(text)) if term.weight >= links.NAME_WEIGHT} == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "and so on, as before.",
        "The. However, it is.",
        "我们都在这里等着他们。",
        "Shops close on Sundays. Little else is known.",
        "1234 5678",
        "\ud800 \x00",
    ],
)
def test_text_without_names_yields_no_names(text: str) -> None:
    assert [term for term in terms(LinkSource(text)) if term.weight >= links.NAME_WEIGHT] == []


def test_headings_define_names_and_section_references_stay_within_their_file() -> None:
    source = LinkSource("Turn it twice.", ("Manual", "4.2 The Orlix lamp"), "file-1", "manual.md", first=True)
    name_terms = {term.text: term for term in terms(source) if term.weight >= links.NAME_WEIGHT}
    assert {text: term.weight for text, term in name_terms.items()} == {
        "file manual.md": links.DEFINES_WEIGHT,
        "section 4.2": links.DEFINES_WEIGHT,
        "orlix lamp": links.DEFINES_WEIGHT,
        "orlix": links.DEFINES_WEIGHT,
    }
    reference = next(term for term in terms(LinkSource("See section 4.2.", (), "file-1")))
    elsewhere = next(term for term in terms(LinkSource("See section 4.2.", (), "file-2")))
    assert reference.key("vs_1") == name_terms["section 4.2"].key("vs_1") != elsewhere.key("vs_1")
    assert name_terms["orlix"].key("vs_1") != name_terms["orlix"].key("vs_2")


def test_terms_of_a_passage_and_of_a_question_are_bounded() -> None:
    question = " and ".join(f"Name{n:04} Works" for n in range(2_000))
    assert len(terms(LinkSource(question))) <= 40
    assert len(question_terms(question, "vs_1")) <= 400
    assert question_terms("what of the ORLIX lamp", "vs_1").keys() & {
        term.key("vs_1") for term in terms(LinkSource("The Orlix burned."))
    }


# --- searches ----------------------------------------------------------------------------------------


async def test_a_question_of_four_hops_is_answered_with_its_evidence_by_links_alone(
    shop: StoreServices,
) -> None:
    store = await shop.filled(CHAIN, linked=True)
    assert set((await names(shop, store))[:4]) == CHAIN_EVIDENCE
    assert not set(await names(shop, store, links=False)) >= CHAIN_EVIDENCE
    result = await shop.searched(store, CHAIN_QUESTION)
    [stage] = [stage for stage in result.trace if stage.name == "links"]
    assert stage.candidates and "passages" in stage.note
    assert all(0 <= passage.score <= 1 for passage in result.passages)
    plain = await shop.filled(CHAIN, name="plain")
    assert await names(shop, plain) == await names(shop, store, links=False)
    assert "links" not in {stage.name for stage in (await shop.searched(plain, CHAIN_QUESTION)).trace}
    assert await names(shop, store, ranker="lexical") == await names(
        shop, store, ranker="lexical", links=False
    )
    with pytest.raises(InvalidRequest) as error:
        await names(shop, plain, links=True)
    assert (error.value.code, error.value.param) == ("links_off", "links")


UNMARKED_NAMES = {
    "lower case": (
        "Under which contract does the supplier of the north gate pump deliver?",
        {
            "pump.txt": "We buy the north gate pump from oakfield castings, never from stock.",
            "terms.txt": "Whatever oakfield castings sends to the yard is covered by frame agreement KL-1355.",
        },
    ),
    "Chinese": (
        "北门水泵的供应商签的是哪份协议？",
        {
            "pump.txt": "去年冬天北门水泵坏了两次，由宏达轴业供货。",
            "terms.txt": "五月跟宏达轴业谈好了价格，一切按框架文本执行。",
        },
    ),
}


@pytest.mark.parametrize(("question", "evidence"), UNMARKED_NAMES.values(), ids=UNMARKED_NAMES)
async def test_names_without_capitals_lead_from_passage_to_passage(
    shop: StoreServices, question: str, evidence: dict[str, str]
) -> None:
    asides = {
        f"{number}.txt": f"Store the {part} pump dry. 第{number}条关于{part}的协议由供应商签字。"
        for number, part in enumerate(("iron", "brass", "slate", "amber", "flint", "birch", "chalk"))
    }
    store = await shop.filled({**asides, **evidence}, linked=True)
    assert set((await names(shop, store, question))[:3]) >= set(evidence)


async def test_links_follow_changed_and_removed_files(shop: StoreServices, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "docs", CHAIN)
    store = await shop.stores.create("book", LOCAL, folder=folder, links=True)
    await shop.sync(store)
    assert set((await names(shop, store))[:4]) == CHAIN_EVIDENCE
    count_before = await count(shop)
    lamp = await chunk_of(shop, store, "lamp.txt")

    async def beside_the_lamp() -> set[str]:
        view = await shop.stores.get(store.id, LOCAL)
        return {item.filename for item in (await shop.stores.links.neighbours(view, lamp)).data}

    assert await beside_the_lamp() == {"works.txt"}
    (folder / "works.txt").write_text("Nobody knows who set up anything there.")
    await shop.sync(store)
    assert await beside_the_lamp() == set()
    (folder / "works.txt").write_text(CHAIN["works.txt"])
    (folder / "spare.txt").write_text("The Quallin mill belongs to Harwick Works.")
    await shop.sync(store)
    assert await beside_the_lamp() == {"works.txt", "spare.txt"}
    assert await count(shop) > count_before
    for name in [*CHAIN, "spare.txt"][1:]:
        (folder / name).unlink()
    await shop.sync(store)
    assert 0 < await count(shop) <= 5
    await shop.stores.delete(store.id, LOCAL)
    assert await count(shop) == 0


async def test_enabling_links_catches_up_and_an_interrupted_run_continues(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_catch_up, "MAX_LINKED_CHUNKS", 3)
    store = await shop.filled(CHAIN)
    assert await count(shop) == 0
    # The daemon ends after writing only the first batch.
    await shop.database.write(_turned_on, store.id)
    first = sorted([await chunk_of(shop, store, name) for name in CHAIN])[:3]
    assert await shop.database.write(links_progress.catch_up, store.id, first, {}, keep=True)
    half = await shop.stores.get(store.id, LOCAL)
    assert (half.links, half.linked_to) == (True, first[-1])
    run = await shop.stores.jobs.link(half, True)
    assert run is not None
    assert await shop.result(run) == {"linked": len(CHAIN) - 3}
    again = await shop.stores.jobs.link(half, False)
    assert again is not None and await shop.result(again) == {"linked": len(CHAIN)}
    assert await count(shop) == 0
    on = await shop.stores.jobs.link(await shop.stores.get(store.id, LOCAL), True)
    assert on is not None and await shop.result(on) == {"linked": len(CHAIN)}
    linked_store = await shop.stores.get(store.id, LOCAL)
    assert (linked_store.links, linked_store.linked_to) == (True, None)
    assert set((await names(shop, linked_store))[:4]) == CHAIN_EVIDENCE
    assert await shop.stores.jobs.link(linked_store, True) is None


def _turned_on(connection: Connection, store_id: str) -> None:
    from portico_server.db import stores

    assert stores.change(connection, store_id, {"links": True, "linked_to": 0})


async def test_a_daemon_start_resumes_pending_linking(tmp_path: Path) -> None:
    async with store_services(tmp_path / "home") as shop:
        store = await shop.filled(CHAIN)
        await shop.database.write(_turned_on, store.id)
    async with store_services(tmp_path / "home") as shop:
        [run] = shop.begun
        assert await shop.result(run) == {"linked": len(CHAIN)}
        assert set((await names(shop, store))[:4]) == CHAIN_EVIDENCE


async def test_cycles_duplicate_pages_and_very_common_names_keep_link_walks_bounded(
    shop: StoreServices,
) -> None:
    circle = await shop.filled(
        {
            "a.md": "The Alpha Works wrote to Beta Works. See [b](b.md).",
            "b.md": "The Beta Works wrote to Gamma Works. See [c](c.md).",
            "c.md": "The Gamma Works wrote to Alpha Works. See [a](a.md).",
        },
        name="circle",
        linked=True,
    )
    assert set(await names(shop, circle, "Whom did Alpha Works write to?")) == {"a.md", "b.md", "c.md"}
    common_store = await shop.filled(
        {f"{n}.txt": "Zorbat Works made it." for n in range(30)}, name="same", linked=True
    )
    assert len(await names(shop, common_store, "What did Zorbat Works make?")) == 1
    text = "\n\n".join(
        f"Zorbat Works made the part number {n} of the machine in the hall." for n in range(400)
    )
    crowd = await shop.filled(
        {"crowd.txt": text},
        name="crowd",
        chunking={"type": "sentence", "size": 60, "overlap": 0},
        linked=True,
    )
    key = next(iter(term.key(crowd.id) for term in terms(LinkSource("Zorbat Works"))))
    assert await shop.database.read(links.naming, [key]) == []
    assert await names(shop, crowd, "Which part did Zorbat Works make?")
    [stage] = [stage for stage in (await shop.searched(crowd, "Zorbat Works")).trace if stage.name == "links"]
    assert stage.note.startswith("0 terms of the question")


async def test_a_question_of_ten_thousand_words_is_answered(shop: StoreServices) -> None:
    store = await shop.filled(CHAIN, linked=True)
    assert await names(shop, store, "Orlix lamp " + "of the Works in Port " * 2_500)


# --- rights ------------------------------------------------------------------------------------------


async def test_unreadable_passages_are_hidden_from_walks_neighbours_and_graphs(
    shop: StoreServices,
) -> None:
    teams = {name: {"team": "board" if name == "velling.txt" else "all"} for name in CHAIN}
    store = await shop.filled(CHAIN, attributes=teams, linked=True)
    reader = Principal("key_r", frozenset({"stores:*:read"}), ((store.id, Filter("eq", "team", "all")),))
    filenames = await names(shop, store, caller=reader)
    assert "velling.txt" not in filenames and {"lamp.txt", "works.txt"} <= set(filenames)
    assert "river.txt" not in filenames[:3]  # the link leading to it is hidden
    works, hidden = await chunk_of(shop, store, "works.txt"), await chunk_of(shop, store, "velling.txt")
    reader_view, full_view = await shop.stores.get(store.id, reader), await shop.stores.get(store.id, LOCAL)
    neighbours = await shop.stores.links.neighbours(reader_view, works)
    assert {item.filename for item in neighbours.data} == {"lamp.txt"}
    assert {item.filename for item in (await shop.stores.links.neighbours(full_view, works)).data} == {
        "lamp.txt",
        "velling.txt",
    }
    with pytest.raises(NotFound):
        await shop.stores.links.neighbours(reader_view, hidden)
    withheld = (await shop.stores.contents.by_name(full_view, ["velling.txt"]))["velling.txt"].file_id
    for file_id in (withheld, "file-none"):  # both get the same answer
        with pytest.raises(NotFound, match=f"no passage of the file '{file_id}'"):
            await shop.stores.links.chunk_at(reader_view, file_id, 0)
    graph = b"".join([piece async for piece in shop.stores.links.graph(reader_view)]).decode()
    assert "velling" not in graph.lower().replace("mara velling set up", "")
    assert "harwick works" in graph


async def test_neighbours_are_paged_and_unknown_chunks_are_not_found(shop: StoreServices) -> None:
    store = await shop.filled(
        {f"{n}.txt": f"Part {n} was made by Zorbat Works." for n in range(5)}, linked=True
    )
    view = await shop.stores.get(store.id, LOCAL)
    chunk = await chunk_of(shop, store, "0.txt")
    page = await shop.stores.links.neighbours(view, chunk, limit=3)
    next_page = await shop.stores.links.neighbours(view, chunk, after=3, limit=3)
    assert [len(page.data), page.has_more, len(next_page.data), next_page.has_more] == [3, True, 1, False]
    assert {(item.term, item.kind) for item in page.data} == {("zorbat works", "name")}
    assert not {item.chunk for item in page.data} & {item.chunk for item in next_page.data}
    file = (await shop.stores.contents.by_name(view, ["0.txt"]))["0.txt"]
    assert await shop.stores.links.chunk_at(view, file.file_id, 3) == chunk
    other_store = await shop.filled({"x.txt": "Part 9 was made by Zorbat Works."}, name="other", linked=True)
    strange = await chunk_of(shop, other_store, "x.txt")
    for unknown in (strange, 10**9):
        with pytest.raises(NotFound) as missing:
            await shop.stores.links.neighbours(view, unknown)
        assert missing.value.code == "chunk_not_found"
    with pytest.raises(NotFound):
        await shop.stores.links.chunk_at(view, "file-none", 0)


async def test_a_graph_is_graphml_with_every_node_that_an_edge_names(shop: StoreServices) -> None:
    store = await shop.filled({**CHAIN, "bad.txt": "The <Orlix> & 'Orlix' Orlix lamp."}, linked=True)
    view = await shop.stores.get(store.id, LOCAL)
    tree = ElementTree.fromstring(b"".join([piece async for piece in shop.stores.links.graph(view)]))
    space = {"g": "http://graphml.graphdrawing.org/xmlns"}
    nodes = [node.attrib["id"] for node in tree.iterfind(".//g:node", space)]
    ends = {edge.attrib[end] for edge in tree.iterfind(".//g:edge", space) for end in ("source", "target")}
    assert len(nodes) == len(set(nodes)) and ends <= set(nodes)
    assert sum(node.startswith("c") for node in nodes) == len(CHAIN) + 1


FERRIES = {
    "ferry.txt": "Professor Mara Velling boards the ferry in Harwick. The harbour is closed in a storm.",
    "storm.txt": "In Harwick, the ferry waits in the harbour for the end of the storm.",
    "tour.txt": "In Harwick, Mara Velling said that `ferry_count` is two. The storm is over, and the harbour opens.",
    "stars.txt": "The telescope collects the light of stars, and `ferry_count` is zero.",
    "mirror.txt": "A mirror of the telescope collects more light of the stars.",
    "camera.txt": "The mirror sends the light of stars from the telescope to a camera.",
}


async def test_a_graph_has_the_kind_of_each_name_and_the_theme_of_each_passage(shop: StoreServices) -> None:
    store = await shop.filled(FERRIES, linked=True)
    view = await shop.stores.get(store.id, LOCAL)
    themes = (await shop.stores.themes.read(store.id, store.name, None)).themes
    tree = ElementTree.fromstring(b"".join([piece async for piece in shop.stores.links.graph(view)]))
    space = {"g": "http://graphml.graphdrawing.org/xmlns"}
    nodes = [
        {data.attrib["key"]: data.text for data in node.iterfind("g:data", space)}
        for node in tree.iterfind(".//g:node", space)
    ]
    kinds = {node["label"]: node["term_kind"] for node in nodes if node["type"] == "term"}
    assert (kinds["mara velling"], kinds["harwick"], kinds["ferry_count"]) == ("person", "place", "code")
    passage_counts = Counter(node["theme"] for node in nodes if "theme" in node)
    assert passage_counts == {", ".join(theme.words): theme.passage_count for theme in themes}


# --- elsewhere ---------------------------------------------------------------------------------------


async def test_restoring_an_archive_rebuilds_the_links_of_its_store(
    shop: StoreServices, tmp_path: Path
) -> None:
    store = await shop.filled(CHAIN, linked=True)
    archive = tmp_path / "book.zip"
    with archive.open("wb") as file:
        async for piece in shop.stores.portable.export(await shop.stores.get(store.id, LOCAL)):
            file.write(piece)
    restored_store, _ = await shop.stores.portable.restore(archive, "again", LOCAL)
    assert restored_store.links
    while (row := await shop.stores.get(restored_store.id, LOCAL)).linked_to is not None:  # noqa: ASYNC110  # no run is named
        await asyncio.sleep(0.002)
    assert row.links
    assert set((await names(shop, restored_store))[:4]) == CHAIN_EVIDENCE
