"""Screenshots of a page in each of its states: python -m tests.page.screenshots outputs/…/page.html FOLDER.

To be looked at; the one in README.md is `typing.png` of the book's run with seed 0.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from tests.page.conftest import launched

if TYPE_CHECKING:
    from playwright.sync_api import Page


def typing(page: "Page") -> None:
    page.keyboard.type("The time traveller said that it had been the")


def dismissed(page: "Page") -> None:
    typing(page)
    page.keyboard.press("Escape")


def written(page: "Page") -> None:
    page.keyboard.type("My dear friend, I have seen ")
    page.get_by_label("drawn from").check()
    page.get_by_role("button", name="Write 200 more").click()


def chosen(page: "Page") -> None:
    written(page)
    page.locator("#strip").focus()
    for _ in range(190):
        page.keyboard.press("ArrowLeft")


def bars(page: "Page") -> None:
    typing(page)
    page.locator("#alpha").fill("4")
    page.locator("#bars button").first.focus()
    page.keyboard.press("ArrowDown")


def told(page: "Page") -> None:
    typing(page)
    page.locator("summary").click()


STATES: list[Callable[["Page"], None]] = [typing, dismissed, written, chosen, bars, told]
SCREENS: dict[str, dict[str, Any]] = {
    "": {"viewport": {"width": 1200, "height": 900}},
    "-dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "-phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
}


def main(path: Path, folder: Path) -> None:
    """Write `<state><screen>.png` for all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = launched(playwright)
        for screen, options in SCREENS.items():
            for state in STATES:
                page = chromium.new_context(**options).new_page()
                page.goto(path.absolute().as_uri())
                page.locator("#text").focus()
                page.keyboard.press("Control+A")
                state(page)
                page.wait_for_timeout(200)
                page.screenshot(path=folder / f"{state.__name__}{screen}.png", full_page=True)
        chromium.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
