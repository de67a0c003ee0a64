"""Perplexity of a trained model on other texts: python evaluate.py run=outputs/… data.corpus=war_of_the_worlds."""

from omegaconf import DictConfig

from timemachine import command_line
from timemachine.config import Evaluate, checked
from timemachine.corpus import find_corpus
from timemachine.record import run_summary


@command_line.program(Evaluate)
def main(cfg: DictConfig) -> None:
    """Print one table: window and stream perplexity of each text."""
    settings = checked(cfg, Evaluate)
    summary = run_summary(settings.run)
    chosen = settings.data.corpus or summary["corpus"]["source"]
    names = chosen if isinstance(chosen, list) else [chosen]
    corpora = [find_corpus(str(name), settings.data.search_dirs) for name in names]

    own = find_corpus(summary["corpus"]["source"], settings.data.search_dirs) if settings.baselines else None

    from timemachine.evaluation import compare, evaluate
    from timemachine.language_model import RNNLMScratch
    from timemachine.report import print_comparison, print_evaluation

    model, vocab = RNNLMScratch.from_run(settings.run)
    print_evaluation([row for corpus in corpora for row in evaluate(model, vocab, summary, corpus)], settings.run)
    if own is not None:
        for comparison in (found for corpus in corpora for found in compare(model, vocab, summary, corpus, own)):
            print_comparison(comparison)


if __name__ == "__main__":
    main()
