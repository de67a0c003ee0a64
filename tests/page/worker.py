"""The workers of page.html in a blank page: random.js, worker.js and team.js, and kernel.wasm."""

import base64
from typing import TYPE_CHECKING, Any

from timemachine.datamodule import TimeMachine
from timemachine.page.build import KERNEL

if TYPE_CHECKING:
    from playwright.sync_api import Page


def _read(*names: str) -> str:
    return "".join(KERNEL.with_name(name).read_text(encoding="utf-8") for name in names)


SOURCE, TEAM = _read("random.js", "worker.js"), _read("team.js")
START = """([source, team, wasm, message, cores]) => {
    window.team?.end();
    window.received = [];
    const arrays = (weights) => Object.fromEntries(Object.entries(weights).map(([name, x]) => [name, [...x]]));
    const receive = (place, message) =>
        received.push({ place, ...message, ...(message.weights && { weights: arrays(message.weights) }) });
    const bytes = Uint8Array.from(atob(wasm), (character) => character.charCodeAt(0)).buffer;
    const { indices } = message.data, data = { ...message.data, indices: Int32Array.from(indices ?? []) };
    const url = URL.createObjectURL(new Blob([source])), startTeam = new Function(`${team}; return startTeam`)();
    const fail = (message) => received.push({ type: "error", place: 0, message });
    window.team = startTeam(url, { ...message, wasm: bytes, data }, cores, receive, fail);
}"""
# The parts of a worker without messages, in the page.
EVALUATE = """([source, names, body]) => {
    const parts = new Function("postMessage", "onmessage", `${source}; return { ${names} }`)();
    return new Function(names, "return " + body)(...names.split(", ").map((name) => parts[name]));
}"""
Message = dict[str, Any]


def text_of(data: TimeMachine) -> Message:
    """Return the `data` of a message with the text and the windows of a data module."""
    sizes = {"V": len(data.vocab), "num_steps": data.num_steps, "batch_size": data.batch_size}
    splits = {name: data.hparams[name] for name in ("num_train", "num_val")}
    return {"type": "text", "indices": data.tokens_N.tolist(), **sizes, **splits}


def network(**changes: Any) -> Message:
    """Return the settings of a network, by default the book's."""
    book: Message = {"cell": "rnn", "activation": "tanh" if changes.get("cell", "rnn") == "rnn" else None, "layers": 1}
    book |= {"hiddens": 32, "sigma": 0.01, "sigma_xh": None, "sigma_hh": None, "init_hh": "gaussian", "lr": 1}
    return book | {"input_lr_factor": 1, "gradient_clip_val": 1, "optimizer": "sgd"} | changes


class Workers:
    """The workers of a training in a page, and the messages that they have sent."""

    def __init__(self, page: "Page") -> None:
        self.page = page

    def start(self, networks: list[Message], data: Message, seed: int = 0, cores: int = 1) -> None:
        wasm = base64.b64encode(KERNEL.read_bytes()).decode()
        message = {"networks": networks, "data": data, "seed": seed}
        self.page.evaluate(START, [SOURCE, TEAM, wasm, message, cores])

    def send(self, **message: Any) -> None:
        self.page.evaluate("message => team.send(message)", message)

    def received(self, kind: str, place: int = 0) -> list[Message]:
        """Return the messages of a type about the network at a place."""
        selected = "([kind, place]) => received.filter((it) => it.type === kind && it.place === place)"
        messages: list[Message] = self.page.evaluate(selected, [kind, place])
        return messages

    def wait(self, kind: str, number: int = 1) -> Message:
        """Wait for the message of this type and number about the first network, and return it."""
        enough = """([kind, n]) =>
            received.filter(({ type, place }) => !place && (type === kind || type === 'error')).length >= n"""
        self.page.wait_for_function(enough, arg=[kind, number])
        assert kind == "error" or not self.received("error")
        return self.received(kind)[number - 1]

    def run(self, *until: int) -> list[Message]:
        """Train up to each of these updates in turn; return the weights after the last."""
        for update in until:
            paused = len(self.received("paused"))
            self.send(type="run", until=update)
            self.wait("paused", paused + 1)
        return self.weights()

    def last(self, kind: str) -> list[Message]:
        latest: list[Message] = self.page.evaluate("""kind => Object.values(Object.fromEntries(
            received.filter(({ type }) => type === kind).map((it) => [it.place, it])))""", kind)  # fmt: skip
        return latest

    def weights(self) -> list[Message]:
        return [message["weights"] for message in self.last("progress")]

    def evaluate(self, names: str, body: str) -> Any:
        """Return the value of an expression with functions of a worker."""
        return self.page.evaluate(EVALUATE, [SOURCE, names, body])
