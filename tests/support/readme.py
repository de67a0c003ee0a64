"""README.md and those in folders: their text, their commands, and settings that make these short."""

import re

from timemachine.config import REPOSITORY

PAGES = {
    name: (REPOSITORY / name).read_text(encoding="utf-8")
    for name in ("README.md", "conf/README.md", "sweeps/README.md", "tests/README.md", "src/timemachine/README.md")
}
COMMANDS = [
    line.partition("  #")[0].strip()
    for text in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python ")
]
SMALL = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_test_batches=1"]
