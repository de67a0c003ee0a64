"""page.html as a file: where one is written, how large, what of the run is in it, what cannot break out of it."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timemachine.runs.ending import finish

from tests.page.models import LETTERS, random_model, summary_of
from tests.support.cells import GRU
from tests.support.programs import run_program
from timemachine import page
from timemachine.config import REPOSITORY, Train, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.page import __main__ as command
from timemachine.page import make_page
from timemachine.rnn import CELLS
from timemachine.runs.models import export_model
from timemachine.runs.record import Record
from timemachine.vocab import UNKNOWN, Vocab


class Parts(HTMLParser):
    """The elements of a page, and the text in each."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data

    @property
    def run(self) -> dict[str, Any]:
        return dict(json.loads(self.texts["script"][0]))


def finished(folder: Path, corpus: Corpus, model: RNNLMScratch | None = None, **record: Any) -> Path:
    """Finish a run in the folder; return where its page would be."""
    data = TimeMachine(corpus=corpus)
    (folder / "metrics.csv").write_text("epoch,step,train/perplexity,val/perplexity\n1,2,9.5,8.25\n")
    (folder / "steps.csv").write_text("epoch,step,loss,grad_norm,grad_norm_clipped\n1,1,2.5,0.5,0.5\n")
    trainer: Any = SimpleNamespace(is_global_zero=True)
    with Record(folder, to_dict(Train()), **{"in_sweep": False} | record) as run:
        model = model or RNNLMScratch(len(data.vocab))
        run.describe(data, model)
        finish(run, trainer, model, data)
    return folder / "page.html"


# --- where there is one ---


def test_a_single_run_leaves_its_page_and_says_so(
    tmp_path: Path, sample: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Parts(finished(tmp_path, sample).read_bytes()).run
    assert re.search(r"^page          .*page\.html$", capsys.readouterr().out, re.MULTILINE)
    assert "the sample text" in run["about"]
    assert ["val/perplexity", "8.25"] in run["table"]


@pytest.mark.parametrize("of_several", [{"in_sweep": True}, {"exercise": "clipping"}, {"group": "sweeps/none/1"}])
def test_a_job_of_a_sweep_leaves_none(of_several: dict[str, Any], tmp_path: Path, sample: Corpus) -> None:
    assert not finished(tmp_path, sample, **of_several).exists()


def test_a_cell_that_the_page_does_not_know_gets_a_line(
    tmp_path: Path, sample: Corpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CELLS, "gru", GRU)
    assert not finished(tmp_path, sample, RNNLMScratch(28, cell="gru")).exists()
    line = "page          none: model.cell=gru: has no page in a browser; type model.cell=rnn\n"
    assert line in capsys.readouterr().out


def test_an_activation_that_the_page_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    model.hparams["activation"] = "softsign"
    with pytest.raises(SettingError, match=r"model\.activation=softsign: has no page .* type model\.activation=tanh"):
        make_page(model, LETTERS, {})


def test_a_page_that_would_be_too_large_is_not_made() -> None:
    with pytest.raises(SettingError, match=r"model\.hiddens=1024: makes a page of 5\.\d MB, and 4 are the most"):
        make_page(random_model(hiddens=1024), LETTERS, {})


# --- the command ---


def call(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    done = run_program("-m", "timemachine.page", *arguments, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def test_the_command_writes_the_page_of_a_file_beside_it(tmp_path: Path, sample: Corpus) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    finished(folder, sample)
    exported = tmp_path / "model.safetensors"
    (folder / "model.safetensors").rename(exported)
    assert call(f"run={exported}", cwd=tmp_path) == (0, "model.html\n", "")
    assert Parts((tmp_path / "model.html").read_bytes()).run["tokens"] == Vocab.of(sample.characters).idx_to_token


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("run=nowhere", "run=nowhere: is no folder of a run; type run=<the folder that train.py printed"),
        ("run=", "run=: has no value; type run="),
        ("", "run=: has no value; type run="),
        ("nowhere", "nowhere: there is no setting of that name; type run=nowhere"),
        ("rum=nowhere", "rum=nowhere: there is no setting of that name; type run=nowhere"),
    ],
)
def test_a_mistake_is_one_line(
    typed: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["page", *typed.split()])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert str(end.value.code).startswith(f"error: {said}")
    assert "\n" not in str(end.value.code)


@pytest.mark.parametrize("change", ["a size that does not fit", "a weight that is not finite", "a vocabulary of words"])
def test_what_other_programs_refuse_as_a_run_gets_no_page(change: str, tmp_path: Path) -> None:
    model, vocab = random_model(), Vocab(LETTERS.idx_to_token)
    summary = summary_of(model) | {"versions": {}, "git": {}}
    summary["settings"]["data"] = to_dict(Train())["data"]
    summary["corpus"] |= {"source": "time_machine", "sha256": "0"}
    if change == "a size that does not fit":
        model.hparams["hiddens"] = 33
    elif change == "a weight that is not finite":
        model.b_q.data[0] = float("nan")
    else:
        vocab.idx_to_token = ["</script>", *vocab.idx_to_token[1:]]
    export_model(tmp_path / "model.safetensors", model, vocab, summary)
    with pytest.raises(SettingError, match=r"^run=.*; type another run$"):
        command.write_page(str(tmp_path / "model.safetensors"))
    assert not (tmp_path / "model.html").exists()


# --- what is in it ---


def test_the_weights_are_the_models() -> None:
    model = random_model(input="embedding", embedding_dim=5)
    run = Parts(make_page(model, LETTERS, summary_of(model))).run
    for name, weight in model.named_parameters():
        sent = np.frombuffer(base64.b64decode(run["weights"][name.removeprefix("rnn.")]), "<f4")
        assert np.array_equal(sent, weight.detach().numpy().ravel())


def test_no_path_of_the_machine_is_in_it(tmp_path: Path) -> None:
    settings = to_dict(Train())
    settings["data"] |= {"corpus": f"{tmp_path}/secret.txt", "search_dirs": [f"{tmp_path}/dirs"]}
    settings |= {"resume": f"{tmp_path}/run"}
    settings["logger"] = {"wandb": {"entity": "whoever"}}
    model = random_model()
    summary = summary_of(model, "a book", **settings)
    summary["corpus"] |= {"source": f"{tmp_path}/secret.txt", "name": "secret", "sha256": "0"}
    text = make_page(model, LETTERS, summary).decode()
    for secret in (str(tmp_path), "secret", "search_dirs", "resume", "whoever", str(REPOSITORY), str(Path.home())):
        assert secret not in text
    assert ["text", "a book"] in Parts(text.encode()).run["table"]


def test_the_policy_allows_its_own_script_and_style_and_no_request() -> None:
    parts = Parts(make_page(random_model(), LETTERS, {}))
    (policy,) = (tag["content"] for _, tag in parts.tags if tag.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    assert directives.pop("default-src") == directives.pop("form-action") == directives.pop("base-uri") == "'none'"
    assert directives.pop("img-src") == "data:"  # an empty icon, or a browser would ask for one
    for name, element in (("script-src", parts.texts["script"][1]), ("style-src", parts.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()
        assert directives.pop(name) == f"'sha256-{digest}'"
    assert not directives
    assert not [tag for _, tag in parts.tags if tag.keys() & {"src", "srcset", "action", "style", "onclick"}]
    assert [tag["href"] for _, tag in parts.tags if "href" in tag] == ["data:,"]


def test_its_source_is_short_and_has_no_dependency() -> None:
    sources = [path for path in Path(page.__file__).parent.iterdir() if path.suffix in (".html", ".css", ".js")]
    lines = [line for path in sources for line in path.read_text().splitlines()]
    assert len(lines) <= 700
    assert max(map(len, lines)) <= 120
    assert not [line for line in lines if "http:" in line or "https:" in line or "import" in line.split()]


@pytest.mark.parametrize(("hiddens", "least", "most"), [(32, 45_000, 60_000), (512, 1_500_000, 1_700_000)])
def test_size(hiddens: int, least: int, most: int) -> None:
    model = random_model(hiddens=hiddens)
    assert least < len(make_page(model, LETTERS, summary_of(model))) < most


# --- hostile runs ---

ODD = ["</script>", "</title>", "<!--", "<script>", "\u2028", "'", '"', "&lt;", "{{run}}", "\\", "\0", "\ud800", "${1}"]
TEXTS = st.lists(st.sampled_from(ODD) | st.text(max_size=4), max_size=6).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(
    ["settings", "metrics", "corpus", "title", "model", "data", "training", "val/perplexity", "seed"]
)


@given(
    st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES | TEXTS, VALUES, max_size=3)),
    TEXTS,
    st.sets(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from("<>&'\"\\"), max_size=5),
)
def test_what_a_stranger_wrote_stays_in_its_place(summary: dict[str, Any], title: str, characters: set[str]) -> None:
    vocab = Vocab(sorted({UNKNOWN, "a", *characters}))
    model = random_model(vocab, hiddens=2)
    usual = Parts(make_page(model, vocab, {}))
    for hostile in (summary, summary | {"corpus": {"title": title}}):
        made = make_page(model, vocab, hostile)
        parts = Parts(made)
        assert parts.tags == usual.tags
        assert parts.texts["script"][1] == usual.texts["script"][1]
        assert parts.run["tokens"] == vocab.idx_to_token
        assert "\u2028" not in parts.texts["script"][0]
        assert made.lower().count(b"</script") == 2
