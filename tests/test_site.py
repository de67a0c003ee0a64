"""The site that `make site` has built in outputs/site: its links, sizes and requests."""

import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from tests.page.conftest import browser as browser
from timemachine.config import DATA, MODEL, REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SITE = REPOSITORY / "outputs/site"
SAMPLES = ("index.html", "sweeps/reference/cells/report.html", "src/timemachine/__init__.html", "book.html")
MAX_BYTES = 500_000  # of a page without its pictures

pytestmark = pytest.mark.site


class Links(HTMLParser):
    """Collects the identifiers of a page, its links, and the addresses that a browser loads with it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids, self.links, self.loaded = set[str](), list[str](), list[str]()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids |= {value for name in ("id", "name") if (value := values.get(name))}
        addresses = [value for name in ("href", "src") if (value := values.get(name))]
        (self.links if tag == "a" else self.loaded).extend(addresses)


@pytest.fixture(scope="module")
def pages() -> dict[Path, Links]:
    return {path: Links(path) for path in SITE.rglob("*.html") if "_static" not in path.parts}


def dead(pages: dict[Path, Links]) -> Iterator[str]:
    """Find links whose file or whose heading does not exist."""
    for page, content in pages.items():
        for address in {*content.links, *content.loaded}:
            scheme, _, path, _, fragment = urlsplit(address)
            target = (page.parent / unquote(path)).resolve() if path else page
            if scheme:
                continue
            is_heading = fragment and target in pages and target.name != "page.html"  # whose fragment is a state
            if not target.is_file() or (is_heading and unquote(fragment) not in pages[target].ids):
                yield f"{page.relative_to(SITE)}: {address}"


def test_all_links_lead_somewhere(pages: dict[Path, Links]) -> None:
    assert len(pages) > 100
    assert not list(dead(pages))


def test_pages_are_small(pages: dict[Path, Links]) -> None:
    assert {path.name: size for path in pages if (size := path.stat().st_size) > MAX_BYTES} == {}


def test_nothing_loads_from_elsewhere(pages: dict[Path, Links]) -> None:
    elsewhere = [address for page in pages.values() for address in page.loaded if "//" in address]
    styles = "\n".join(path.read_text(encoding="utf-8") for path in SITE.rglob("*.css"))
    assert elsewhere + re.findall(r"""(?:url\(|@import )["']?(?:https?:)?//[^)]*""", styles) == []


def test_all_settings_and_classes_are_listed(pages: dict[Path, Links]) -> None:
    settings = (SITE / "docs/settings.html").read_text(encoding="utf-8")
    names = {f"{group}.{name}" for group, names in (("model", MODEL), ("data", DATA)) for name in names}
    names -= {"model.vocab_size"}  # comes from the data
    assert not {name for name in names if f">{name}<" not in settings}
    api = pages[SITE / "src/timemachine/__init__.html"].ids
    documented = [
        "datamodule.TimeMachine",
        "language_model.RNNLMScratch.predict",
        "run.run.load_run",
        "run.recorder.Recorder",
    ]
    assert api >= {f"timemachine.{name}" for name in documented}


def test_site_shows_the_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"timemachine {version}" in re.findall("<title>(.*?)</title>", (SITE / "README.html").read_text("utf-8"))[0]


def test_no_browser_asks_for_an_icon(pages: dict[Path, Links]) -> None:
    assert not [path for path, content in pages.items() if "data:," not in content.loaded]


def test_search_finds_guides_and_reports(browser: "Browser") -> None:
    """Neither settings nor code: the guides quote them."""
    page = browser.new_page()
    page.goto(f"{(SITE / 'search.html').as_uri()}?q=clipping")
    page.locator("#search-results li").nth(9).wait_for()
    found = page.locator("#search-results li > a").evaluate_all("all => all.map(each => each.getAttribute('href'))")
    assert found[0].startswith("sweeps/reference/") and "docs/settings.html" in found
    assert not [path for path in found if path.startswith(("conf/", "tests/"))]
    page.close()


@pytest.mark.parametrize("width", [1366, 390])
def test_browser_requests_files_only(browser: "Browser", width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 768})
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    for name in SAMPLES:
        page.goto((SITE / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert len(requests) > 2 * len(SAMPLES)
    assert {urlsplit(url).scheme for url in requests} <= {"file", "data", "blob"}
    assert not errors
    page.close()
