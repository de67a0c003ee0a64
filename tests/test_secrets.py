"""The key of Weights & Biases is in no file that a run leaves and in nothing that it says."""

import os
from pathlib import Path

import pytest

from tests.support.programs import Program, call_program
from tests.support.wandb_server import WandbServer

KEY = "5ec2e7" * 6 + "0bad"  # 40 characters, as wandb wants it
SHORT = ["data=sample", "data.num_train=2051", "trainer.max_epochs=1", "model.hiddens=8", "hydra.run.dir=run"]
DIVERGES = ["model.activation=relu", "model.sigma=3", "model.lr=1e30", "trainer.gradient_clip_val=0"]


def assert_nowhere(folder: Path, *said: str) -> None:
    """Files of any kind, as they are: zips of torch are not compressed."""
    assert not any(KEY in text for text in said)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 5
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "ends", ["well", pytest.param("refused", marks=slow), pytest.param("with an error", marks=slow)]
)
def test_the_key_stays_where_it_was(ends: str, program: Program, tmp_path: Path) -> None:
    with WandbServer(refuses_history=ends == "refused") as server:
        environment = server.environment() | {"WANDB_API_KEY": KEY}
        typed = [*SHORT, "logger.wandb.log_model=true"] + (DIVERGES if ends == "with an error" else [])
        done = program("train.py", *typed, **environment)
        assert server.keys == {KEY}  # it was used
    assert done.returncode == (1 if ends == "with an error" else 0), done.stderr
    assert_nowhere(tmp_path, done.stdout, done.stderr)


@slow
def test_a_key_of_netrc_stays_there(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        environment = server.environment()
        environment.pop("WANDB_API_KEY")
        netrc = Path(os.environ["HOME"]) / ".netrc"
        netrc.write_text(f"machine {server.url.removeprefix('http://')}\n  login user\n  password {KEY}\n")
        netrc.chmod(0o600)
        done = program("train.py", *SHORT, **environment)
        assert server.keys == {KEY}
        netrc.unlink()
    assert done.returncode == 0, done.stderr
    assert_nowhere(tmp_path, done.stdout, done.stderr)


def test_the_key_is_not_in_what_hydra_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for typed in (["--cfg", "all"], ["--help"], ["--info", "all"], ["model.hidens=3"], ["model.hiddens=x"]):
        done = call_program("train.py", *typed)
        assert done.stdout or done.stderr
        assert KEY not in done.stdout + done.stderr
