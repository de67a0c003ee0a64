"""Perplexity of a trained model on other texts: python evaluate.py run=outputs/… data.corpus=war_of_the_worlds."""

from timemachine.cli.program import program
from timemachine.config import Evaluate, Tokens, format_value
from timemachine.corpus import find_corpus
from timemachine.errors import SettingError
from timemachine.run.record import run_summary


@program(Evaluate)
def main(settings: Evaluate) -> None:
    """Print a table with the window and stream perplexity of each text; with logger=wandb, also log it to W&B."""
    summary = run_summary(settings.runs[0])  # `load_models` below reads the others
    chosen, own_source = settings.data.corpus, summary["corpus"]["source"]
    names = [own_source] if chosen is None else list(map(str, chosen if isinstance(chosen, list) else [chosen]))
    tokens = Tokens[summary["settings"]["data"]["tokens"]]
    corpora = [find_corpus(name, settings.data.search_dirs, tokens) for name in names]
    if chosen is None and corpora[0].sha256 != summary["corpus"]["sha256"]:
        name = format_value(own_source)
        rule = "is no longer the text that the run was trained on"
        raise SettingError(f"data.corpus=null: {name} {rule}; use data.corpus={name} to evaluate on it as a new text")
    own = find_corpus(own_source, settings.data.search_dirs, tokens) if settings.baselines else None
    from timemachine import how_low
    from timemachine.evaluation.scores import evaluate, print_evaluation

    model, vocab = how_low.load_models(settings.runs)
    if settings.baselines:
        how_low.check_size(vocab, "baselines=true", "baselines=false")
    if settings.adapt is not None:
        how_low.check_size(vocab, f"adapt={settings.adapt:g}", "adapt=null")
    rows = [row for corpus in corpora for row in evaluate(model, vocab, summary, corpus)]
    print_evaluation(rows, corpora, vocab, settings.runs)
    if own is not None:
        for comparison in how_low.compare(model, vocab, summary, corpora, own):
            how_low.print_comparison(comparison)
            rows += comparison.rows[1:]  # without the run's own row, which `evaluate` has returned
    if settings.adapt is not None:
        for corpus in corpora:
            adapting = how_low.evaluate_adapting(model, vocab, summary, corpus, settings.adapt)
            how_low.print_adapting(adapting, settings.adapt)
            rows += adapting
    for entry in settings.logger.values():
        from timemachine.weights_and_biases.evaluation import log_evaluation  # deferred: imports wandb

        log_evaluation(entry, settings.runs, summary, rows)


if __name__ == "__main__":
    main()
