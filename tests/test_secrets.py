"""The key of Weights & Biases is in no file that a run leaves and in nothing that it says."""

from pathlib import Path

import pytest

from tests.support.programs import Program, call_program
from tests.support.wandb_server import WandbServer

KEY = "5ec2e7" * 6 + "0bad"  # 40 characters, as wandb wants it
SHORT = ["data=sample", "data.num_train=2051", "trainer.max_epochs=1", "model.hiddens=8", "hydra.run.dir=run"]
DIVERGES = ["model.activation=relu", "model.sigma=3", "model.lr=1e30", "trainer.gradient_clip_val=0"]


@pytest.mark.parametrize("ends", ["well", pytest.param("with an error", marks=pytest.mark.slow)])
def test_the_key_stays_where_it_was(ends: str, program: Program, tmp_path: Path) -> None:
    typed = [*SHORT, "logger.wandb.log_model=true"] + (DIVERGES if ends == "with an error" else [])
    with WandbServer() as server:
        done = program("train.py", *typed, **server.environment() | {"WANDB_API_KEY": KEY})
        assert server.keys == {KEY}  # it was used
    assert done.returncode == int(ends == "with an error"), done.stderr
    assert KEY not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 5  # of any kind, as they are: zips of torch are not compressed
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_the_key_is_not_in_what_hydra_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for typed in (["--cfg", "all"], ["--help"], ["--info", "all"], ["model.hiddens=x"]):
        done = call_program("train.py", *typed)
        assert done.stdout or done.stderr
        assert KEY not in done.stdout + done.stderr
