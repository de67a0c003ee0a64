"""The exercises on other books: their probe, and their tables of synthetic runs."""

import math
from pathlib import Path

import pytest

from timemachine.config import Tokens
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.evaluation.scores import score, stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.study import books
from timemachine.texts import CATALOGUE


def untrained(data: TimeMachine) -> RNNLMScratch:
    return RNNLMScratch(len(data.vocab)).eval()


@pytest.mark.parametrize("start", [0, 700])
def test_books_begin_at_start(sample: Corpus, monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    other = Corpus("other", "Another", "other", sample.paths, sample.characters[::-1], "0")
    monkeypatch.setattr(books, "available_books", lambda folders, tokens: [sample, other])
    monkeypatch.setattr(books, "TARGETS", range(15_032, 18_000))
    data = TimeMachine(num_train=10_000, corpus=sample, start=start)
    model = untrained(data)
    measured = books.measure(model, data)
    train = (sample.characters * 2)[start : start + 10_032]
    assert measured["train_characters"] == 10_032
    assert list(measured["books"]) == ["sample", "other"]
    for corpus in (sample, other):
        text = (corpus.characters * 2)[start : start + len(corpus.characters)]
        targets = range(15_032, min(18_000, len(text)))
        scores = measured["books"][corpus.name]
        train_N, text_N = (data.vocab.encode(characters).numpy().astype(int) for characters in (train, text))
        nll_N = kneser_ney(train_N, text_N, targets, measured["order"], len(data.vocab))
        one_stream = score(stream_nll(model, data.vocab.encode(text), targets))
        assert scores["stream"]["bits"] == pytest.approx(one_stream.bits, rel=1e-5)
        assert scores["kneser_ney"]["bits"] == pytest.approx(nll_N.mean() / math.log(2))
        assert scores["stream"]["num_targets"] == len(targets)


def test_all_tokens_read_the_same_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "TARGETS_FOR_TOKENS", range(4_000, 5_000))
    monkeypatch.setattr(books, "available_books", lambda folders, tokens: [])
    for vocab_size in (300, 600):
        data = TimeMachine(
            num_steps=8, num_train=500, num_val=100, tokens=Tokens.bpe, vocab_size=vocab_size, corpus="sample"
        )
        first, stop = books._tokens_of(data.corpus, data.tokens_N, data.vocab)
        for token, place in ((first, 4_000), (stop, 5_000)):
            until, after = (len(data.vocab.decode(data.tokens_N[:end].tolist()).encode()) for end in (token, token + 1))
            assert until <= len(data.corpus.characters[:place].encode()) < after
        (scores,) = books.measure(untrained(data), data)["books"].values()
        assert scores["stream"]["num_targets"] == stop - first
        size = data.vocab.bytes_V[data.tokens_N[first:stop].long()].sum()
        assert scores["stream"]["bits_per_byte"] == pytest.approx(scores["stream"]["bits"] * (stop - first) / size)


def test_only_known_editions_are_read(tmp_path: Path, novels: Path) -> None:
    (tmp_path / "time_machine.txt").write_text("another edition")
    assert books.available_books([str(tmp_path)]) == []
    assert [book.name for book in books.available_books([str(tmp_path), str(novels)])] == list(CATALOGUE)
