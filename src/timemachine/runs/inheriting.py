"""`init_from=<run>`: a new run begins with the weights of another one, its parent."""

from typing import TYPE_CHECKING, Any

from timemachine.config import format_value
from timemachine.errors import SettingError
from timemachine.runs.record import Record
from timemachine.runs.resuming import with_defaults
from timemachine.runs.summaries import run_summary

if TYPE_CHECKING:  # they import torch, which takes seconds
    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

# Settings of model. that may differ from the parent's.
MAY_DIFFER = {"lr", "input_lr_factor", "backward", "sigma", "sigma_hh", "embedding_sigma"}


def check_parent(parent: str, network: dict[str, Any]) -> None:
    """Raise SettingError unless `init_from` names a run of such a network, all of `model.`."""
    theirs = with_defaults(run_summary(parent, "init_from")["settings"])
    for name, value in network.items():
        if name not in MAY_DIFFER and theirs[f"model.{name}"] != value:
            instead = f"model.{name}={format_value(theirs[f'model.{name}'])}"
            raise SettingError(f"init_from={parent}: has {instead}, not {format_value(value)}; type {instead}")


def inherit(run: Record, model: "RNNLMScratch", data: "TimeMachine") -> None:
    """Give the model of a run that begins the weights of its parent, and write down which they are.

    A run that goes on from a checkpoint has its own. Raises SettingError where the parent cannot be read, or has
    another network or other symbols.
    """
    from timemachine.runs.checkpoints import read_model, weights_digest

    settings = run.summary["settings"]
    parent, last = settings["init_from"], run.folder / "checkpoints" / "last.ckpt"
    if run.is_resumed and last.is_file():
        return
    check_parent(parent, settings["model"])
    _, weights, about = read_model(parent, "init_from")
    if about["kind"] != data.vocab.kind.name:
        instead = f"data.tokens={about['kind']}"
        raise SettingError(f"init_from={parent}: has {instead}, not {data.vocab.kind.name}; type {instead}")
    if odd := "".join(sorted({*about["tokens"]} ^ {*data.vocab.idx_to_token})):
        rule = f"its symbols are not the text's (only one has {odd[:20]!r}{' …' * (len(odd) > 20)})"
        raise SettingError(f"init_from={parent}: {rule}; type the data.corpus and data.min_count of that run")
    if str(settings["trainer"]["precision"]).startswith("64"):
        model.double()  # as Lightning will, but not before float32 has rounded
    model.load_state_dict(weights)
    epoch = about["epoch"] + 1 if "epoch" in about else about["summary"]["metrics"].get("epoch")  # an export's
    run.update(parent={"run": parent, "epoch": epoch, "sha256": weights_digest({}, weights)})
