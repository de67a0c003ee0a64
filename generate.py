"""Continue a text with a trained model: python generate.py run=outputs/… prefix="it has"."""

import os
import sys

from timemachine.cli.program import program
from timemachine.config import PREFIX, Generate, Tokens
from timemachine.errors import SettingError
from timemachine.run.record import run_summary


@program(Generate)
def main(settings: Generate) -> None:
    """Print the continuations, separated by blank lines on a terminal or if they may have line breaks."""
    run_summary(settings.run)  # fail on an invalid folder before the slow imports

    from timemachine.decoding import Truncation, continue_text
    from timemachine.evaluation.lost_characters import lost_characters
    from timemachine.run.checkpoint import load_model

    num_samples, alpha = settings.num_samples, settings.power
    if alpha is None and num_samples > 1:
        print(
            f"num_samples={num_samples}: without alpha or temperature all samples are identical, so only one is "
            "printed; add alpha=1 to sample",
            file=sys.stderr,
        )
        num_samples = 1
    model, vocab = load_model(settings.run)
    prefix = vocab.tokens_of(settings.prefix)
    if vocab.kind is Tokens.letters and settings.prefix and not prefix.strip(" "):
        raise SettingError(f"prefix={settings.prefix}: contains no letter from A to Z; use prefix='it has'")
    if vocab.kind is Tokens.letters and (lost := lost_characters(settings.prefix)):
        shown = " ".join(map(repr, lost))
        print(f"prefix: the run reads {shown} as spaces; with data.tokens=characters a run keeps them", file=sys.stderr)
    if unknown := vocab.unknown(prefix):
        effect = "they are read as <unk>"
        if settings.prefix == PREFIX:  # the default
            prefix, effect = "", "the text starts without a prefix"
        print(f"prefix: the run's vocabulary lacks {' '.join(map(repr, unknown))}; {effect}", file=sys.stderr)
    truncation = Truncation(settings.top_k, settings.top_p, settings.min_p)
    texts = continue_text(model, vocab, prefix, settings.num_preds, alpha, num_samples, settings.seed, truncation)
    on_terminal = sys.stdout.isatty()
    if on_terminal:  # a pipe gets the texts unchanged
        texts = [highlight_prefix(prefix, text.removeprefix(prefix)) for text in texts]
    print(*texts, sep="\n\n" if on_terminal or vocab.kind is not Tokens.letters else "\n")


def highlight_prefix(prefix: str, continuation: str) -> str:
    """Return the text in quotes, since it may end in spaces, with the prefix bold, or a bar on a plain terminal."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return f'"{prefix}│{continuation}"' if is_plain else f'"\x1b[1m{prefix}\x1b[22m{continuation}"'


if __name__ == "__main__":
    main()
