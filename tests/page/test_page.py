"""The file page.html: its location, the data of the run, and texts that cannot break out of their element."""

import base64
import hashlib
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.page.models import LETTERS, TRAINER, random_model, summary_of
from tests.page.parts import Parts
from tests.support.runs import fit
from timemachine.config import REPOSITORY, Tokens
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.page import EXPERIMENTS, Epoch, make_page, size_of
from timemachine.page.epochs import RunPage, in_half_precision, page_of
from timemachine.run.run import load_run
from timemachine.run.weights import exported
from timemachine.vocab import Vocab


def test_run_and_command_write_pages(sample: Corpus, tmp_path: Path) -> None:
    data, model = TimeMachine(64, 32, 128, 64, corpus=sample), FusedRNNLM(28)
    trainer, run = fit(tmp_path, model, data, **TRAINER | {"max_epochs": 1}), load_run(tmp_path)
    (page,) = (callback for callback in trainer.callbacks if isinstance(callback, RunPage))  # type: ignore[attr-defined]
    page.log_results(run, trainer)
    before = (tmp_path / "page.html").read_bytes()
    shown = Parts(before).run
    assert [(it["epoch"], "weights" in it) for it in shown["epochs"]] == [(0, True), (1, False)]
    assert (shown["window"], shown["split"], shown["text"]) == (32, [128, 64], sample.characters)
    assert page_of(tmp_path).read_bytes() == before
    # A file of weights has no earlier epochs, and no text.
    (tmp_path / "model.safetensors").write_bytes(exported(model, data.vocab, dict(run.summary)))
    alone = Parts(page_of(tmp_path / "model.safetensors").read_bytes()).run
    assert alone["weights"] == shown["weights"]
    assert (alone["epochs"], alone["text"]) == (shown["epochs"][-1:], "")


@pytest.mark.parametrize(("name", "value"), [("cell", "peephole"), ("activation", "softsign"), ("hiddens", 1024)])
def test_unsupported_models_are_refused(name: str, value: str | int) -> None:
    model = random_model(hiddens=value if isinstance(value, int) else 32)
    model.hparams[name] = value
    with pytest.raises(SettingError, match=rf"^model\.{name}={value}: "):
        make_page(model, LETTERS, summary_of(model))


def test_largest_page(monkeypatch: pytest.MonkeyPatch) -> None:
    vocab = Vocab(map(chr, range(0x4E00, 0x4E00 + 999)), Tokens.characters)
    model = RNNLMScratch(len(vocab), 64)
    monkeypatch.setattr("timemachine.page.MAX_BYTES", size_of(model))
    weights = Parts(make_page(model, vocab, summary_of(model))).run["weights"]
    padding = 4 * len(weights)  # of base64
    assert 0 <= sum(map(len, weights.values())) - size_of(model) <= padding
    monkeypatch.setattr("timemachine.page.MAX_BYTES", size_of(model) - 1)
    with pytest.raises(SettingError, match=r"^model.hiddens=64: [^\n]*$"):
        make_page(model, vocab, summary_of(model))


def test_command_says_what_a_page_lacks(sample: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text of the run has changed since."""
    text = tmp_path / "text.txt"
    text.write_text(sample.characters)
    data, model = TimeMachine(64, 32, 128, 64, corpus=str(text), search_dirs=[]), FusedRNNLM(28)
    fit(tmp_path / "run", model, data, **TRAINER | {"max_epochs": 1})
    for changed in (False, True):
        text.write_text(sample.characters + "x" * changed)
        page = Parts(page_of(tmp_path / "run").read_bytes())
        said = capsys.readouterr().err
        assert (page.run["text"] == "", said.count("\n")) == (changed, int(changed))
        assert ("text to train on" in said) is changed


def assert_sent(sent: dict[str, str], weights: dict[str, Tensor], dtype: str) -> None:
    for name, weight in weights.items():
        found = np.frombuffer(base64.b64decode(sent[name.removeprefix("rnn.")]), dtype)
        assert np.array_equal(found, weight.numpy().ravel())


def test_weights_units_and_epochs(sample: Corpus) -> None:
    """The last epoch has the model's weights. Earlier epochs have their own weights in half precision."""
    models = {number: random_model(seed=number, input="embedding", embedding_dim=5) for number in (0, 5, 100, 200)}
    epochs = [Epoch(number, in_half_precision(model), 9.5, 10.5) for number, model in models.items()]
    epochs[0] = epochs[0]._replace(train=math.nan, val=math.inf)
    model = models[100]
    run = Parts(make_page(model, LETTERS, summary_of(model), epochs, sample.characters)).run
    shown = [(it["epoch"], it["train"], it["val"]) for it in run["epochs"]]
    assert shown == [(0, None, None), (5, 9.5, 10.5), (100, 6.25, 7.5)]
    assert_sent(run["weights"], {name: weight.detach() for name, weight in model.named_parameters()}, "<f4")
    assert "weights" not in run["epochs"][-1]
    for entry, epoch in zip(run["epochs"][:-1], epochs, strict=False):
        assert_sent(entry["weights"], epoch.weights, "<f2")


def test_no_path_is_published(tmp_path: Path) -> None:
    model = random_model()
    summary = summary_of(model, "a book")
    summary["settings"]["data"] |= {"corpus": f"{tmp_path}/secret.txt", "search_dirs": [f"{tmp_path}/dirs"]}
    summary["settings"] |= {"init_from": f"{tmp_path}/run", "logger": {"wandb": {"entity": "whoever"}}}
    summary["corpus"] |= {"source": f"{tmp_path}/secret.txt", "name": "secret", "sha256": "0"}
    text = make_page(model, LETTERS, summary).decode()
    for secret in (str(tmp_path), "secret", "search_dirs", "whoever", str(REPOSITORY), str(Path.home())):
        assert secret not in text


def test_page_of_another_text() -> None:
    """No number of The Time Machine; the letters to remember are the same. The command is quoted for a shell."""
    model, summary = random_model(), summary_of(random_model())
    assert Parts(make_page(model, LETTERS, summary)).run["experiments"] == EXPERIMENTS
    summary["settings"]["data"] |= {"start": "0;touch x", "corpus": "war_of_the_worlds"}
    run = Parts(make_page(model, LETTERS, summary)).run
    overrides = [["data.corpus=war_of_the_worlds"], ["data.start=0;touch x"]]
    assert [shlex.split(word) for word in run["overrides"]] == overrides
    assert [it["name"] for it in run["experiments"] if it.keys() & {"python", "found"}] == ["Remember a letter"]


def test_policy_allows_no_request() -> None:
    model = random_model()
    parts = Parts(make_page(model, LETTERS, summary_of(model)))
    (policy,) = (tag["content"] for _, tag in parts.tags if tag.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    for name, element, more in (
        ("script-src", parts.texts["script"][-1], " 'wasm-unsafe-eval'"),
        ("style-src", parts.texts["style"][0], ""),
    ):
        digest = base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()
        assert directives.pop(name) == f"'sha256-{digest}'{more}"
    assert directives.pop("worker-src") == "blob:"
    assert set(directives.values()) == {"'none'", "data:"}  # an empty icon, or a browser would request one
    assert not [tag for _, tag in parts.tags if tag.keys() & {"src", "srcset", "action", "style", "onclick"}]
    assert [tag["href"] for name, tag in parts.tags if "href" in tag and name != "a"] == ["data:,"]


ODD = ["</script>", "</title>", "<!--", "<script>", "\u2028", "'", '"', "&lt;", "{{run}}", "\\", "\0", "${1}"]


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(ODD) | st.text(max_size=4), max_size=6).map("".join),
    st.sets(st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&'\"\\\n\u2028\u0301\u200d😀"), max_size=5),
)
def test_titles_and_characters_are_escaped(title: str, characters: set[str]) -> None:
    vocab = Vocab({"a", *characters}, Tokens.characters)
    model = random_model(vocab, hiddens=2)
    usual = Parts(make_page(model, vocab, summary_of(model)))
    made = make_page(model, vocab, summary_of(model, title))
    parts = Parts(made)
    assert parts.tags == usual.tags
    assert parts.texts["script"][1:] == usual.texts["script"][1:]
    assert (parts.run["tokens"], parts.run["kind"]) == (vocab.idx_to_token, "characters")
    assert dict(parts.run["table"])["text"] == title
    assert "\u2028" not in parts.texts["script"][0]
    assert made.lower().count(b"</script") == 4
