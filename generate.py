"""Continue a text with a trained model: python generate.py run=outputs/… prefix="it has"."""

import sys

from timemachine.cli.program import program
from timemachine.config import Generate, Tokens
from timemachine.errors import SettingError
from timemachine.runs.summaries import run_summary


@program(Generate)
def main(settings: Generate) -> None:
    """Print the continuations, one after another."""
    run_summary(settings.run)  # a folder that is none shall be told before the slow imports

    from timemachine.decoding import continue_text
    from timemachine.runs.checkpoints import load_model

    num_samples = settings.num_samples
    if settings.alpha is None and num_samples > 1:
        print(f"num_samples={num_samples}: without alpha all are the same text; type alpha=1 as well", file=sys.stderr)
        num_samples = 1
    on_terminal = sys.stdout.isatty()  # there a text that ends in spaces would look cut short; a pipe gets it as it is
    model, vocab = load_model(settings.run)
    prefix = vocab.tokens_of(settings.prefix)
    if vocab.kind is Tokens.letters and settings.prefix and not prefix.strip(" "):
        raise SettingError(f"prefix={settings.prefix}: has no letter from A to Z; type for example prefix='it has'")
    if unknown := vocab.unknown(prefix):
        print(
            f"prefix: not in the run's vocabulary, read as <unk>: {' '.join(map(repr, unknown))}; "
            "type prefix=<a text of its characters>",
            file=sys.stderr,
        )
    for text in continue_text(model, vocab, prefix, settings.num_preds, settings.alpha, num_samples, settings.seed):
        print(f'"{text}"' if on_terminal else text)


if __name__ == "__main__":
    main()
