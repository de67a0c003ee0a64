"""Run the book's program with d2l's own classes and no figure: python -m tools.bench.book_program TEXT [EPOCHS].

Install d2l without its dependencies (pip install --no-deps d2l==1.0.3): it requires numpy 1.23.5, which does not
support Python 3.12 or later. Missing modules that d2l imports only for other chapters are replaced by stubs.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

OF_OTHER_CHAPTERS = ("IPython", "matplotlib_inline", "pandas", "PIL", "requests", "scipy.spatial", "torchvision")


def import_d2l() -> Any:
    """Return `d2l.torch`. Raise ImportError if d2l is not installed."""
    missing = [name for name in OF_OTHER_CHAPTERS if find_spec(name.partition(".")[0]) is None]
    parts = {part: _anything(part) for name in missing for part in (name.partition(".")[0], name)}
    sys.modules.update(parts)
    try:
        return import_module("d2l.torch")
    finally:  # wandb, for example, checks whether pandas is installed
        for part in parts:
            del sys.modules[part]


def _anything(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)  # torch reads it
    vars(module)["__getattr__"] = lambda _: MagicMock()
    return module


def main(text: str, epochs: int = 100) -> None:
    """Run section 9.5 of the book, from loading the corpus to generating text."""
    d2l = import_d2l()
    d2l.TimeMachine._download = lambda _: text
    d2l.Module.plot = lambda *_, **__: None
    data = d2l.TimeMachine(batch_size=1024, num_steps=32)
    rnn = d2l.RNNScratch(num_inputs=len(data.vocab), num_hiddens=32)
    model = d2l.RNNLMScratch(rnn, vocab_size=len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=epochs, gradient_clip_val=1, num_gpus=1)
    trainer.fit(model, data)
    print(model.predict("it has", 20, data.vocab, d2l.try_gpu()))


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text(encoding="utf-8"), *map(int, sys.argv[2:]))
