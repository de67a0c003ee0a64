"""Update the published page and README's animated picture: the page's current files around the data of the book's run.

`python -m tools.picture` keeps the run; add the page.html of another run to publish that one. It needs Chromium,
and shows the experiment "RNN against GRU" in a minute or two.
"""

import hashlib
import io
import sys
from pathlib import Path

from PIL import Image

from tests.page.conftest import launched
from tests.page.parts import Parts
from tests.page.screen import settle
from timemachine.config import REPOSITORY
from timemachine.page import fill

FOLDER = REPOSITORY / "sweeps/reference/book"
TEXT = "the time machine stood in the laboratory and the traveller "
UPDATES = (1, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
DURATION, LAST = 450, 3500  # ms per picture, and of the last one
COLOURS = 128
EXPERIMENT = 1  # its place in experiments.json
# Elements that the picture has no room for.
HIDDEN = "header p, .second, .toolbar, .reader, .chips:has(#take), #reset, #trained, footer"


def main() -> None:
    """Write page.html, and page.gif with the digest of that page."""
    from playwright.sync_api import sync_playwright

    published = FOLDER / "page.html"
    run = Parts(Path(sys.argv[1] if len(sys.argv) > 1 else published).read_bytes()).run
    page_html = fill(run["title"], run)
    published.write_bytes(page_html)
    pictures = []
    with sync_playwright() as playwright:
        browser = launched(playwright)
        page = browser.new_page(viewport={"width": 830, "height": 664}, reduced_motion="reduce")
        page.goto(published.as_uri())
        page.get_by_role("textbox", name="Your text").fill(TEXT)
        page.evaluate("place => setUp(run.experiments[place])", EXPERIMENT)
        page.evaluate("() => box.blur()")
        page.locator(HIDDEN).evaluate_all("all => all.forEach(element => (element.style.display = 'none'))")
        for updates in UPDATES:
            page.evaluate("train", updates)
            page.wait_for_function("() => training.learners[0].latest && !training.on", timeout=120_000)
            page.evaluate("() => ((chosen.network = 1), showTrained(), drawReaders())")  # the GRU
            page.evaluate("updates => ((training.until = updates), drawTraining())", UPDATES[-1])
            settle(page)
            pictures.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    palette = pictures[-1].quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    first.save(
        FOLDER / "page.gif",
        save_all=True,
        append_images=others,
        duration=[DURATION] * len(others) + [LAST],
        loop=0,
        comment=hashlib.sha256(page_html).hexdigest(),
    )


if __name__ == "__main__":
    main()
