"""Update the published page and README's animated picture: the page's current files around the data of the book's run.

`python -m tests.page.picture` keeps the run; add the page.html of another run to publish that one. It needs Chromium.
"""

import hashlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.page.conftest import launched
from tests.page.parts import Parts
from tests.page.screen import settle
from timemachine.config import REPOSITORY
from timemachine.page import fill

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = REPOSITORY / "sweeps/reference/book"
BEFORE, TYPED = "the ", "time machine"  # the text at first, and the letters that are typed in the picture
SLOW = (0, 5)  # places in TYPED: the first letter, which was expected, and the first one that was not
COLOURS = 192
# Elements that the picture has no room for.
HIDDEN = """header .small, #keys, .editor ~ .row, #training, #player, #total, label:has(#guessing), #expected, .extra,
    #one-unit, #h-bars, [aria-labelledby=h-next], [aria-labelledby=h-memory], details"""
PAUSE_MOTIONS = """() => {
    const animate = Element.prototype.animate;
    Element.prototype.animate = function (...all) {
        const motion = animate.apply(this, all);
        motion.pause();
        return motion;
    };
}"""
MOVE = "share => moving().forEach(it => (it.currentTime = share * it.effect.getTiming().duration))"
FINISH = "() => moving().forEach(it => it.finish())"


class Film:
    """Pictures of a page, and how long each is shown, in milliseconds."""

    def __init__(self, page: "Page") -> None:
        self.page, self.pictures, self.durations = page, list[Image.Image](), list[int]()
        page.evaluate(PAUSE_MOTIONS)
        page.evaluate("() => (window.moving = () => document.getAnimations())")

    def take(self, duration: int) -> None:
        self.pictures.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        self.durations.append(duration)

    def read(self, letter: str, slowly: bool) -> None:
        """Type a letter and take pictures of its step in Play, moved by hand so that none depends on the time."""
        page, moves, duration = self.page, 5 if slowly else 1, 80 if slowly else 100
        page.keyboard.press(letter)
        settle(page)
        # The guess is drawn again after the step.
        page.evaluate("() => { beat(last()); dismissed = true; drawGhost(); dismissed = false; }")
        for _ in range(5):  # the parts of the step
            page.wait_for_function("() => moving().length > 0")
            for move in range(moves):
                page.evaluate(MOVE, (move + 1) / (moves + 1))
                self.take(duration)
            page.evaluate(FINISH)
        page.wait_for_function("() => !play.landing")
        settle(page)
        self.take(700 if slowly else 150)

    def save(self, path: Path, comment: str) -> None:
        """Write a GIF that loops. All its pictures have the colours of the last one."""
        colours = self.pictures[-1].quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        first, *others = (it.quantize(palette=colours, dither=Image.Dither.NONE) for it in self.pictures)
        first.save(path, save_all=True, append_images=others, duration=self.durations, loop=0, comment=comment)


def main() -> None:
    """Write page.html, and page.gif with the digest of that page."""
    from playwright.sync_api import sync_playwright

    published = FOLDER / "page.html"
    run = Parts(Path(sys.argv[1] if len(sys.argv) > 1 else published).read_bytes()).run
    page_html = fill(dict(run["table"])["text"], run)
    published.write_bytes(page_html)
    with sync_playwright() as playwright:
        browser = launched(playwright)
        page = browser.new_page(viewport={"width": 1040, "height": 528})
        page.goto(published.as_uri())
        page.locator(HIDDEN).evaluate_all("all => all.forEach(element => (element.style.display = 'none'))")
        page.get_by_role("textbox", name="Your text").fill(BEFORE)
        settle(page)
        film = Film(page)
        film.take(700)
        for place, letter in enumerate(TYPED):
            film.read(letter, place in SLOW)
        film.durations[-1] = 2200  # before it begins again
        browser.close()
    film.save(FOLDER / "page.gif", hashlib.sha256(page_html).hexdigest())


if __name__ == "__main__":
    main()
