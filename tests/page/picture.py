"""Update the published page and README's picture: the page's current files around the data of the book's run.

`python -m tests.page.picture` keeps the run; add the page.html of another run to publish that one. It needs Chromium.
"""

import sys
from pathlib import Path

from tests.page.conftest import launched
from tests.page.parts import Parts
from timemachine.config import REPOSITORY
from timemachine.page import fill

FOLDER = REPOSITORY / "sweeps/reference/book"
TEXT = "The time traveller was in one of the rooms of the machine and he said that it was "


def main() -> None:
    """Write page.html and page.png."""
    from playwright.sync_api import sync_playwright

    published = FOLDER / "page.html"
    run = Parts(Path(sys.argv[1] if len(sys.argv) > 1 else published).read_bytes()).run
    published.write_bytes(fill(dict(run["table"])["text"], run))
    with sync_playwright() as playwright:
        browser = launched(playwright)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(published.as_uri())
        page.get_by_role("textbox", name="Your text").fill(TEXT)
        page.locator("#meanings button").first.click()
        page.wait_for_function("() => document.querySelectorAll('#memory .back').length > 1")
        page.screenshot(path=FOLDER / "page.png")
        browser.close()


if __name__ == "__main__":
    main()
