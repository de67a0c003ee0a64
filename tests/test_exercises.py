"""The reports of the exercises, from folders as jobs leave them, and from real smoke sweeps."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tables import write_rows
from timemachine.command_line import checked_arguments
from timemachine.config import REPOSITORY, SettingError, Train
from timemachine.exercises import clipping, embedding, hyperparameters, one_hot_is_embedding
from timemachine.report import write_report
from timemachine.sweep import grouped, load_jobs, markdown, mean_sd

EXERCISES = sorted(file.stem for file in (REPOSITORY / "conf/exercise").glob("*.yaml") if file.stem != "none")


def job(sweep: Path, lr: float, theta: float | None, seed: int, train: list[float], norms: list[float]) -> None:
    """A folder as train.py leaves it: an epoch's perplexities and a step's norms."""
    folder = sweep / str(len(list(sweep.iterdir())))
    folder.mkdir()
    status = "diverged" if train[-1] > 28 else "completed"
    clipped = [min(norm, theta or math.inf) for norm in norms]
    summary = {
        "status": status,
        "message": None,
        "started": "2026-01-01T00:00:00+0000",
        "seconds": 12.0,
        "settings": {"seed": seed, "model": {"lr": lr}, "trainer": {"gradient_clip_val": theta}},
        "metrics": {
            "train/perplexity": train[-1],
            "val/perplexity": train[-1] + 1,
            "clipped_steps": sum(a > b for a, b in zip(norms, clipped, strict=True)),
            "num_steps_done": len(norms),
            "largest_grad_norm": max(norms),
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    write_rows(folder / "metrics.csv", [
        {"epoch": number + 1, "train/perplexity": value, "val/perplexity": value + 1, "chars_per_second": seed + lr}
        for number, value in enumerate(train)
    ])  # fmt: skip
    write_rows(folder / "steps.csv", [
        {"epoch": 1, "step": number + 1, "loss": 3.0, "grad_norm": norm, "grad_norm_clipped": after}
        for number, (norm, after) in enumerate(zip(norms, clipped, strict=True))
    ])  # fmt: skip


@pytest.fixture
def clipping_sweep(tmp_path: Path) -> Path:
    sweep = tmp_path / "clipping"
    sweep.mkdir()
    for seed in (0, 1):
        for theta in (None, 1.0):
            job(sweep, 1.0, theta, seed, [20.0, 7.0 + seed], [0.2, 0.5])
        job(sweep, 8.0, None, seed, [15.0, 1e9], [0.2, 4.0])
        job(sweep, 8.0, 1.0, seed, [15.0, 9.0 if seed else 17.0], [0.2, 4.0])
    return sweep


def test_clipping_has_a_row_for_each_rate_and_radius(clipping_sweep: Path) -> None:
    found = clipping.findings(load_jobs(clipping_sweep))
    cells = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(cell["learning rate η"], cell["radius θ"]) for cell in cells] == [
        ("1", "none"), ("1", "1"), ("8", "none"), ("8", "1"),
    ]  # fmt: skip
    assert [cell["diverged"] for cell in cells] == ["0 of 2", "0 of 2", "2 of 2", "1 of 2"]
    assert [cell["at epoch"] for cell in cells] == ["", "", "2", "2"]
    assert [cell["train"] for cell in cells] == ["7.50 ± 0.71", "7.50 ± 0.71", "–", "9.000"]
    assert [cell["steps clipped"] for cell in cells] == ["0%", "0%", "0%", "50%"]
    assert found.captions.keys() == found.figures.keys()


def test_clipping_answers_with_the_numbers_of_its_jobs(clipping_sweep: Path) -> None:
    answer = clipping.findings(load_jobs(clipping_sweep)).answer
    assert "(largest 0.50)" in answer
    assert "2 of 2 runs are the same bit for bit" in answer
    assert "Without clipping, diverged: 2 of 2 at rate 8" in answer
    assert "With radius 1, diverged: 1 of 2 at rate 8" in answer


def test_runs_that_differ_in_a_digit_are_not_called_the_same(clipping_sweep: Path) -> None:
    metrics = clipping_sweep / "0/metrics.csv"
    metrics.write_text(metrics.read_text().replace("7.0", "7.0000001"))
    answer = clipping.findings(load_jobs(clipping_sweep)).answer
    assert "1 of 2 runs are the same bit for bit" in answer
    assert "nothing happens" not in answer


def test_a_short_run_that_still_falls_has_not_diverged(tmp_path: Path) -> None:
    job(tmp_path, 1.0, None, 0, [24.0, 20.0], [0.2])
    assert clipping.findings(load_jobs(tmp_path)).rows[0][3] == "0 of 1"


def test_a_half_finished_sweep_has_a_report(clipping_sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clipping_sweep / "1/summary.json").unlink()
    (clipping_sweep / "5/summary.json").write_text('{"status": "runn')
    write_report(clipping_sweep, "clipping")
    report = (clipping_sweep / "report.md").read_text()
    assert "8 runs (4 completed, 2 failed, 2 diverged)" in report
    for figure in ("outcome", "norms", "bound"):
        assert f"({figure}.png)" in report
        assert (clipping_sweep / f"{figure}.png").stat().st_size > 1000
    assert "report.md" in capsys.readouterr().out


def test_jobs_are_grouped_by_settings(clipping_sweep: Path) -> None:
    groups = grouped(load_jobs(clipping_sweep), "model.lr", "trainer.gradient_clip_val")
    assert {key: len(jobs) for key, jobs in groups.items()} == {
        (1.0, None): 2,
        (1.0, 1.0): 2,
        (8.0, None): 2,
        (8.0, 1.0): 2,
    }


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "–"),
        ([math.nan], "–"),
        ([7.25], "7.250"),
        ([7, 8], "7.50 ± 0.71"),
        ([7, math.inf], "inf"),
        ([1e9, 3e9], "2.0e+09 ± 1.4e+09"),
    ],
)
def test_seeds_are_one_cell(values: list[float], text: str) -> None:
    assert mean_sd(values) == text


@pytest.mark.parametrize("arguments", [["nowhere"], ["{tmp}"]])
def test_the_reports_program_refuses_other_folders(arguments: list[str], tmp_path: Path) -> None:
    typed = [argument.format(tmp=tmp_path) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "timemachine.report", *typed], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {typed[0]}: is no folder of a sweep")
    assert done.stderr.count("\n") == 1


QUICK = ("one_hot_is_embedding", "sampling")


@pytest.mark.parametrize("exercise", [pytest.param(e, marks=[] if e in QUICK else pytest.mark.slow) for e in EXERCISES])
def test_every_exercise_ends_in_a_report(exercise: str, program: Any, tmp_path: Path) -> None:
    done = program("train.py", f"exercise={exercise}", "scale=smoke", "data=sample")
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps" / exercise).iterdir()
    report = (sweep / "report.md").read_text()
    for heading in ("# Exercise", "## What was run", "## Results", "## Answer"):
        assert heading in report
    assert len((sweep / "summary.csv").read_text().splitlines()) == 1 + len(load_jobs(sweep))
    before = (sweep / "report.md").read_bytes()
    (sweep / "report.md").unlink()
    subprocess.run([sys.executable, "-m", "timemachine.report", sweep], check=True, capture_output=True)
    assert (sweep / "report.md").read_bytes() == before


@pytest.mark.slow
def test_a_value_on_the_command_line_replaces_the_exercises(program: Any, tmp_path: Path) -> None:
    done = program("train.py", "exercise=clipping", "scale=smoke", "data=sample", "model.lr=1", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps/clipping").iterdir()
    assert {job.settings["model.lr"] for job in load_jobs(sweep)} == {1.0}


@pytest.mark.slow
def test_resume_runs_only_the_jobs_that_did_not_end(program: Any, tmp_path: Path) -> None:
    typed = ["train.py", "exercise=clipping", "scale=smoke", "data=sample", "trainer.max_epochs=1"]
    assert program(*typed).returncode == 0
    (sweep,) = (tmp_path / "sweeps/clipping").iterdir()
    cut_short, kept = sweep / "2/summary.json", sweep / "1/summary.json"
    cut_short.write_text(cut_short.read_text().replace('"completed"', '"running"').replace('"diverged"', '"running"'))
    before, table = kept.read_bytes(), (sweep / "summary.csv").read_text()
    done = program(*typed, f"resume={sweep}")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("job ")] != []
    assert "job   1" not in done.stdout
    assert kept.read_bytes() == before
    assert len((sweep / "2/metrics.csv").read_text().splitlines()) == 2  # not appended to what was there
    assert len((sweep / "summary.csv").read_text().splitlines()) == len(table.splitlines())
    other = program(*typed, f"resume={sweep}", "model.sigma=0.02")
    assert "its job" in other.stderr
    assert "Traceback" not in other.stderr


def test_resume_names_a_folder_of_a_sweep(program: Any) -> None:
    done = program("train.py", "exercise=clipping", "resume=nowhere")
    assert done.returncode == 1
    assert done.stderr == (
        "error: resume=nowhere: is no folder of a run or a sweep; "
        "type resume=outputs/<date>/<time> or resume=sweeps/<exercise>/<date_time>\n"
    )


def trained(sweep: Path, **entries: Any) -> None:
    """A folder of a job that completed, with settings under dotted names and what its probes measured."""
    sweep.mkdir(exist_ok=True)
    folder = sweep / str(len(list(sweep.iterdir())))
    folder.mkdir()
    summary = {"status": "completed", "message": None, "metrics": {"val/perplexity": 7.0}, "seconds": 1.0}
    (folder / "summary.json").write_text(json.dumps(summary | {"started": "2026-01-01T00:00:00+0000"} | entries))
    write_rows(folder / "metrics.csv", [{"epoch": 1, "train/perplexity": 9.0, "val/perplexity": 8.0}])
    write_rows(folder / "steps.csv", [{"step": n + 1, "loss": 3.0 - n + entries.get("gap", 0) * n} for n in range(3)])


def streams(train: float, val: float, test: float) -> dict[str, Any]:
    return {
        "stream": {
            part: {"perplexity": value}
            for part, value in zip(("train", "val", "test"), (train, val, test), strict=True)
        }
    }


def test_hyperparameters_are_chosen_on_validation(tmp_path: Path) -> None:
    for hiddens, (train, val, test) in {16: (7, 8, 9), 32: (6, 7, 9.5), 64: (2, 7.5, 11)}.items():
        for seed in (0, 1):
            settings = {"seed": seed, "model": {"hiddens": hiddens, "lr": 1.0}, "data": {"num_steps": 32}}
            trained(tmp_path / "s", settings=settings, probes=streams(train + seed, val + seed / 10, test))
    trained(tmp_path / "s", settings=settings, probes={}, status="diverged")
    found = hyperparameters.findings(load_jobs(tmp_path / "s"))
    assert [row[0] for row in found.rows] == ["32", "64", "16"]
    assert found.rows[0][3:] == ["2", "6.50 ± 0.71", "7.05 ± 0.07", "9.50 ± 0.00"]
    assert "7.05 as a stream, is that of 32 hidden units" in found.answer
    assert "Lowest on its own training text is 64 units" in found.answer
    assert "1 of 7 runs diverged" in found.notes[0]


def test_each_input_is_compared_at_its_own_learning_rate(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"embedding_dim": 32, "embedding_sigma": 1.0, "input_lr_factor": 1.0}
    for lr, one_hot, fast, wide in ((1.0, 7.3, 6.4, 6.3), (2.0, 7.0, math.nan, 6.5)):
        ways = {"one_hot": one_hot, "fast": fast, "embedding": wide}
        for way, value in ways.items():
            model = plain | {"input": way.replace("fast", "one_hot"), "lr": lr}
            model |= {"input_lr_factor": 32.0} if way == "fast" else {}
            trained(tmp_path / "s", settings={"seed": 0, "model": model}, probes=streams(value - 1, value, value + 1))
    found = embedding.findings(load_jobs(tmp_path / "s"))
    assert [row[:2] + row[4:5] for row in found.rows] == [
        ["one-hot", "2", "7.000"],
        ["one-hot, input rate × 32", "1", "6.400"],
        ["embedding of 32, N(0, 1)", "1", "6.300"],
    ]
    assert "6.30 (embedding of 32, N(0, 1)) against 7.00" in found.answer
    assert "most of the gain is that" in found.answer


def test_one_hot_and_look_up_are_compared_number_by_number(tmp_path: Path) -> None:
    for backward, gap in (("autograd", 0.0), ("bptt", 0.25)):
        settings = {"seed": 0, "model": {"backward": backward}, "trainer": {"precision": "64-true"}}
        weights = {"weights": {"W_xh": [1.0, 2.0 + gap / 2], "b_h": [0.0]}, "logits": [5.0, 6.0 - gap * 2]}
        trained(tmp_path / "s", settings=settings, probes={"weights": weights}, gap=gap)
    (row,) = one_hot_is_embedding.findings(load_jobs(tmp_path / "s")).rows
    assert row == ["64-true", "0", "3", "5.0e-01", "1.2e-01", "5.0e-01"]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_no_exercise_fails_on_a_sweep_without_a_finished_job(exercise: str, tmp_path: Path) -> None:
    settings = {"seed": 0, "model": {"lr": 1.0, "hiddens": 32, "input": "one_hot"}, "data": {"num_steps": 32}}
    trained(tmp_path / "s", settings=settings, status="running", metrics={})
    write_report(tmp_path / "s", exercise)
    assert "## Answer" in (tmp_path / "s/report.md").read_text()


def test_what_varies_is_named_and_pipes_do_not_break_a_table(clipping_sweep: Path) -> None:
    write_report(clipping_sweep, "clipping")
    report = (clipping_sweep / "report.md").read_text()
    assert "`model.lr`: 1.0, 8.0; `trainer.gradient_clip_val`: None, 1.0" in report
    assert markdown(["|h|"], [["a|b"]]).splitlines() == ["| \\|h\\| |", "| --- |", "| a\\|b |"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resume=sweep"], "goes on with a sweep; type the command that began it"),
        (["resume=sweep", "exercise=relu"], "is a sweep of exercise=clipping; type the command that began it"),
        (["resume=nowhere", "exercise=relu"], "is no folder of a run or a sweep"),
    ],
)
def test_resume_is_refused_before_anything_is_written(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/multirun.yaml").write_text("hydra: {runtime: {choices: {exercise: clipping}}}")
    with pytest.raises(SettingError, match=says):
        checked_arguments(arguments, Train)
