"""Run the program of the book's next edition with its own classes and no figure.

python -m tools.bench.next_edition_program CLONE TEXT [EPOCHS] prints the seconds of each epoch. CLONE is a clone
of github.com/smolix/d2l-neu. Its package is named d2l like the published one, so one process can import only one.
"""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from tools.bench.book_program import import_d2l


def main(clone: str, text: str, epochs: int = 10) -> None:
    """Run section 9.5 of the next edition, from learning the tokens to generating text."""
    sys.path.insert(0, clone)
    d2l = import_d2l()
    d2l.TimeMachine._download = lambda _: text
    d2l.Module.plot = lambda *_, **__: None
    d2l.ProgressBoard.flush = lambda _: None
    fit_epoch = d2l.Trainer.fit_epoch

    def timed_epoch(trainer: Any) -> None:
        began = perf_counter()
        fit_epoch(trainer)
        print(perf_counter() - began)

    d2l.Trainer.fit_epoch = timed_epoch
    data = d2l.TimeMachine(batch_size=1024, num_steps=32, num_train=50_000, num_val=5_000)
    rnn = d2l.RNNScratch(num_inputs=64, num_hiddens=128)
    model = d2l.RNNLMScratch(rnn, vocab_size=len(data.vocab), lr=4)
    d2l.Trainer(max_epochs=epochs, gradient_clip_val=1, num_gpus=1).fit(model, data)
    model.predict("it has", 20, data.tokenizer, d2l.try_gpu())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_text(encoding="utf-8"), *map(int, sys.argv[3:]))
