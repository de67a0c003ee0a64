"""The table of continuations that a logger with tables gets, also in a resumed run."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger

from tests.support.runs import fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.language_model import RNNLMScratch
from timemachine.weights_and_biases.samples import SampleTable


class LoggerWithTables(CSVLogger):
    """Keeps the last table, as W&B shows it."""

    def log_table(self, key: str, columns: list[str], data: list[list[Any]], step: int) -> None:
        self.rows = data


def test_rows_of_a_resumed_run(sample: Corpus, tmp_path: Path) -> None:
    prefixes, model = ["it has", "time"], RNNLMScratch(28, hiddens=4, sigma=0.5)
    data, logger = TimeMachine(64, 8, 310, 70, corpus=sample), LoggerWithTables(tmp_path)
    for max_epochs in (2, 4):
        fit(tmp_path / "run", model, data, [SampleTable(prefixes, 2, num_preds=9)], logger, max_epochs=max_epochs)
    assert [row[:2] for row in logger.rows] == [[epoch, prefix] for epoch in (2, 4) for prefix in prefixes]
    for seed, (_, prefix, greedy, drawn) in enumerate(logger.rows[2:]):
        for alpha, continuation in ((None, greedy), (2.0, drawn)):
            assert [prefix + continuation] == continue_text(model, data.vocab, prefix, 9, alpha, seed=seed)
