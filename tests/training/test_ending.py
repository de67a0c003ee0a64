"""The end of a run: what its continuation begins with."""

from tests.support.texts import path_of, read
from timemachine.config import Tokens
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.training.ending import prefix_of


def test_the_sample_begins_as_the_books_or_as_the_validation_text_does(sample: Corpus) -> None:
    assert prefix_of(TimeMachine(corpus=sample)) == "it has"
    chinese = TimeMachine(64, 8, 200, 100, tokens=Tokens.characters, corpus=str(path_of("chinese")))
    assert prefix_of(chinese) == read("chinese")[200:206]
