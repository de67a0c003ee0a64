"""Continue a text with a trained model: python generate.py run=outputs/… prefix="it has"."""

import sys
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from timemachine.config import GENERATE, MAX_GENERATED, check, require
from timemachine.run.console import print_continuations, with_quoted
from timemachine.run.program import HYDRA, class_of, exit_on_setting_errors, find_run


@hydra.main(**HYDRA, config_path="conf", config_name="generate")
@exit_on_setting_errors
def main(cfg: DictConfig) -> None:
    """Print the continuations, one per line, or separated by empty lines if they may have line breaks."""
    settings: dict[str, Any] = OmegaConf.to_container(cfg, throw_on_missing=True)  # type: ignore[assignment]
    check(settings, GENERATE)
    require(isinstance(cfg.prefix, str), "prefix", cfg.prefix, "must be a text")
    num_preds, num_samples, alpha = settings["num_preds"], settings["num_samples"], settings["alpha"]
    rule = f"exceeds {MAX_GENERATED:,} characters in total with num_samples={num_samples}"
    require(num_preds * num_samples <= MAX_GENERATED, "num_preds", num_preds, rule)
    if settings["temperature"] is not None:
        require(alpha is None, "temperature", settings["temperature"], f"is 1/alpha, and alpha={alpha} is set")
        alpha = 1 / settings["temperature"]
    run = find_run(str(cfg.run))

    # These take time to import, so they come after the checks of the command line.
    from timemachine.run.decoder import load_decoder, readable_prefix
    from timemachine.sampling import Truncation, decode

    truncation = Truncation(settings["top_k"], settings["top_p"], settings["min_p"])
    if alpha is None and truncation != Truncation():
        alpha = 1.0  # a truncation samples
    num_samples = 1 if alpha is None else num_samples  # greedy continuations are all identical
    step, vocab = load_decoder(run, class_of(cfg.model._target_))
    prefix = readable_prefix(cfg.prefix, vocab)
    texts = decode(step, vocab, prefix, num_preds, alpha, num_samples, cfg.seed, truncation)
    print_continuations(texts, is_one_line=vocab.kind == "letters")


if __name__ == "__main__":
    # A prefix is read as it is typed; in Hydra's grammar, its commas, quotes and brackets have other meanings.
    sys.argv = with_quoted("prefix", sys.argv)
    main()
