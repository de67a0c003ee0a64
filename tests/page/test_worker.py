"""page/worker.js and team.js in headless Chromium: the numbers of the lesson for any order of messages and any workers.

T time steps, B windows, V vocabulary, H hidden units, N windows of a split.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.page.models import lesson
from tests.page.worker import Workers, network, text_of
from tests.support.rounding import rounding
from timemachine.clipping import clip_gradients
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine, _split

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SEED = 7


@pytest.fixture(scope="module")
def page(browser: "Browser") -> Iterator["Page"]:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    yield page
    page.close()


@pytest.fixture
def workers(page: "Page") -> Workers:
    return Workers(page)


@pytest.fixture(scope="module")
def sample() -> TimeMachine:
    return TimeMachine(256, 16, 600, 1100, corpus=find_corpus("sample", []))  # updates of 256, 256 and 88 windows


NETWORKS = {
    "the book's": network(),
    "clipped GRU": network(cell="gru", hiddens=17, sigma=0.1, gradient_clip_val=0.05),
    "ReLU": network(activation="relu", hiddens=20, sigma_hh=0.2, lr=0.5),
    "two layers": network(layers=2, sigma=0.1, input_lr_factor=3),
    "LSTM by AdamW": network(cell="lstm", hiddens=9, sigma_xh=0.5, input_lr_factor=4, lr=0.003, optimizer="adamw"),
}


def uniform(seed: int) -> Callable[[], float]:
    """Return mulberry32, the generator of random.js."""

    def draw() -> float:
        nonlocal seed
        seed = (seed + 0x6D2B79F5) % 2**32
        mixed = (seed ^ seed >> 15) * (seed | 1) % 2**32
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) % 2**32
        return (mixed ^ mixed >> 14) / 2**32

    return draw


def epochs_of_starts(N: int, seed: int) -> Iterator[list[int]]:
    """Yield the starts of all training windows, shuffled for each epoch."""
    draw, order = uniform(seed), [*range(N)]
    while True:
        for last in range(N - 1, 0, -1):
            place = int(draw() * (last + 1))
            order[last], order[place] = order[place], order[last]
        yield order


@pytest.mark.parametrize("pair", [("the book's", "clipped GRU"), ("ReLU", "two layers"), ("LSTM by AdamW",)])
def test_numbers_of_the_lesson(pair: tuple[str, ...], sample: TimeMachine, workers: Workers) -> None:
    """Two networks see the same windows, so the lesson's models do, too."""
    settings, V = [NETWORKS[name] for name in pair], len(sample.vocab)
    workers.start(settings, text_of(sample), SEED)
    models = [lesson(each, V, weights) for each, weights in zip(settings, workers.run(0), strict=True)]
    optimizers: list[Any] = [model.configure_optimizers() for model in models]
    trained = workers.run(9)
    windows_NT = sample.tokens_N.long().unfold(0, sample.num_steps + 1, 1)
    val_NT = windows_NT[600:1700]
    # Sums over the units and the symbols in each step, in each of 9 updates; errors cancel in long sums.
    bound = rounding(9 * sample.num_steps * math.sqrt(2 * 32 + V))
    for epoch, starts in zip(range(3), epochs_of_starts(600, SEED), strict=False):
        for place, (model, optimizer, each) in enumerate(zip(models, optimizers, settings, strict=True)):
            numbers = workers.received("epoch", place)[epoch]
            losses = list[Tensor]()
            for batch_NT in windows_NT[starts].split(256):
                nll_BT = model.nll((batch_NT[:, :-1], batch_NT[:, 1:]))
                losses.append(nll_BT.detach().flatten())
                optimizer.zero_grad()
                nll_BT.mean().backward()
                clip_gradients(model.parameters(), each["gradient_clip_val"])
                optimizer.step()
            with torch.no_grad():
                val = model.nll((val_NT[:, :-1], val_NT[:, 1:])).mean().exp().item()
            assert (numbers["update"], numbers["recall"]) == (3 * (epoch + 1), None)
            assert numbers["train"] == pytest.approx(torch.cat(losses).mean().exp().item(), rel=bound)
            assert numbers["val"] == pytest.approx(val, rel=bound)
    for model, weights in zip(models, trained, strict=True):
        for name, parameter in model.named_parameters():
            number = torch.tensor(weights[name.removeprefix("rnn.")]).view(parameter.shape).double()
            assert (number - parameter).norm() <= bound * parameter.norm(), name


def test_number_of_workers_changes_no_bit(sample: TimeMachine, workers: Workers) -> None:
    """A batch is divided into the same parts; the last one of an epoch, 88 windows, is too small."""
    for each in (NETWORKS["the book's"], NETWORKS["clipped GRU"]):
        results = []
        for cores in (1, 2, 4):
            workers.start([each], text_of(sample), SEED, cores)
            results.append([workers.run(7), [message | {"place": 0} for message in workers.received("epoch")]])
        assert results[0] == results[1] == results[2]


def test_division_of_the_cores(sample: TimeMachine, workers: Workers) -> None:
    """Networks that share the workers get the numbers that they get alone."""
    pair = [NETWORKS["the book's"], NETWORKS["clipped GRU"]]
    alone = []
    for each in pair:
        workers.start([each], text_of(sample))
        alone += workers.run(4)
    for cores in (1, 4):
        workers.start(pair, text_of(sample), cores=cores)
        assert workers.run(4) == alone


def test_pauses_change_no_number(sample: TimeMachine, workers: Workers) -> None:
    """A pause within an epoch adds an evaluation."""
    pair, data = [NETWORKS["the book's"], NETWORKS["clipped GRU"]], text_of(sample)
    results = []
    for until in ((30,), (30,), (0, 1, 5, 6, 30)):
        workers.start(pair, data)
        weights = workers.run(*until)
        results.append([weights, [it for it in workers.received("epoch") if it["update"] % 3 == 0]])
    assert results[0] == results[1] == results[2]
    assert {it["update"] for it in workers.received("epoch", 1)} == {1, 5, *range(3, 31, 3)}
    workers.start(pair, data)
    workers.send(type="run", until=10**6)
    for number in (1, 2):  # in any step
        workers.wait("progress", len(workers.received("progress")) + 1)
        workers.send(type="pause")
        workers.wait("paused", number)
        workers.send(type="run", until=10**6)
    workers.send(type="pause")
    workers.wait("paused", 3)
    weights = workers.weights()
    # On a busy machine a network that is far ahead does not wait for the other one.
    ends = [message["update"] for message in workers.last("progress")]
    assert [message["update"] for message in workers.last("epoch")] == ends
    workers.start(pair, data)
    for end, place in sorted(zip(ends, range(2), strict=True)):
        assert workers.run(end)[place] == weights[place]


def test_seed_determines_weights_and_windows(sample: TimeMachine, workers: Workers) -> None:
    data, settings = text_of(sample), network(sigma=0.5, sigma_xh=2, sigma_hh=0.1, hiddens=64)
    workers.start([settings, settings | {"sigma_xh": 4}], data)
    one, two = workers.run(0)
    for name, sigma in (("W_xh", 2), ("W_hh", 0.1), ("W_hq", 0.5)):
        drawn = torch.tensor(one[name])
        assert drawn.square().mean().sqrt().item() == pytest.approx(sigma, rel=0.1)  # 1,800 numbers or more
        assert abs(drawn.mean().item()) < 0.1 * sigma
    assert not any(one["b_h"]) and not any(one["b_q"])
    assert two["W_xh"] == [2 * weight for weight in one["W_xh"]]
    assert two["W_hh"] == one["W_hh"]
    workers.start([settings | {"init_hh": "identity"}], data)
    (third,) = workers.run(0)
    assert torch.equal(torch.tensor(third["W_hh"]).view(64, 64), torch.eye(64)) and third["W_hq"] == one["W_hq"]
    workers.start([settings], data, seed=1)
    assert workers.run(0)[0]["W_hh"] != one["W_hh"]


def test_network_that_diverges(sample: TimeMachine, workers: Workers) -> None:
    """The other one trains on; if all have diverged, training ends."""
    wild = network(activation="relu", lr=1e9, gradient_clip_val=0)
    workers.start([wild, network()], text_of(sample))
    workers.run(9)
    lost, learner = workers.last("progress")
    assert (lost["diverged"], learner["diverged"], learner["update"]) == (True, False, 9)
    workers.start([wild], text_of(sample))
    workers.send(type="run", until=10**6)
    workers.wait("paused")
    (last,) = workers.weights()
    assert all(math.isfinite(weight) for weights in last.values() for weight in weights)
    workers.send(type="run", until=10**6)
    workers.wait("paused", 2)
    assert workers.last("progress")[0]["update"] == lost["update"]


@pytest.mark.parametrize(("N", "num_train", "num_val"), [(900, 100, 50), (158, 100, 50), (1003, None, None)])
def test_windows_of_the_splits(N: int, num_train: int | None, num_val: int | None, workers: Workers) -> None:
    """The text is 0, 1, 2, …, so each index is its place."""
    T, sizes = 8, json.dumps({"num_train": num_train, "num_val": num_val})
    data = f"{{ indices: Int32Array.from({[*range(N)]}), V: {N}, num_steps: {T}, batch_size: 64, ...{sizes} }}"
    body = f"""(() => {{
        const {{ train, updatesPerEpoch, validate }} = textWindows({data}, uniform(1));
        const batches = Array.from({{ length: updatesPerEpoch }}, () => [...train.next().value]);
        return [batches.map(({{ length }}) => length), batches.flat(), [...validate()].flatMap((batch) => [...batch])];
    }})()"""
    lengths, *windows = workers.evaluate("textWindows, uniform", body)
    splits = _split(N, T, num_train, num_val, "")
    assert {*lengths[:-1]} == {64 * (T + 1)} and 0 < lengths[-1] <= 64 * (T + 1)
    for indices, name in zip(windows, ("train", "val"), strict=True):
        windows_NT = torch.tensor(indices).view(-1, T + 1)
        assert (windows_NT - windows_NT[:, :1] == torch.arange(T + 1)).all()
        starts, expected = windows_NT[:, 0].tolist(), [*splits[name].starts]
        assert sorted(starts) == expected
        assert (starts == expected) == (name == "val")  # training windows are shuffled


def test_text_that_is_too_short(sample: TimeMachine, workers: Workers) -> None:
    workers.start([network()], text_of(sample) | {"num_train": 10**6})
    assert "too short" in workers.wait("error")["message"]


@pytest.mark.parametrize("delay", [2, 5, 16])
def test_recall_windows(delay: int, workers: Workers) -> None:
    """Windows are parts of a text of blocks, from any place in a block."""
    body = f"[...recallWindows({{ delay: {delay}, batch_size: 500, num_val: 1 }}, uniform(3)).train.next().value]"
    windows_NT = torch.tensor(workers.evaluate("recallWindows, uniform", body)).view(500, 2 * delay + 2)
    starts = set[int]()
    for indices in windows_NT.tolist():
        text = "".join("abcdefghijklmnopqrstuvwxyz "[index] for index in indices)
        starts.add(start := (delay - 1 - text.index(" ")) % (delay + 1))  # place in its block where the window begins
        kinds = ["[a-p]", *["[q-z]"] * (delay - 2), " ", "[a-p]"] * 3
        assert re.fullmatch("".join(kinds[start : start + len(text)]), text)
        repeated = [place for place in range(delay - start, len(text), delay + 1) if place >= delay]
        assert repeated and all(text[place] == text[place - delay] for place in repeated)
    assert starts == {*range(delay + 1)}


def test_recall_is_learned_by_the_gru(workers: Workers) -> None:
    settings = network(cell="gru", hiddens=32, sigma_xh=1, lr=0.01, optimizer="adamw")
    workers.start([settings], {"type": "recall", "delay": 4, "batch_size": 32, "num_val": 200})
    workers.run(300)
    found = [message["recall"] for message in workers.received("epoch")]
    assert found[-1] > 0.5  # chance is 1/16


def test_draws_from_the_normal_distribution(workers: Workers) -> None:
    body = "Array.from({ length: 20_000 }, normal(uniform(5)))"
    drawn = torch.tensor(workers.evaluate("normal, uniform", body))
    moments = [drawn.pow(power).mean().item() for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.2)  # four standard errors of the fourth are 0.28
