"""Load a run in Python: `timemachine.load_run(folder)`."""

import io
from contextlib import redirect_stderr
from functools import cached_property
from pathlib import Path
from typing import Any

from timemachine.config import Tokens, format_value, windows_of
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run.checkpoint import load_model
from timemachine.run.record import folder_of, run_summary
from timemachine.run.rows import read_numbers
from timemachine.vocab import Vocab


class Run:
    """A run that has trained. `model`, `vocab` and `data` are read on first use.

    `summary`: the content of summary.json. `settings`: its settings, nested. `curves`: the rows of metrics.csv, with
    NaN where nothing was measured.
    """

    def __init__(self, run: str) -> None:
        self._run, path = run, Path(run)
        self.summary = run_summary(run)
        self.settings: dict[str, Any] = self.summary["settings"]
        self.folder = folder_of(path)
        self.curves = read_numbers(self.folder / "metrics.csv")

    @cached_property
    def _loaded(self) -> tuple[RNNLMScratch, Vocab]:
        return load_model(self._run)

    @property
    def model(self) -> RNNLMScratch:
        """The model after its last epoch, in evaluation mode. Raises SettingError if the run has none."""
        return self._loaded[0]

    @property
    def vocab(self) -> Vocab:
        """The model's vocabulary. Raises SettingError as `model` does."""
        return self._loaded[1]

    @cached_property
    def data(self) -> TimeMachine:
        """The run's windows, shuffled as in its first epoch, without the changes that the settings of `training.` make.

        Raises SettingError if the text is no longer found, or has changed.
        """
        windows, text = self.settings["data"], self.summary["corpus"]
        with redirect_stderr(io.StringIO()):  # hides the warning that the sample replaces a missing novel: see below
            corpus = find_corpus(text["source"], windows["search_dirs"], Tokens[windows["tokens"]])
        if corpus.sha256 != text["sha256"]:
            name = f"data.corpus={format_value(text['source'])}"
            raise SettingError(f"{name}: the run's text is no longer there, or has changed; restore the file")
        return TimeMachine(**windows_of(windows), corpus=corpus, seed=self.settings["seed"])


def load_run(folder: str | Path) -> Run:
    """Return the run of a folder, a checkpoint or a model.safetensors. Raises SettingError if it is not a run's."""
    return Run(str(folder))
