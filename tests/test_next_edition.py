"""recipe=next_edition, and the same model in Python."""

from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.kernels.language_model import FusedRNNLM


def test_the_recipe_from_python() -> None:
    windows: dict[str, Any] = {"num_train": 200, "num_val": 100}
    typed = ["recipe=next_edition", "data.corpus=sample", *(f"data.{name}={value}" for name, value in windows.items())]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("train", typed)
    data = TimeMachine(**windows, tokens="bpe", corpus="sample")
    model = FusedRNNLM(len(data.vocab), hiddens=128, lr=4, input="embedding", embedding_dim=64)
    assert instantiate(cfg.data, _convert_="all").hparams == data.hparams
    built = instantiate(cfg.model, vocab_size=len(data.vocab), _convert_="all")
    assert (type(built), built.hparams) == (FusedRNNLM, model.hparams)
    assert (cfg.trainer.max_epochs, cfg.trainer.gradient_clip_val, cfg.seed) == (10, 1, 0)
