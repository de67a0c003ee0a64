"""page/worker.js in headless Chromium: the numbers of the lesson for any order of messages, on TimeMachine's windows.

T time steps, B windows, V vocabulary, H hidden units, N windows of a split.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.support.rounding import rounding
from timemachine.clipping import clip_gradients
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine, _split
from timemachine.language_model import RNNLMScratch
from timemachine.page.build import KERNEL
from timemachine.regularized.language_model import RegularizedRNNLM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SOURCE = "".join(KERNEL.with_name(name).read_text(encoding="utf-8") for name in ("random.js", "worker.js"))
START = """([source, wasm, message]) => {
    window.worker?.terminate();
    window.received = [];
    window.worker = new Worker(URL.createObjectURL(new Blob([source])));
    const plain = (network) => Object.fromEntries(Object.entries(network).map(([name, x]) => [name, [...x]]));
    worker.onmessage = ({ data }) =>
        received.push(data.type === "weights" ? { ...data, networks: data.networks.map(plain) } : data);
    worker.onerror = ({ message }) => received.push({ type: "error", message });
    const bytes = Uint8Array.from(atob(wasm), (character) => character.charCodeAt(0)).buffer;
    const { indices } = message.data, data = { ...message.data, indices: Int32Array.from(indices ?? []) };
    worker.postMessage({ ...message, type: "start", wasm: bytes, data });
}"""
# The part of the worker without messages, in the page.
EVALUATE = """([source, names, body]) => {
    const parts = new Function("postMessage", "onmessage", `${source}; return { ${names} }`)();
    return new Function(names, "return " + body)(...names.split(", ").map((name) => parts[name]));
}"""
SEED = 7
Message = dict[str, Any]


class Worker:
    """A worker in a page, and the messages that it has sent."""

    def __init__(self, page: "Page") -> None:
        self.page = page

    def start(self, networks: list[Message], data: Message, seed: int = SEED) -> None:
        wasm = base64.b64encode(KERNEL.read_bytes()).decode()
        self.page.evaluate(START, [SOURCE, wasm, {"networks": networks, "data": data, "seed": seed}])

    def send(self, **message: Any) -> None:
        self.page.evaluate("message => worker.postMessage(message)", message)

    def received(self, kind: str) -> list[Message]:
        messages: list[Message] = self.page.evaluate("kind => received.filter(({ type }) => type === kind)", kind)
        return messages

    def wait(self, kind: str, number: int = 1) -> Message:
        """Wait for the message of this type and number, and return it."""
        enough = "([kind, n]) => received.filter(({ type }) => type === kind || type === 'error').length >= n"
        self.page.wait_for_function(enough, arg=[kind, number])
        assert kind == "error" or not self.received("error")
        return self.received(kind)[number - 1]

    def run(self, *until: int) -> list[Message]:
        """Train up to each of these updates in turn; return the weights after the last."""
        for update in until:
            paused = len(self.received("paused"))
            self.send(type="run", until=update)
            assert self.wait("paused", paused + 1) == {"type": "paused", "update": update, "reason": "until"}
        weights: list[Message] = self.received("weights")[-1]["networks"]
        return weights

    def evaluate(self, names: str, body: str) -> Any:
        """Return the value of an expression with functions of the worker."""
        return self.page.evaluate(EVALUATE, [SOURCE, names, body])


@pytest.fixture(scope="module")
def page(browser: "Browser") -> Iterator["Page"]:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    yield page
    page.close()


@pytest.fixture
def worker(page: "Page") -> Worker:
    return Worker(page)


@pytest.fixture(scope="module")
def sample() -> TimeMachine:
    return TimeMachine(256, 16, 600, 1100, corpus=find_corpus("sample", []))  # updates of 256, 256 and 88 windows


def as_data(sample: TimeMachine) -> Message:
    sizes = {"V": len(sample.vocab), "numSteps": sample.num_steps, "batchSize": sample.batch_size}
    return {"type": "text", "indices": sample.tokens_N.tolist(), **sizes, "numTrain": 600, "numVal": 1100}


def network(**changes: Any) -> Message:
    book = {"cell": "rnn", "activation": "tanh", "layers": 1, "hiddens": 32, "sigma": 0.01, "sigmaXh": None}
    return book | {"sigmaHh": None, "rate": 1, "inputFactor": 1, "radius": 1, "optimizer": "sgd"} | changes


NETWORKS = {
    "the book's": network(),
    "clipped GRU": network(cell="gru", hiddens=17, sigma=0.1, radius=0.05),
    "ReLU": network(activation="relu", hiddens=20, sigmaHh=0.2, rate=0.5),
    "two layers": network(layers=2, sigma=0.1, inputFactor=3),
    "LSTM by AdamW": network(cell="lstm", hiddens=9, sigmaXh=0.5, inputFactor=4, rate=0.003, optimizer="adamw"),
}


def lesson(settings: Message, V: int, weights: Message) -> RNNLMScratch:
    """Return the lesson's model with these settings and weights, in float64."""
    names = {"cell": "cell", "activation": "activation", "hiddens": "hiddens", "rate": "lr"}
    given: dict[str, Any] = {ours: settings[theirs] for theirs, ours in names.items()}
    if settings["layers"] > 1:
        given |= {"cell": "deep_rnn", "layers": settings["layers"]}
    kind = RegularizedRNNLM if settings["optimizer"] == "adamw" else RNNLMScratch
    given |= {"optimizer": "adamw"} if kind is RegularizedRNNLM else {}
    model = kind(vocab_size=V, input_lr_factor=settings["inputFactor"], **given).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.tensor(weights[name.removeprefix("rnn.")]).view(parameter.shape))
    assert len(weights) == len([*model.parameters()])
    return model


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
def test_numbers_of_the_lesson(pair: tuple[str, ...], sample: TimeMachine, worker: Worker) -> None:
    """Two networks see the same windows, so the lesson's models do, too."""
    settings, V = [NETWORKS[name] for name in pair], len(sample.vocab)
    worker.start(settings, as_data(sample))
    models = [lesson(each, V, weights) for each, weights in zip(settings, worker.run(0), strict=True)]
    optimizers: list[Any] = [model.configure_optimizers() for model in models]
    trained = worker.run(9)
    windows_NT = sample.tokens_N.long().unfold(0, sample.num_steps + 1, 1)
    val_NT = windows_NT[600:1700]
    # Sums over the units and the symbols in each step, in each of 9 updates; errors cancel in long sums.
    bound = rounding(9 * sample.num_steps * math.sqrt(2 * 32 + V))
    for epoch, starts in zip(range(3), epochs_of_starts(600, SEED), strict=False):
        found = worker.received("epoch")[epoch]
        assert (found["epoch"], found["update"]) == (epoch + 1, 3 * (epoch + 1))
        for model, optimizer, each, numbers in zip(models, optimizers, settings, found["networks"], strict=True):
            losses = list[Tensor]()
            for batch_NT in windows_NT[starts].split(256):
                nll_BT = model.nll((batch_NT[:, :-1], batch_NT[:, 1:]))
                losses.append(nll_BT.detach().flatten())
                optimizer.zero_grad()
                nll_BT.mean().backward()
                clip_gradients(model.parameters(), each["radius"])
                optimizer.step()
            with torch.no_grad():
                val = model.nll((val_NT[:, :-1], val_NT[:, 1:])).mean().exp().item()
            expected = {"train": torch.cat(losses).mean().exp().item(), "val": val}
            assert numbers.pop("recall") is None
            assert numbers == pytest.approx(expected, rel=bound)
    for model, weights in zip(models, trained, strict=True):
        for name, parameter in model.named_parameters():
            number = torch.tensor(weights[name.removeprefix("rnn.")]).view(parameter.shape).double()
            assert (number - parameter).norm() <= bound * parameter.norm(), name


def test_pauses_change_no_number(sample: TimeMachine, worker: Worker) -> None:
    pair, data = [NETWORKS["the book's"], NETWORKS["clipped GRU"]], as_data(sample)
    results = []
    for until in ((30,), (30,), (0, 1, 5, 6, 30)):
        worker.start(pair, data)
        results.append([worker.run(*until), worker.received("epoch")])
    assert results[0] == results[1] == results[2]
    worker.start(pair, data)
    worker.send(type="run", until=math.inf)
    for number in (1, 2):  # in any step
        worker.wait("progress", len(worker.received("progress")) + 1)
        worker.send(type="pause")
        paused = worker.wait("paused", number)
        assert paused["reason"] == "pause"
        worker.send(type="run", until=math.inf)
    worker.send(type="pause")
    end = worker.wait("paused", 3)["update"]
    weights = worker.received("weights")[-1]["networks"]
    worker.start(pair, data)
    assert worker.run(end) == weights


def test_seed_determines_weights_and_windows(sample: TimeMachine, worker: Worker) -> None:
    data, settings = as_data(sample), network(sigma=0.5, sigmaXh=2, sigmaHh=0.1, hiddens=64)
    worker.start([settings, settings | {"sigmaXh": 4}], data)
    one, two = worker.run(0)
    for name, sigma in (("W_xh", 2), ("W_hh", 0.1), ("W_hq", 0.5)):
        drawn = torch.tensor(one[name])
        assert drawn.square().mean().sqrt().item() == pytest.approx(sigma, rel=0.1)  # 1,800 numbers or more
        assert abs(drawn.mean().item()) < 0.1 * sigma
    assert not any(one["b_h"]) and not any(one["b_q"])
    assert two["W_xh"] == [2 * weight for weight in one["W_xh"]]
    assert two["W_hh"] == one["W_hh"]
    worker.start([settings], data, SEED + 1)
    assert worker.run(0)[0]["W_hh"] != one["W_hh"]


def test_network_that_diverges(sample: TimeMachine, worker: Worker) -> None:
    """The other one trains on; if all have diverged, training ends."""
    wild = network(activation="relu", rate=1e9, radius=0)
    worker.start([wild, network()], as_data(sample))
    worker.run(9)
    assert [each["diverged"] for each in worker.received("progress")[-1]["networks"]] == [True, False]
    worker.start([wild], as_data(sample))
    worker.send(type="run", until=math.inf)
    paused = worker.wait("paused")
    assert paused["reason"] == "diverged"
    (last,) = worker.received("weights")[-1]["networks"]
    assert all(math.isfinite(weight) for weights in last.values() for weight in weights)
    worker.send(type="run", until=math.inf)
    assert worker.wait("paused", 2) == paused


@pytest.mark.parametrize(("N", "num_train", "num_val"), [(900, 100, 50), (158, 100, 50), (1003, None, None)])
def test_windows_of_the_splits(N: int, num_train: int | None, num_val: int | None, worker: Worker) -> None:
    """The text is 0, 1, 2, …, so each index is its place."""
    T, sizes = 8, json.dumps({"numTrain": num_train, "numVal": num_val})
    data = f"{{ indices: Int32Array.from({[*range(N)]}), V: {N}, numSteps: {T}, batchSize: 64, ...{sizes} }}"
    body = f"""(() => {{
        const {{ train, updatesPerEpoch, validate }} = textWindows({data}, uniform(1));
        const batches = Array.from({{ length: updatesPerEpoch }}, () => [...train.next().value]);
        return [batches.map(({{ length }}) => length), batches.flat(), [...validate()].flatMap((batch) => [...batch])];
    }})()"""
    lengths, *windows = worker.evaluate("textWindows, uniform", body)
    splits = _split(N, T, num_train, num_val, "")
    assert {*lengths[:-1]} == {64 * (T + 1)} and 0 < lengths[-1] <= 64 * (T + 1)
    for indices, name in zip(windows, ("train", "val"), strict=True):
        windows_NT = torch.tensor(indices).view(-1, T + 1)
        assert (windows_NT - windows_NT[:, :1] == torch.arange(T + 1)).all()
        starts, expected = windows_NT[:, 0].tolist(), [*splits[name].starts]
        assert sorted(starts) == expected
        assert (starts == expected) == (name == "val")  # training windows are shuffled


def test_text_that_is_too_short(sample: TimeMachine, worker: Worker) -> None:
    worker.start([network()], as_data(sample) | {"numTrain": 10**6})
    assert worker.wait("error")["message"] == "the text is too short"


@pytest.mark.parametrize("delay", [2, 5, 16])
def test_recall_windows(delay: int, worker: Worker) -> None:
    """Windows are parts of a text of blocks, from any place in a block."""
    body = f"[...recallWindows({{ delay: {delay}, batchSize: 500, valWindows: 1 }}, uniform(3)).train.next().value]"
    windows_NT = torch.tensor(worker.evaluate("recallWindows, uniform", body)).view(500, 2 * delay + 2)
    starts = set[int]()
    for indices in windows_NT.tolist():
        text = "".join("abcdefghijklmnopqrstuvwxyz "[index] for index in indices)
        starts.add(start := (delay - 1 - text.index(" ")) % (delay + 1))  # place in its block where the window begins
        kinds = ["[a-p]", *["[q-z]"] * (delay - 2), " ", "[a-p]"] * 3
        assert re.fullmatch("".join(kinds[start : start + len(text)]), text)
        repeated = [place for place in range(delay - start, len(text), delay + 1) if place >= delay]
        assert repeated and all(text[place] == text[place - delay] for place in repeated)
    assert starts == {*range(delay + 1)}


def test_recall_is_learned_by_the_gru(worker: Worker) -> None:
    settings = network(cell="gru", hiddens=32, sigmaXh=1, rate=0.01, optimizer="adamw")
    worker.start([settings], {"type": "recall", "delay": 4, "batchSize": 32, "valWindows": 200})
    worker.run(300)
    found = [message["networks"][0]["recall"] for message in worker.received("epoch")]
    assert found[-1] > 0.9 > found[0]


def test_draws_from_the_normal_distribution(worker: Worker) -> None:
    body = "Array.from({ length: 20_000 }, normal(uniform(5)))"
    drawn = torch.tensor(worker.evaluate("normal, uniform", body))
    moments = [drawn.pow(power).mean().item() for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.2)  # four standard errors of the fourth are 0.28
    x = [1e-9, 0.01, 0.3, 0.5, 0.74, 0.75, 0.76, 0.999999]
    assert worker.evaluate("logarithm", f"{x}.map(logarithm)") == pytest.approx([*map(math.log, x)], rel=1e-14)
