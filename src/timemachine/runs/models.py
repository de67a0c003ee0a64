"""The model of a run, read from its folder or from what it exported."""

from pathlib import Path
from typing import Any

from timemachine.errors import SettingError, one_line
from timemachine.language_model import RNNLMScratch
from timemachine.runs.checkpoints import Refused, read_checkpoint, read_safetensors, write_safetensors
from timemachine.runs.summaries import A_RUN, no_checkpoint_yet, run_summary
from timemachine.vocab import Vocab


def load_model(run: str) -> tuple[RNNLMScratch, Vocab]:
    """Return the model of a run, of a folder as its last epoch left it, ready to predict, and its vocabulary.

    `run`: its folder, one of its checkpoints, or what it exported. Raises SettingError where there is none that can be
    read. Nothing in a file is executed.
    """
    path = Path(run)
    if not (path.suffix in (".ckpt", ".safetensors") and path.is_file()):
        path = path / "checkpoints" / "last.ckpt"
        if not path.is_file():
            if (Path(run) / "summary.json").is_file() and run_summary(run)["status"] == "running":
                raise SettingError(no_checkpoint_yet(run, "run"))
            raise SettingError(f"run={run}: has no checkpoints/last.ckpt; type run={A_RUN}")
    try:
        if path.suffix == ".safetensors":
            weights, about = read_safetensors(path)
        else:
            checkpoint = read_checkpoint(path)
            weights, about = checkpoint["state_dict"], checkpoint | checkpoint["TimeMachine"]
        model, vocab = RNNLMScratch(**about["hyper_parameters"]), Vocab(about["tokens"])
        model.load_state_dict(weights)
        if len(vocab) != model.vocab_size or not all(weight.isfinite().all() for weight in model.parameters()):
            raise Refused("has weights that are not finite, or do not fit its vocabulary")
    except Exception as error:  # another program's file raises anything
        reason = str(error) if isinstance(error, Refused) else f"is not a checkpoint of this program: {error}"
        raise SettingError(f"run={run}: {path} {one_line(reason, 150)}; type another run") from error
    return model.eval(), vocab


def export_model(path: Path, model: RNNLMScratch, vocab: Vocab, summary: dict[str, Any]) -> None:
    """Write what `load_model` reads, and any program that knows safetensors. `summary`: the run's. Raises OSError."""
    known = {name: summary[name] for name in ("status", "settings", "corpus", "metrics", "versions", "git")}
    about = {"hyper_parameters": dict(model.hparams), "tokens": vocab.idx_to_token, "summary": known}
    write_safetensors(path, model.state_dict(), about)
