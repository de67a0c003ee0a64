"""A worker of page.html in a blank page: the source of random.js and worker.js, and kernel.wasm."""

import base64
from typing import TYPE_CHECKING, Any

from timemachine.datamodule import TimeMachine
from timemachine.page.build import KERNEL

if TYPE_CHECKING:
    from playwright.sync_api import Page

SOURCE = "".join(KERNEL.with_name(name).read_text(encoding="utf-8") for name in ("random.js", "worker.js"))
START = """([source, wasm, message]) => {
    window.worker?.terminate();
    window.received = [];
    window.worker = new Worker(URL.createObjectURL(new Blob([source])));
    const arrays = (weights) => Object.fromEntries(Object.entries(weights).map(([name, x]) => [name, [...x]]));
    const withArrays = (network) => ({ ...network, weights: arrays(network.weights) });
    worker.onmessage = ({ data }) =>
        received.push(data.type === "progress" ? { ...data, networks: data.networks.map(withArrays) } : data);
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
Message = dict[str, Any]


def text_of(data: TimeMachine) -> Message:
    """Return the `data` of a message with the text and the windows of a data module."""
    sizes = {"V": len(data.vocab), "num_steps": data.num_steps, "batch_size": data.batch_size}
    splits = {name: data.hparams[name] for name in ("num_train", "num_val")}
    return {"type": "text", "indices": data.tokens_N.tolist(), **sizes, **splits}


def network(**changes: Any) -> Message:
    """Return the settings of a network, by default the book's."""
    book: Message = {"cell": "rnn", "activation": "tanh" if changes.get("cell", "rnn") == "rnn" else None, "layers": 1}
    book |= {"hiddens": 32, "sigma": 0.01, "sigma_xh": None, "sigma_hh": None, "lr": 1, "input_lr_factor": 1}
    return book | {"gradient_clip_val": 1, "optimizer": "sgd"} | changes


class Worker:
    """A worker in a page, and the messages that it has sent."""

    def __init__(self, page: "Page") -> None:
        self.page = page

    def start(self, networks: list[Message], data: Message, seed: int = 0) -> None:
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
            assert self.wait("paused", paused + 1) == {"type": "paused", "update": update}
        return self.weights()

    def weights(self) -> list[Message]:
        """Return the last weights of each network."""
        return [network["weights"] for network in self.received("progress")[-1]["networks"]]

    def evaluate(self, names: str, body: str) -> Any:
        """Return the value of an expression with functions of the worker."""
        return self.page.evaluate(EVALUATE, [SOURCE, names, body])
