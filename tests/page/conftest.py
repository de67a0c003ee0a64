"""Pages of models with random weights, opened in headless Chromium."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.page.models import LETTERS, MODELS, random_model, summary_of, vocab_of
from timemachine.corpus import find_corpus
from timemachine.page import Epoch, make_page
from timemachine.page.epochs import halved

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("background-networking", "component-update", "sync", "gpu")  # of the browser's own, which asks the network

Open = Callable[..., "Page"]


def launched(playwright: "Playwright") -> "Browser":
    """Start Debian's Chromium, headless, with an empty profile. Root, who has no sandbox, goes without."""
    args = [f"--disable-{name}" for name in QUIET] + ["--no-first-run"]
    args += ["--no-sandbox"] if os.name == "posix" and os.getuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=args)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A browser without a user, an account or an extension."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; type apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = launched(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each model, and "epochs", of the model of "tanh" with earlier epochs and a text."""
    folder, paths = tmp_path_factory.mktemp("pages"), {}
    for name, network in MODELS.items():
        model = random_model(**network)
        paths[name] = folder / f"{name}.html"
        paths[name].write_bytes(make_page(model, vocab_of(name), summary_of(model)))
    paths["epochs"] = folder / "epochs.html"
    model, text = random_model(), find_corpus("sample", []).characters
    epochs = [
        Epoch(0, halved(random_model(seed=1)), math.nan, math.nan),
        Epoch(5, halved(random_model(seed=2)), 15.25, 16.5),
    ]
    paths["epochs"].write_bytes(make_page(model, LETTERS, summary_of(model), epochs, text))
    return paths


@pytest.fixture
def open_page(browser: "Browser", pages: dict[str, Path]) -> Iterator[Open]:
    """Open a page, of a model by name or of a path. At the end nothing was asked for, and nothing went wrong."""
    contexts, troubles = [], list[str]()

    def opened(which: str | Path, width: int = 1200, height: int = 900, **options: Any) -> "Page":
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        url = (pages[which] if isinstance(which, str) else which).as_uri()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: troubles.append(f"request: {request.url}") if request.url != url else None)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not troubles
