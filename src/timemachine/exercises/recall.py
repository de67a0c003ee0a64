"""Chapter 10, continued: Over how many characters do the cells remember a letter?

L delay, M blocks of the recall corpus, T time steps.
"""

import torch

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode
from timemachine.texts.recall import delay_of

MAX_BLOCKS = 1000


@in_evaluation_mode
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Return the accuracy at the repeated letters of the test text, each block read from a zero state.

    Of the first 1,000 blocks, or as many as there are: chance is 1/16, with a standard error of at most 0.016.
    """
    delay = delay_of(str(data.hparams["corpus"])) or 0
    tokens_N = data.tokens_N.cpu().long()
    places_M = (tokens_N == data.vocab[" "]).nonzero()[:, 0]  # of the spaces, which the repeated letter follows
    is_tested = (places_M - delay + 1 >= data.splits["test"].targets.start) & (places_M + 1 < len(tokens_N))
    places_M = places_M[is_tested][:MAX_BLOCKS]
    X_MT = tokens_N[places_M[:, None] - torch.arange(delay - 1, -1, -1)].to(model.device)
    predicted_M = model(X_MT)[0][:, -1].argmax(-1).cpu()
    return {"accuracy": (predicted_M == tokens_N[places_M + 1]).double().mean().item()}
