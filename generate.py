"""Continue a text with a trained model: python generate.py run=outputs/… prefix="it has"."""

from omegaconf import DictConfig

from timemachine import command_line
from timemachine.config import Generate, checked
from timemachine.record import run_summary


@command_line.program(Generate)
def main(cfg: DictConfig) -> None:
    """Print the continuations, one a line."""
    settings = checked(cfg, Generate)
    run_summary(settings.run)  # a folder that is none shall be told before the slow imports

    from timemachine.decoding import continue_text
    from timemachine.language_model import RNNLMScratch

    model, vocab = RNNLMScratch.from_run(settings.run)
    for text in continue_text(
        model, vocab, settings.prefix, settings.num_preds, settings.alpha, settings.num_samples, settings.seed
    ):
        print(text)


if __name__ == "__main__":
    main()
