"""Perplexity of a trained model on other texts: python evaluate.py run=outputs/… data.corpus=war_of_the_worlds."""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from timemachine.config import EVALUATE, check
from timemachine.run.program import HYDRA, class_of, exit_on_setting_errors, find_run


@hydra.main(**HYDRA, config_path="conf", config_name="evaluate")
@exit_on_setting_errors
def main(cfg: DictConfig) -> None:
    """Print a table with the window and the stream perplexity of each text."""
    settings: dict[str, Any] = OmegaConf.to_container(cfg, throw_on_missing=True)  # type: ignore[assignment]
    check(settings, EVALUATE)
    folder = find_run(str(cfg.run))
    print(f"scoring {cfg.run} on {cfg.data.corpus or 'its own text'}, window by window and as one stream", flush=True)

    # These take seconds to import, so they come after the checks of the command line.
    from timemachine.evaluation.baselines import compare_with_ngrams, print_comparison
    from timemachine.evaluation.scores import evaluate, find_texts, print_evaluation
    from timemachine.run.run import load_run

    corpus, search_dirs = settings["data"]["corpus"], settings["data"]["search_dirs"]
    run = load_run(folder, class_of(cfg.model._target_))
    texts = find_texts(corpus, run.summary, search_dirs)
    rows = [row for text in texts for row in evaluate(run.model, run.vocab, run.summary, text)]
    print_evaluation(f"perplexity of {cfg.run}", run.vocab, texts, rows)
    if cfg.baselines:
        (own,) = find_texts(None, run.summary, search_dirs)
        for comparison in compare_with_ngrams(run.model, run.vocab, run.summary, texts, own):
            print_comparison(comparison)


if __name__ == "__main__":
    main()
