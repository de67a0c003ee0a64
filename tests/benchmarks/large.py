"""Compare a run on a novel with one on a large text made of novels: python -m tests.benchmarks.large FOLDER [GB].

It needs Linux's /proc, the novels in ../shared/corpora, and free space in FOLDER for twice the size of the text.
Memory is the peak of anonymous memory (RssAnon), which excludes the mapped text. Run it on an idle machine.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from subprocess import Popen

import lightning.pytorch as pl
import psutil

from timemachine.config import REPOSITORY
from timemachine.run.rows import read_numbers

NOVELS = REPOSITORY / "../shared/corpora"
TYPED = (
    "data=full", "logger=csv", "callbacks.first._target_=tests.benchmarks.large.FirstStep", "trainer.max_epochs=3",
    "trainer.limit_train_batches=100", "trainer.limit_val_batches=5", "trainer.limit_test_batches=5",
)  # fmt: skip


class FirstStep(pl.Callback):
    """Create a file after the first step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.is_global_zero and trainer.global_step == 1:
            Path(trainer.default_root_dir, "first_step").touch()


def make_text(path: Path, size: int) -> None:
    """Write novels to the file until it has `size` bytes. An existing file of that size is kept."""
    novels = b"".join(novel.read_bytes() for novel in sorted(NOVELS.glob("*.txt")))
    if not path.exists() or path.stat().st_size < size:
        with path.open("wb") as file:
            while file.tell() < size:
                file.write(novels)


def status(process: psutil.Process) -> tuple[int, bool]:
    """Return the anonymous memory in bytes, and whether the process maps a cached text."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        anonymous = next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
        return anonymous, "timemachine/large/" in Path(f"/proc/{process.pid}/maps").read_text()
    except (OSError, StopIteration):  # the process has ended
        return 0, False


def measure(name: str, folder: Path, *typed: str) -> str:
    """Run train.py and return a row of the table."""
    run, began = folder / f"run_{time.time_ns()}", time.time()
    command = [sys.executable, str(REPOSITORY / "train.py"), *TYPED, *typed, f"hydra.run.dir={run}"]
    with Popen(command, cwd=folder, env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}) as process:
        largest = sharing = 0
        while process.poll() is None:
            tree = psutil.Process(process.pid)
            found = [status(it) for it in (tree, *tree.children(recursive=True))]
            largest = max(largest, *(anonymous for anonymous, _ in found))
            sharing = max(sharing, sum(maps for _, maps in found))
            time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{name}: exit status {process.returncode}")
    first = (run / "first_step").stat().st_mtime - began
    speed = max(row["chars_per_second"] for row in read_numbers(run / "metrics.csv"))
    return f"| {name} | {first:.0f} | {largest / 1e6:.0f} | {sharing} | {speed / 1e6:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("gigabytes", type=float, nargs="?", default=10)
    given = parser.parse_args()
    text = given.folder.resolve() / f"{given.gigabytes:g}gb.txt"
    make_text(text, round(given.gigabytes * 1e9))
    name, large = f"{text.stat().st_size / 1e9:.1f} GB", f"data.corpus={text}"
    rows = [
        measure("*The Time Machine*", text.parent, f"data.corpus={NOVELS / 'time_machine.txt'}"),
        measure(f"{name}, the first time", text.parent, large),
        measure(f"{name}, later", text.parent, large),
        measure(f"{name}, later, `trainer=ddp_cpu`", text.parent, large, "trainer=ddp_cpu"),
    ]
    print("\n| text | seconds to the first step | memory, MB | processes that map the file | million characters/s |")
    print("|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
