"""Catalogue of the books that `data.corpus` may name; `download` fetches them."""

from typing import NamedTuple


class Book(NamedTuple):
    """One edition: its URLs and the hash of its bytes (`algorithm:digest`)."""

    title: str
    author: str
    hash: str
    urls: tuple[str, ...]


_GITHUB = "https://raw.githubusercontent.com"
_LEARN = f"{_GITHUB}/Mech-Who/LearnD2L/0ada6bb530104b288476981cbe2b8812ad50ac19/Chapter8/data"
_COUNT = f"{_GITHUB}/gabriel19913/count_words/6e895d12169017139390193e2a7c15fc1ca6f073"
_COMMON = f"{_GITHUB}/MichaelPaulukonis/common-corpus/717d3f32e7a5d2daa25e93e01de36fbbb9890386/corpus/literature"
_MONKEYS = f"{_GITHUB}/yasserglez/monkeys-typing/c7d15802cedd29dc0a194612d3777a656cb43caa/books"

CATALOGUE = {
    "time_machine": Book(
        "The Time Machine",
        "H. G. Wells",
        "sha1:090b5e7e70c295757f55df93cb0a180b9691891a",
        ("https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt", f"{_LEARN}/timemachine.txt"),
    ),
    "war_of_the_worlds": Book(
        "The War of the Worlds",
        "H. G. Wells",
        "sha256:8636fbce724d98946a8c6383216e4e6de94cb00bdace4ad62d8ce6457a9338a1",
        (f"{_COUNT}/the_war_of_the_worlds.txt",),
    ),
    "pride_and_prejudice": Book(
        "Pride and Prejudice",
        "Jane Austen",
        "sha256:dfc684d4f857fa938268f9ab9c5567b64bd0691251eca959644adeabe6287a4d",
        (f"{_COMMON}/jane.austen.pride.and.prejudice.txt",),
    ),
    "hound_of_the_baskervilles": Book(
        "The Hound of the Baskervilles",
        "Arthur Conan Doyle",
        "sha256:7df4ed194b81bb027d8b476733c12cad5548b38c9a0e7c39299850f86bf8769d",
        (f"{_MONKEYS}/the_hound_of_the_baskervilles.txt",),
    ),
    "the_lost_world": Book(
        "The Lost World",
        "Arthur Conan Doyle",
        "sha256:434fa407896a9292314b51c79b42a84788798a2f8c8308d8a10aa43bfc3f91d1",
        (f"{_MONKEYS}/the_lost_world.txt",),
    ),
    "alices_adventures_in_wonderland": Book(
        "Alice's Adventures in Wonderland",
        "Lewis Carroll",
        "sha256:6d3703c0fe93513ed49908dceda8f437dac7950942dbc4b0dcad907304326caa",
        (f"{_MONKEYS}/alices_adventures_in_wonderland.txt",),
    ),
    "a_tale_of_two_cities": Book(
        "A Tale of Two Cities",
        "Charles Dickens",
        "sha256:8d553d61d2b89f12dceb3f9bf3d03115629162d9cccd4023ee5811d2e2486551",
        (f"{_MONKEYS}/tale_of_2_cities.txt",),
    ),
    "adventures_of_huckleberry_finn": Book(
        "Adventures of Huckleberry Finn",
        "Mark Twain",
        "sha256:63ce344802687b6a791331437dc731fa87dab01a2ae342a58accac63e02ba44c",
        (f"{_MONKEYS}/adventures_of_huckleberry_finn.txt",),
    ),
}
