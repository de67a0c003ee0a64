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
BEFORE = "here is the little time "  # the text while the network trains
TYPED = "machine"  # the letters that it then reads
UPDATES = (0, 10, 20, 40, 70, 100, 150, 200, 300, 500, 700, 1000)
SLOW = 0  # place in TYPED of the letter whose step is shown in slow motion
COLOURS = 128
# Elements that the picture has no room for.
HIDDEN = """header p, .controls:not(:has(#train)), #train-once, #reset, .about, #epochs, #h-bars, #before-it, .step ~ p,
    #learn-settings, .equation, #part-choice, #part-memory, details:not([id]), footer, figcaption p"""
TRAIN = "count => { while (training.updates < count) trainOnce(); training.on = true; showTrained(); }"
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

    def train(self, updates: int) -> None:
        """Train until this number of updates, and take a picture."""
        self.page.evaluate(TRAIN, updates)
        settle(self.page)
        self.take(400)

    def read(self, letter: str, slowly: bool) -> None:
        """Type a letter and take pictures of its step in Play, moved by hand so that none depends on the time."""
        page, moves = self.page, 3 if slowly else 0
        page.keyboard.press(letter)
        settle(page)
        # The guess is drawn again after the step.
        page.evaluate("() => { beat(last()); dismissed = true; drawGhost(); dismissed = false; }")
        for _ in range(5):  # the parts of the step
            page.wait_for_function("() => moving().length > 0")
            for move in range(moves):
                page.evaluate(MOVE, (move + 1) / (moves + 1))
                self.take(120)
            page.evaluate(FINISH)
        page.wait_for_function("() => !play.landing")
        settle(page)
        self.take(900 if slowly else 350)

    def save(self, path: Path, comment: str) -> None:
        """Write a GIF that loops. All its pictures have the colours of the last one."""
        colours = self.pictures[-1].quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
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
        page = browser.new_page(viewport={"width": 1240, "height": 458}, reduced_motion="reduce")
        page.goto(published.as_uri())
        page.locator(HIDDEN).evaluate_all("all => all.forEach(element => (element.style.display = 'none'))")
        page.get_by_role("textbox", name="Your text").fill(BEFORE)
        page.evaluate("() => (find('part-step').open = true)")
        page.evaluate("document.documentElement.style.setProperty('--panel', '255 255 255')")  # saves a colour
        settle(page)
        film = Film(page)
        for updates in UPDATES:
            film.train(updates)
        film.durations[-1] = 1500
        page.emulate_media(reduced_motion="no-preference")
        page.evaluate("() => { training.on = false; box.focus(); drawTraining(); }")
        for place, letter in enumerate(TYPED):
            film.read(letter, place == SLOW)
        film.durations[-1] = 2200  # before it begins again
        browser.close()
    film.save(FOLDER / "page.gif", hashlib.sha256(page_html).hexdigest())


if __name__ == "__main__":
    main()
