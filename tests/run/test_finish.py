"""What a run prints at its end."""

import re

import pytest

from tests.support.programs import assert_succeeded, call_program

pytestmark = pytest.mark.usefixtures("quick_calls")
SMALL = ["data=sample", "data.num_train=112", "data.num_val=64", "data.batch_size=16", "data.num_steps=8"]
SMALL += ["model.hiddens=4", "logger=csv", "hydra.run.dir=run"]  # seven batches an epoch
EARLY = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=99"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["trainer.max_steps=17"], "epoch 3, 3 of 7 batches"),
        ([*EARLY, "trainer.val_check_interval=3"], "epoch 1, 6 of 7 batches"),
        (["trainer.max_epochs=2", "trainer.accumulate_grad_batches=3"], "epoch 2"),
        (["trainer.max_epochs=2", "trainer.limit_train_batches=3"], "epoch 2"),
    ],
)
def test_an_end_within_an_epoch(typed: list[str], expected: str) -> None:
    for command in ([*SMALL, *typed], ["resume=run"]):  # nothing is left to resume
        done = call_program("train.py", *command)
        assert_succeeded(done)
        assert re.search(rf"^  train/perplexity +[\d.]+ +{expected} *$", done.stdout, re.MULTILINE), done.stdout
