"""Screenshots of a page while someone types: python -m tests.page.screenshots outputs/…/page.html FOLDER.

To be looked at; the one in README.md is `page.png` of the book's run with seed 0.
"""

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.page.conftest import launched

SCREENS: dict[str, dict[str, Any]] = {
    "page": {"viewport": {"width": 1200, "height": 900}},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
}


def main(path: Path, folder: Path) -> None:
    """Write `<screen>.png` for each screen."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = launched(playwright)
        for screen, options in SCREENS.items():
            page = chromium.new_context(**options).new_page()
            page.goto(path.absolute().as_uri())
            page.locator("#text").focus()
            page.keyboard.press("Control+A")
            page.keyboard.type("The time traveller said that it had been the")
            page.wait_for_timeout(200)
            page.screenshot(path=folder / f"{screen}.png", full_page=True)
        chromium.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
