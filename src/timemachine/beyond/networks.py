"""Networks that teach beside the mixture of n-grams.

Alone they read a new text far worse than the mixture, since they know the old one by heart. But they err in other
places, each its own, so the mean of both is ahead of the mixture (on the novel's next 5 %: networks of 256 units 4.15,
three as one 3.62, the mixture 3.39, all of them 3.35).

N characters.
"""

import torch
from torch import Tensor

from timemachine.beyond.language_model import RNNLMBeyond
from timemachine.beyond.schedule import set_rates
from timemachine.beyond.streams import Noise, StreamLoader
from timemachine.clipping import clip_gradients
from timemachine.config import Optimizer, Schedule, Training
from timemachine.evaluation.ensemble import Ensemble
from timemachine.vocab import Vocab

TRAINING = Training(optimizer=Optimizer.adamw, schedule=Schedule.cosine, warm_up=0.05, carry_state=True)
NETWORK = {"activation": "relu", "hiddens": 256, "sigma": 0.03, "lr": 0.004, "input_lr_factor": 30}
EPOCHS = 20
BATCH_SIZE, NUM_STEPS = 16, 32
RADIUS = 1


def trained_networks(chars_N: Tensor, vocab: Vocab, seed: int, count: int) -> Ensemble | None:
    """Return networks that have learnt a text; None for a count of 0. They are trained as by `recipe=low_7_relu`."""
    return Ensemble([_trained(chars_N, vocab, seed * 1_000 + number) for number in range(count)]) if count else None


def _trained(chars_N: Tensor, vocab: Vocab, seed: int) -> RNNLMBeyond:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RNNLMBeyond(len(vocab), TRAINING, **NETWORK)
        num_steps = min(NUM_STEPS, len(chars_N))
        batch_size = min(BATCH_SIZE, len(chars_N) // num_steps)
        noise = Noise(0, vocab.unk, torch.Generator().manual_seed(seed))
        loader = StreamLoader(chars_N, batch_size, num_steps, noise)
        optimizer, steps = model.configure_optimizers(), EPOCHS * len(loader)
        for epoch in range(EPOCHS):
            model.on_train_epoch_start()
            for number, batch in enumerate(loader):
                set_rates(optimizer, epoch * len(loader) + number, steps, TRAINING)
                optimizer.zero_grad()
                loss_BT, _ = model.losses(batch, slice(0, batch_size))
                torch.autograd.backward(loss_BT.mean())
                clip_gradients(model.parameters(), RADIUS)
                optimizer.step()
    return model.eval()
