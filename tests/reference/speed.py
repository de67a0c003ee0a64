"""What README says of speed: the numbers of `make bench`'s kept files, of which the first is quoted."""

import csv
from collections.abc import Iterator

from tests.support.kept import REFERENCE

GIVEN = (
    "2026-11-27",
    "more than 1 means",
    "AVX-512",
    "( 1.0.3)",
    "T = 32, B = 1,024, H = 32",
    "T = 128",
    "H = 64 / 256 / 512",
    "B = 64",
    "| 1 |",
)


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    with (REFERENCE / "speed" / "amd_epyc.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["what"], int(row["threads"])): row for row in csv.DictReader(file)}

    def ratio(what: str, threads: int) -> str:
        row = rows[what, threads]
        found = float(row["rival_ms"]) / float(row["ours_ms"])
        return f"{found:.0f}" if found >= 10 else f"{found:.1f}"

    def both(*whats: str) -> str:
        return " | ".join(" / ".join(ratio(what, threads) for what in whats) for threads in (1, 2))

    step, loop, d2l = "step against nn.RNN", "step against the book's loop", "step against d2l's own classes"
    epoch, program = "epoch with validation", "the whole program against the book's own"
    greedy = "greedy decoding of 500 characters against the book's"
    yield f"the book's sizes (T = 32, B = 1,024, H = 32) | {both(step)} |"
    yield f"differentiated by autograd ( ) | {both(loop)} |"
    yield f"the same under | {both(f'{loop} under torch.compile')} |"
    bptt = ratio("fused against bptt, tanh, T, B, H, V = 32, 1024, 32, 28", 1)
    yield f"the gradients by hand in PyTorch ( ) | {bptt} | |"
    yield f"the book's own classes ( 1.0.3) | {both(d2l)} |"
    yield f", T = 128 | {both(f'{step}, T = 128')} |"
    yield f", H = 64 / 256 / 512 | {both(*(f'{step}, H = {H}' for H in (64, 256, 512)))} |"
    yield f", B = 64 | {both(f'{step}, B = 64')} |"
    yield f"{ratio(epoch, 1)} times as fast as that of a plain Lightning program on one thread"
    yield f"and {ratio(epoch, 2)} times on two"
    yield f"{ratio(program, 1)} times as fast as the book's own code without its figure"
    yield f"({ratio(program, 2)} on two threads)"
    yield f"{ratio(greedy, 1)} times as fast as the book's"
    costs = sorted(float(rows["Lightning's cost a step, ms", threads]["ours_ms"]) for threads in (1, 2))
    yield f"Lightning adds {costs[0]:.1f} to {costs[1]:.1f} ms"
    yield f"{ratio(d2l, 1)} times as long | – | {ratio(step, 1)} times as long"
