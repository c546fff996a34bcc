"""A store that follows a Git repository."""

import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.features.sources.git_server import GitServer, serving
from tests.server.features.stores.store_services import store_services

from portico_server import git
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.features.sources import repository, spec


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with serving(tmp_path / "repositories") as server:
        yield server


@pytest.mark.slow
async def test_a_branch_is_mirrored_and_only_what_changed_is_read_again(
    tmp_path: Path, server: GitServer
) -> None:
    (server.folder / "secret.md").symlink_to("/etc/passwd")
    server.commit(
        docs__port_md="The lighthouse listens on port 7419.",
        docs__flower_txt="雪莲花生长在高山。",
        docs__empty_txt="",
        code_py="def harbour():\n    return 'boats'\n",
    )
    server.commit(_github__hidden_md="Hidden.")
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=f"git+{server.url}")
        result = await shop.sync(store)
        assert (result["added"], result["indexed"], result["failed"]) == (3, 3, 0), (
            result
        )  # one file is empty
        names = {row.filename for row in await shop.settled(store)}
        assert names == {"docs/port.md", "docs/flower.txt", "code.py"}
        assert (await shop.search(store, "Which port?")).passages[0].filename == "docs/port.md"
        assert (await shop.sync(store))["unchanged"] == len(names)

        server.git("mv", "docs/port.md", "docs/harbour.md")
        server.commit(docs__flower_txt="雪莲花已经谢了。", code_py=None)
        plan = await shop.stores.plan(store)
        assert plan.moved == (("docs/port.md", "docs/harbour.md"),)
        assert (plan.changed, plan.removed) == (("docs/flower.txt",), ("code.py",))
        result = await shop.sync(store)
        assert (result["moved"], result["changed"], result["removed"], result["added"]) == (1, 1, 1, 0)
        assert "谢了" in (await shop.search(store, "雪莲花")).passages[0].text

        mirror = tmp_path / "home" / "sources" / f"{store.id}.git"
        assert stat.S_IMODE(mirror.stat().st_mode) == 0o700
        for number in range(repository.MAX_FETCHES + 1):
            server.commit(docs__port_md=f"Port {number} of the lighthouse.")
            await shop.sync(store)
        assert len(list((mirror / "objects" / "pack").glob("*.pack"))) <= repository.MAX_FETCHES
        await shop.stores.update(store.id, LOCAL, {"source": f"git+{server.url}@main#subdirectory=docs"})
        await shop.sync(store)
        assert "port.md" in {row.filename for row in await shop.settled(store)}
        await shop.stores.delete(store.id, LOCAL)
        assert not mirror.exists()


async def test_a_login_is_sent_to_its_host_and_shown_nowhere(tmp_path: Path, server: GitServer) -> None:
    server.commit(a_md="The harbour.")
    server.login = "x-access-token:tok-1234"
    logins = f"example.com=other,{server.host}=tok-1234"
    async with store_services(tmp_path / "one", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=f"git+{server.url}")
        with pytest.raises(Unavailable, match=r"set or check source_logins, as 127\.0\.0\.1=TOKEN"):
            await shop.stores.plan(store)
    async with store_services(tmp_path / "two", tool_hosts=server.host, source_logins=logins) as shop:
        store = await shop.stores.create("manual", LOCAL, source=f"git+{server.url}")
        assert (await shop.sync(store))["added"] == 1
        mirror = tmp_path / "two" / "sources" / f"{store.id}.git"
        assert not any(b"tok-1234" in path.read_bytes() for path in mirror.rglob("*") if path.is_file())


async def test_an_unusable_repository_is_refused_and_its_files_stay_indexed(
    tmp_path: Path, server: GitServer
) -> None:
    server.commit(docs__a_md="The harbour.", docs__b_md="The boats.")
    async with store_services(tmp_path / "home", tool_hosts=server.host, source_max_files=2) as shop:
        store = await shop.stores.create("manual", LOCAL, source=f"git+{server.url}")
        await shop.sync(store)
        for source, message in [
            (f"git+{server.url}@nowhere", "no branch, tag or commit 'nowhere'"),
            (f"git+{server.url}#subdirectory=doc", "no folder 'doc'"),
            (f"git+{server.url}/other", "cannot be read"),
        ]:
            row = replace(store, source=spec.parse_source(source).kept())
            with pytest.raises(Unavailable, match=message):
                await shop.stores.plan(row)
        server.commit(docs__c_md="The nets.")
        with pytest.raises(InvalidRequest, match="more than 2 files"):
            await shop.stores.plan(store)
        assert len(await shop.settled(store)) == 2
        server.commit(docs__c_md=None, docs__b_md=None, docs__d_md="The sails.")
        store = await shop.stores.update(store.id, LOCAL, {"keep_removed": True})
        with pytest.raises(InvalidRequest, match="new documents in addition to 2 earlier ones"):
            await shop.stores.plan(store)
    async with store_services(tmp_path / "away") as shop:
        store = await shop.stores.create("manual", LOCAL, source=f"git+{server.url}")
        with pytest.raises(InvalidRequest, match="tool_hosts"):
            await shop.stores.plan(store)


def paths_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


class Objects:
    """Writes objects that Git's own commands for users refuse."""

    def __init__(self, server: GitServer) -> None:
        self._server = server

    def git(self, *command: str, given: bytes = b"") -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
        command = ("git", *identity, "-C", str(self._server.folder), *command)
        return subprocess.run(command, input=given, check=True, capture_output=True).stdout.decode().strip()

    def blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", given=data)

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """Return a tree of entries: mode, name, object id."""
        ordered = sorted(entries, key=lambda entry: entry[1] + (b"/" if entry[0] == "40000" else b""))
        data = b"".join(
            mode.encode() + b" " + name + b"\0" + bytes.fromhex(object_id)
            for mode, name, object_id in ordered
        )
        return self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", given=data)

    def publish(self, tree: str) -> None:
        self.git("update-ref", "HEAD", self.git("commit-tree", tree, "-m", "Change"))


async def test_hostile_entries_of_a_repository_are_skipped(tmp_path: Path, server: GitServer) -> None:
    server.commit(a_md="The harbour.")
    secret = tmp_path / "secret.md"
    secret.write_text("swordfish-7419")
    objects = Objects(server)
    text, config = objects.blob(b"The nets."), objects.blob(b"[core]\nfsmonitor=touch pwned\n")
    link = objects.blob(str(secret).encode())
    outside = objects.tree(("100644", b"up.md", text))
    names = [
        b"..",
        b".git",
        b".GIT",
        b"a\nb.md",
        b"a\x1b[2J.md",
        b"a\\b.md",
        b"\xff\xfe.md",
        b"n" * 300 + b".md",
    ]
    modules = objects.blob(b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch pwned"\n')
    objects.publish(
        objects.tree(
            *(("100644", name, text) for name in names),
            ("100644", b".gitattributes", objects.blob(b"*.md filter=evil export-subst ident\n")),
            ("100644", b".gitmodules", modules),
            ("100644", b"config", config),
            ("120000", b"link.md", link),
            ("120000", b"folder", objects.blob(b"/etc")),
            ("160000", b"x", "1" * 40),
            ("100755", b"run.md", text),
            ("40000", b"...", outside),
            ("40000", b"CON", outside),
            ("100644", b"sound.md", text),
        )
    )
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=f"git+{server.url}")
        await shop.sync(store)
        filenames = [row.filename for row in await shop.settled(store)]
        assert {"sound.md", "run.md"} <= set(filenames)
        assert not {"link.md", "folder", "x", "..", ".git"} & set(filenames)
        assert all(name.isprintable() and ".." not in name.split("/") for name in filenames), filenames
        passages = (await shop.search(store, "swordfish-7419")).passages
        assert not any("swordfish" in passage.text for passage in passages)
    assert "pwned" not in paths_below(tmp_path)


async def test_a_small_repository_that_lists_billions_of_files_is_refused(
    tmp_path: Path, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "MAX_OUTPUT_BYTES", 2**20)
    server.commit(a_md="The harbour.")
    objects = Objects(server)
    tree = objects.tree(*(("100644", b"%d.md" % n, objects.blob(b"Nets.")) for n in range(10)))
    for _ in range(9):
        tree = objects.tree(*(("40000", b"%d" % n, tree) for n in range(10)))
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=f"git+{server.url}")
        await shop.sync(store)
        objects.publish(tree)
        with pytest.raises(Unavailable, match="more than 1 MB of names"):
            await shop.stores.plan(store)
        assert [row.filename for row in await shop.settled(store)] == ["a.md"]
