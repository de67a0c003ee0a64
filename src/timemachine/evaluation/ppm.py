"""PPMd, a compressor that predicts each character from those before and learns from it: a mark for models that adapt.

Cleary and Witten, "Data compression using adaptive coding and partial string matching", IEEE Transactions on
Communications 32(4), 1984; Shkarin, "PPM: one step to practicality", 2002. The coder is 7-Zip's, PPMd var. H, which
`pip install -e '.[baselines]'` adds as pyppmd.
"""

from importlib.util import find_spec

ORDER = 6  # of 2 to 16 none is better on the novel's next 5 %, or on the last 1,000 of the book's training characters
MEMORY = 1 << 24  # bytes: 7-Zip's default, too


def installed() -> bool:
    """Return whether there is a coder."""
    return find_spec("pyppmd") is not None


def ppmd_bits(known: bytes, text: bytes, order: int = ORDER) -> int:
    """Return how many bits longer `known` and then `text` are than `known` alone, each coded as whole bytes.

    Raises ImportError without pyppmd.
    """
    from pyppmd import Ppmd7Encoder  # an extra

    def coded(characters: bytes) -> int:
        encoder = Ppmd7Encoder(order, MEMORY)
        return 8 * (len(encoder.encode(characters)) + len(encoder.flush(endmark=False)))

    return coded(known + text) - coded(known)
