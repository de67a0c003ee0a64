"""The table of the exercise on 10,000 windows. tests/test_numbers.py compares those of other exercises."""

from pandas import DataFrame

from timemachine.exercises import small_data


def test_best_and_last_epoch() -> None:
    metrics = {"best_epoch": 8.0, "best_val/perplexity": 150.0, "val/perplexity": 900.0, "train/perplexity": 3.0,
               "val/bits_per_byte_at_best_epoch": 2.6, "val/bits_per_byte": 3.5}  # fmt: skip
    settings = {"data.start": 0, "data.num_train": 68, "data.num_steps": 32, "parameters": 1000}
    table = small_data.table(DataFrame([metrics | settings]))
    assert [*table.loc[0]] == [1000, 10, 8, 150, 900, 3, 2.6, 3.5]
