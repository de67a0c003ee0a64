"""Characters instead of letters: the numbers of two novels, from what evaluate.py printed and the table of runs."""

import math
import re
from collections.abc import Iterator

from tests.support.kept import REFERENCE, table

NAMES = {"the_time_machine": "The Time Machine", "the_captains_daughter": "The Captain's Daughter"}
READERS = ("7-gram, Kneser-Ney", "mixture of n-grams", "PPMd, order 6, adapting", "the model")
GIVEN = ("last 5 %", "first 90 %", "word2vec", "UTF-8")


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    symbols = {job["job"]: job["vocabulary"] for job in table("characters")}
    leads = []
    for run, title in NAMES.items():
        printed = (REFERENCE / "characters" / f"{run}.txt").read_text(encoding="utf-8")
        (characters,) = re.findall(r"^\w+: ([\d,]+) characters$", printed, re.MULTILINE)
        of_test = printed.rpartition("on the same ")[2]
        bits = []
        for reader in READERS:
            (perplexity,) = re.findall(rf"^  {reader} {{2,}}([\d.]+)", of_test, re.MULTILINE)
            bits.append(f"{math.log2(float(perplexity)):.2f}")
        yield f"| {title} | {characters} | {symbols[run]:.0f} | {' | '.join(bits)} |"
        leads += re.findall(r"^  mixture of n-grams +[\d.]+ ±[\d.]+ +-([\d.]+) ±([\d.]+)", of_test, re.MULTILINE)
        if run == "the_time_machine":
            yield f"{bits[-1]} bits a character on its last 5 %, where n-grams of one order have {bits[0]}"
    (first, error), (second, second_error) = leads
    yield f"by {first} and {second} nats a character (standard errors {error} and {second_error})"
    jobs = {job["job"]: job for job in table("characters")}
    steps, norms = ([jobs[run][name] for run in NAMES] for name in ("clipped_steps", "largest_grad_norm"))
    longer = f"{steps[0]:.0f} and {steps[1]:.0f} steps had gradients longer than 1"
    yield f"{longer}, up to {norms[0]:.1e} and {norms[1]:.1e}"
    relu = [job for job in table("how_low") if job["model.activation"] == "relu"]
    yield f"up to {max(job['largest_grad_norm'] for job in relu):.1e} in"
