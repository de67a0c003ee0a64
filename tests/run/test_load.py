"""`timemachine.load_run` and `timemachine.load_sweep`."""

import math
import shutil
from pathlib import Path

import pytest
import torch

import timemachine
from tests.support.jobs import leave_job
from tests.support.programs import call_program
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.scores import evaluate
from timemachine.page.__main__ import write_page

SMALL = ("trainer.max_epochs=1", "trainer.enable_checkpointing=false", "data.num_train=2000", "seed=3")


@pytest.mark.usefixtures("quick_calls")
def test_load_run_and_export(sample: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.txt").write_text(sample.characters)
    call_program("train.py", *SMALL, "logger=csv", "data.corpus=text.txt", "data.start=700", "hydra.run.dir=run")
    Path("alone").mkdir()
    shutil.copy("run/model.safetensors", "alone")
    continuation, data = (
        Path("run/sample.txt").read_text(),
        TimeMachine(num_train=2000, start=700, corpus=sample, seed=3),
    )
    (X_BT, _), *_ = data.train_dataloader()
    for place, num_rows in (("run", 1), ("run/model.safetensors", 1), ("alone", 0)):
        run = timemachine.load_run(place)
        assert run.model.predict("it has", 20, run.vocab) + "\n" == continuation and not run.model.training
        assert torch.equal(next(iter(run.data.train_dataloader()))[0], X_BT) and run.data.splits == data.splits
        assert run.folder == Path(place.partition("/")[0]) and run.settings["seed"] == 3
        assert len(run.curves) == num_rows and all(run.summary["metrics"].items() >= row.items() for row in run.curves)
    rows = evaluate(run.model, run.vocab, run.summary, find_corpus("text.txt", []))  # it starts at character 0
    for name, row in zip(("train", "val", "test"), rows, strict=True):
        assert row.part == name and row.window
        if name != "train":  # train perplexity is measured before the last update
            assert row.window.perplexity == pytest.approx(run.summary["metrics"][f"{name}/perplexity"], rel=1e-6)
    assert call_program("generate.py", "run=alone").stdout == continuation
    assert write_page("run=alone").is_file()
    for name in ("metrics.csv", "summary.json", "epochs.safetensors"):
        with pytest.raises(SettingError, match=f"^run=run/{name}: is not a run's folder, checkpoint or export"):
            timemachine.load_run(f"run/{name}")
    capsys.readouterr()
    Path("text.txt").write_text("another text " * 99)
    with pytest.raises(SettingError, match=r"^data.corpus=.*text.txt: the run's text is no longer there, or"):
        _ = timemachine.load_run("run").data
    run.summary["corpus"]["source"], run.settings["data"]["search_dirs"] = "time_machine", []  # without network
    del run.data
    with pytest.raises(SettingError, match=r"^data.corpus=time_machine: the run's text is no longer there"):
        _ = run.data
    assert capsys.readouterr() == ("", "")


def test_load_sweep_of_any_runs(tmp_path: Path) -> None:
    for number, val in ((10, "inf"), (2, 7.5)):
        leave_job(tmp_path / "index", {"seed": number}, number=number, metrics={"val/perplexity": val})
    leave_job(tmp_path / "day", {}, status="failed")
    found = [(row["job"], row["seed"], row["val/perplexity"]) for row in timemachine.load_sweep(str(tmp_path))]
    assert found == [("day/0", None, None), ("index/2", 2, 7.5), ("index/10", 10, math.inf)]
