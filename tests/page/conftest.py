"""Pages of models with random weights, opened in headless Chromium."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.page.models import LETTERS, MODELS, WRITTEN, random_model, summary_of, vocab_of
from timemachine.corpus import find_corpus
from timemachine.page import Epoch, make_page
from timemachine.page.epochs import in_half_precision

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright, Request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("background-networking", "component-update", "sync", "gpu")  # browser services that use the network

Open = Callable[..., "Page"]


def launched(playwright: "Playwright") -> "Browser":
    """Start headless Chromium with an empty profile. As root, the sandbox is disabled."""
    args = [f"--disable-{name}" for name in QUIET] + ["--no-first-run"]
    args += ["--no-sandbox"] if os.name == "posix" and os.getuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=args)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; type apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = launched(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a page for each model, and "epochs": the model of "tanh" with earlier epochs and a text."""
    folder, paths = tmp_path_factory.mktemp("pages"), {}
    for name, network in MODELS.items():
        model = random_model(**network)
        paths[name] = folder / f"{name}.html"
        paths[name].write_bytes(make_page(model, vocab_of(name), summary_of(model), text=WRITTEN * 2))
    paths["epochs"] = folder / "epochs.html"
    model, text = random_model(), find_corpus("sample", []).characters
    epochs = [
        Epoch(0, in_half_precision(random_model(seed=1)), math.nan, math.nan),
        Epoch(5, in_half_precision(random_model(seed=2)), 15.25, 16.5),
    ]
    paths["epochs"].write_bytes(make_page(model, LETTERS, summary_of(model), epochs, text))
    return paths


class Windows:
    """Two windows, as large as a screen and a phone, that are shared by all tests to save time."""

    def __init__(self, browser: "Browser", urls: dict[str, str]) -> None:
        self.urls, self.troubles = urls, list[str]()
        self.screen = browser.new_page(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
        self.phone = browser.new_page(
            viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True, reduced_motion="reduce"
        )
        for window in (self.screen, self.phone):
            window.set_default_timeout(60_000)  # fail instead of hanging, even on a slow machine
            window.on("console", lambda message: self.troubles.append(f"console: {message.text}"))
            window.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
            window.on("request", self.check_request)

    def check_request(self, request: "Request") -> None:
        if request.url.split("#")[0] not in self.urls.values() and not request.url.startswith("blob:"):  # the worker
            self.troubles.append(f"request: {request.url}")

    def open(self, name: str, phone: bool = False) -> "Page":
        window = self.phone if phone else self.screen
        window.goto(self.urls[name])
        window.evaluate("document.querySelectorAll('details').forEach(part => (part.open = true))")
        return window


@pytest.fixture(scope="module")
def windows(browser: "Browser", pages: dict[str, Path]) -> Windows:
    return Windows(browser, {name: path.as_uri() for name, path in pages.items()})


@pytest.fixture
def open_page(windows: Windows) -> Iterator[Open]:
    """Open the page of a model by name. On exit, check that it sent no request and printed no error."""
    windows.troubles.clear()
    yield windows.open
    assert not windows.troubles
