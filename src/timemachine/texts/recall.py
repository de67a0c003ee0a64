"""The recall corpus: a generated text in which a letter has to be remembered over a delay."""

import random
import re
from string import ascii_lowercase

NAMES = re.compile(r"recall(?:_([1-9]\d{0,3}))?")  # values of data.corpus: recall_32 has a delay of 32
DEFAULT_DELAY, MIN_DELAY = 16, 2
RECALLED, FILLERS = ascii_lowercase[:16], ascii_lowercase[16:]  # a to p, q to z
SIZE = 500_000  # characters, at most


def delay_of(name: str) -> int | None:
    """Return the delay of a recall corpus from its name, `recall` or `recall_32`; None if it is no such name."""
    match = NAMES.fullmatch(name)
    delay = int(match[1] or DEFAULT_DELAY) if match else 0
    return delay if delay >= MIN_DELAY else None


def recall_text(delay: int) -> str:
    """Return blocks of `delay` + 1 characters, each ending with the letter `delay` characters before its end.

    A block is one of the letters a to p, `delay` - 2 fillers from q to z, a space, and the first letter again, such as
    "cqzrrv c" for a delay of 7; the next block follows immediately. Letters and fillers are drawn uniformly and
    independently, so apart from the kind of each character only the repeated letter can be predicted: by chance once
    in 16 times, always by a model that remembers over the delay.
    """
    draw = random.Random(0)
    blocks = []
    for _ in range(SIZE // (delay + 1)):
        letter = draw.choice(RECALLED)
        blocks.append(f"{letter}{''.join(draw.choices(FILLERS, k=delay - 2))} {letter}")
    return "".join(blocks)
