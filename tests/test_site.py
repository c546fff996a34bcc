"""The documentation site: every page exists, links resolve, and nothing loads from other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.browser import CHROMIUM, browser
from tests.daemon import ROOT
from tests.environments import alone

NO_PACKAGES = 75

EACH_FRAME = """new Promise((done, late) => {
  const look = () => (%s) ? done(true) : requestAnimationFrame(look);
  look();
  setTimeout(() => late(new Error("not within 30 s")), 30000);
})"""
"""Waits for changes in a shadow root, which a mutation observer of the document does not see."""


def build(place: Path, origin: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/site`` on the pages of a checkout; skip if its packages cannot be installed."""
    command = [sys.executable, str(ROOT / "scripts" / "site"), "--place", str(place), "--origin", str(origin)]
    with alone("site"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == NO_PACKAGES:
        pytest.skip(done.stderr.strip()[-300:])
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this checkout's site."""
    place = tmp_path_factory.mktemp("site")
    done = build(place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "html"


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Yield the address of the site on loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Do not log the browser's requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_every_page_is_built_and_a_recipe_shows_its_program(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT).with_suffix(".html")
        assert (site / (name.with_stem("index") if page.name == "README.md" else name)).is_file(), name
    for page in ("index.html", "README.zh.html"):
        recipe = (site / "docs" / "cookbook" / "coder" / page).read_text(encoding="utf-8")
        assert 'class="nc">Coder' in recipe and 'id="porticoyaml"' in recipe


def test_the_chinese_pages_are_linked_in_the_navigation(site: Path) -> None:
    guide = (site / "docs" / "guide.zh.html").read_text(encoding="utf-8")
    assert '<a href="./tutorial.zh.html" class="md-nav__link">' in guide


def test_no_page_takes_anything_from_another_host(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*href=\"?(?:https?:)?//"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 100
    assert [page for page in pages if loads.search(page.read_text(encoding="utf-8"))] == []
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert sheets and not any(re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet) for sheet in sheets)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
async def test_the_site_search_works_in_both_languages_and_dark_mode_follows_preference(
    address: str, tmp_path: Path
) -> None:
    async with browser(tmp_path) as page:
        await page.resize(1280, 900, dark=True)
        await page.open(f"{address}/index.html")
        await page.until("document.body.dataset.mdColorScheme === 'slate'")
        for words, page_address in (
            ("projection sandbox", "cookbook/coder/"),
            ("沙箱", "cookbook/code-in-a-sandbox/README.zh"),
        ):
            await page.open(f"{address}/index.html")
            await page.until("document.querySelector('.md-search__button')")
            await page.run("document.querySelector('.md-search__button').click()")
            roots = "[...document.querySelectorAll('*')].map(e => e.shadowRoot)"
            box = f"{roots}.find(root => root?.querySelector('input'))"
            await page.run(EACH_FRAME % f"{box} && ({box}.querySelector('input').focus(), true)")
            await page.ask("Input.insertText", text=words)
            await page.run(
                EACH_FRAME
                % f"[...{box}.querySelectorAll('a')].some(each => each.href.includes('{page_address}'))"
            )
        assert page.complaints == []


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout of a few pages whose site builds without complaints."""
    place = tmp_path_factory.mktemp("few")
    origin = place / "checkout"
    for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"):
        (origin / "docs" / "cookbook").mkdir(parents=True, exist_ok=True)
        (origin / name).write_text("# A page\n", encoding="utf-8")
        (origin / "docs" / "cookbook" / name).write_text("# A page\n", encoding="utf-8")
    done = build(place / "site", origin)
    assert done.returncode == 0, done.stdout + done.stderr
    return origin


@pytest.mark.parametrize("target", ["nowhere.md", "README.zh.md#nowhere"])
def test_a_link_to_nowhere_fails_the_build(target: str, checkout: Path, tmp_path: Path) -> None:
    origin = shutil.copytree(checkout, tmp_path / "checkout")
    (origin / "CHANGELOG.md").write_text(f"# Changes\n\n[Here]({target})\n", encoding="utf-8")
    done = build(tmp_path / "broken", origin)
    assert done.returncode == 1
    assert "CHANGELOG.md:3" in done.stdout + done.stderr
