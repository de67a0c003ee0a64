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
    summary = next(run_summary(run) for run in settings.runs)
    chosen = settings.data.corpus or summary["corpus"]["source"]
    names = chosen if isinstance(chosen, list) else [chosen]
    corpora = [find_corpus(str(name), settings.data.search_dirs) for name in names]
    own = find_corpus(summary["corpus"]["source"], settings.data.search_dirs) if settings.baselines else None

    from timemachine.dynamic import evaluate_adapting
    from timemachine.ensemble import from_runs
    from timemachine.evaluation import compare, evaluate
    from timemachine.report import print_adapting, print_comparison, print_evaluation

    model, vocab = from_runs(settings.runs)
    print_evaluation([row for corpus in corpora for row in evaluate(model, vocab, summary, corpus)], settings.runs)
    for corpus in corpora:
        if own is not None:
            for comparison in compare(model, vocab, summary, corpus, own):
                print_comparison(comparison)
        if settings.adapt is not None:
            print_adapting(corpus, evaluate_adapting(model, vocab, summary, corpus, settings.adapt), settings.adapt)


if __name__ == "__main__":
    main()
