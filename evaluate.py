"""Perplexity of a trained model on other texts: python evaluate.py run=outputs/… data.corpus=war_of_the_worlds."""

from timemachine.cli.program import program
from timemachine.config import Evaluate, WandbMode
from timemachine.corpus import find_corpus
from timemachine.runs.summaries import run_summary


@program(Evaluate)
def main(settings: Evaluate) -> None:
    """Print one table: window and stream perplexity of each text. With logger=wandb the run in W&B has it, too."""
    summary = next(run_summary(run) for run in settings.runs)
    chosen, own_source = settings.data.corpus, summary["corpus"]["source"]
    names = [own_source] if chosen is None else list(map(str, chosen if isinstance(chosen, list) else [chosen]))
    corpora = [find_corpus(name, settings.data.search_dirs) for name in names]
    own = find_corpus(own_source, settings.data.search_dirs) if settings.baselines else None
    wandb = settings.logger.wandb
    if wandb is not None and wandb.mode is WandbMode.disabled:
        wandb = None
    if wandb is not None:
        from timemachine.weights_and_biases.evaluation import add_table, run_in_wandb  # it imports wandb

        run_in_wandb(settings.runs, summary)

    from timemachine.evaluation.adapting import evaluate_adapting
    from timemachine.evaluation.ensemble import from_runs
    from timemachine.evaluation.scores import compare, evaluate
    from timemachine.evaluation.tables import COLUMNS, as_lines, print_adapting, print_comparison, print_evaluation

    model, vocab = from_runs(settings.runs)
    rows = [row for corpus in corpora for row in evaluate(model, vocab, summary, corpus)]
    print_evaluation(rows, settings.runs)
    comparisons, adapting = [], {}
    if own is not None:
        for comparison in compare(model, vocab, summary, corpora, own):
            print_comparison(comparison)
            comparisons.append(comparison)
    for corpus in corpora:
        if settings.adapt is not None:
            adapting[corpus.name] = evaluate_adapting(model, vocab, summary, corpus, settings.adapt)
            print_adapting(corpus, adapting[corpus.name], settings.adapt)
    if wandb is not None:
        add_table(wandb, settings.runs[0], summary, COLUMNS, as_lines(rows, comparisons, adapting))


if __name__ == "__main__":
    main()
