"""The files that a run writes at its end."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.run.checkpoints import class_name
from timemachine.run.curves import write_curves
from timemachine.run.files import relative_path, write_whole
from timemachine.run.progress import continuation
from timemachine.run.record import EXPORT, Record, with_class_defaults
from timemachine.run.results import outcome
from timemachine.vocab import Vocab


def write_artifacts(run: Record, trainer: Any) -> list[str]:
    """Write the files of a run and then its status; return lines about them for the terminal.

    Only an `RNNLMScratch` with a `TimeMachine` has an export and a continuation. Callbacks and loggers with a method
    `log_results(run, trainer)`, such as those of the page and of W&B, write theirs; it returns a line, or "".
    """
    if not run.writes or trainer.fast_dev_run:
        return []
    model, data, lines = trainer.lightning_module, trainer.datamodule, list[str]()
    status, message = outcome(run.summary)
    write_curves(run.folder, run.summary)
    if isinstance(model, RNNLMScratch) and isinstance(data, TimeMachine):
        sample = continuation(model.eval(), data)
        export_model(run.folder / EXPORT, model, data.vocab, with_class_defaults(run.summary) | {"status": status})
        write_whole(run.folder / "sample.txt", f"{sample}\n".encode())
        # In quotes, since it may end in spaces.
        lines += ['continuation  "{}"'.format(sample.replace("\n", "↵"))]
    # Not earlier: a sweep that is repeated skips a job with this status, and a kill may come at any time.
    run.update(status=status, message=message)
    hooks = [each.log_results for each in (*trainer.callbacks, *trainer.loggers) if hasattr(each, "log_results")]
    lines += filter(None, [hook(run, trainer) for hook in hooks])
    return [*lines, f"folder        {relative_path(run.folder)}"]


def export_model(path: Path, model: RNNLMScratch, vocab: Vocab, summary: dict[str, Any]) -> None:
    """Write model.safetensors, for `load_model` and for any program that reads the format. Raises OSError."""
    entries = {name: summary[name] for name in ("status", "settings", "corpus", "metrics", "versions", "git")}
    about: dict[str, Any] = {"tokens": vocab.idx_to_token, "kind": vocab.kind.name}
    about |= {"class": class_name(type(model)), "hyper_parameters": dict(model.hparams), "summary": entries}
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    write_whole(path, safetensors.torch.save(weights, {name: json.dumps(value) for name, value in about.items()}))
