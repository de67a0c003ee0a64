"""page.html as a file: where one is written, what of the run is in it, what cannot break out of it."""

import base64
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.page.models import LETTERS, random_model, summary_of
from tests.page.parts import Parts
from tests.support.programs import Program
from timemachine.config import REPOSITORY, Tokens
from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.page import LARGEST, Epoch, make_page
from timemachine.page import __main__ as command
from timemachine.page.epochs import halved
from timemachine.page.units import Units
from timemachine.vocab import Vocab


def test_a_single_run_leaves_its_page_and_the_command_one_beside_a_file(program: Program, tmp_path: Path) -> None:
    done = program("train.py", "data=sample", "logger=csv", "trainer.max_epochs=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "page.html" in done.stdout
    run = Parts((tmp_path / "run/page.html").read_bytes()).run
    assert "the sample text" in run["about"]
    assert {"val/perplexity", "model.hiddens", "seed", "data.tokens", "data.min_count"} <= dict(run["table"]).keys()
    assert [(it["epoch"], "weights" in it, len(it["correlations"])) for it in run["epochs"]] == [
        (0, True, 3),
        (1, False, 3),
    ]
    assert (run["window"], len(run["units"])) == (32, 3)
    assert_a_folder_without_its_text_has_epochs_alone(tmp_path / "run")
    exported = tmp_path / "model.safetensors"
    (tmp_path / "run/model.safetensors").rename(exported)
    done = program("-m", "timemachine.page", f"run={exported}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "model.html\n", "")
    alone = Parts((tmp_path / "model.html").read_bytes()).run
    assert alone["weights"] == run["weights"]
    assert alone["epochs"] == [run["epochs"][-1] | {"correlations": []}]
    assert (alone["units"], alone["order"]) == ([], [*range(32)])


def assert_a_folder_without_its_text_has_epochs_alone(folder: Path) -> None:
    before = (folder / "page.html").read_bytes()
    assert command.write_page(f"run={folder}").read_bytes() == before
    told = json.loads((folder / "summary.json").read_text())
    told["corpus"]["sha256"] = "0" * 64
    (folder / "summary.json").write_text(json.dumps(told))
    run = Parts(command.write_page(f"run={folder}").read_bytes()).run
    assert [it["epoch"] for it in run["epochs"]] == [0, 1]
    assert run["units"] == []


@pytest.mark.parametrize(("name", "value"), [("cell", "gru"), ("activation", "softsign"), ("hiddens", 1024)])
def test_a_model_of_which_there_is_no_page_is_refused(name: str, value: str | int) -> None:
    model = random_model(hiddens=value if isinstance(value, int) else 32)
    model.hparams[name] = value
    with pytest.raises(SettingError, match=rf"^model\.{name}={value}: .*; type model\.{name}="):
        make_page(model, LETTERS, summary_of(model))


@pytest.mark.parametrize("network", [{}, {"input": "embedding", "embedding_dim": 12}])
@pytest.mark.parametrize("size", [28, 5_000])
def test_the_largest_page_has_as_many_hidden_units_as_the_refusal_says(size: int, network: dict[str, Any]) -> None:
    vocab = Vocab(map(chr, range(0x4E00, 0x4E00 + size - 1)), Tokens.characters)

    def page_of(hiddens: int) -> bytes:
        model = RNNLMScratch(len(vocab), hiddens, **network)
        return make_page(model, vocab, summary_of(model))

    with pytest.raises(SettingError, match="too large") as refused:
        page_of(1024)
    largest = int(str(refused.value).split("type model.hiddens=")[1].removesuffix(" or fewer"))
    assert len(page_of(largest)) > 0.98 * LARGEST
    with pytest.raises(SettingError, match=f"; type model.hiddens={largest} or fewer"):
        page_of(largest + 1)


def test_where_the_embedding_alone_is_too_large_fewer_symbols_are_the_way() -> None:
    vocab = Vocab(map(chr, range(8000)), Tokens.characters)
    model = RNNLMScratch(len(vocab), 4, input="embedding", embedding_dim=100)
    with pytest.raises(SettingError, match=r"^model\.hiddens=4: .*; type a larger data\.min_count$"):
        make_page(model, vocab, summary_of(model))


@pytest.mark.parametrize("typed", ["run=nowhere", "nowhere", "run=nowhere foo=1"])
def test_a_mistake_is_one_line(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["page", *typed.split()])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert str(end.value.code).startswith(f"error: {typed.split()[-1]}: ") and "; type run=" in str(end.value.code)
    assert "\n" not in str(end.value.code)


def test_the_weights_are_the_models() -> None:
    model = random_model(input="embedding", embedding_dim=5)
    run = Parts(make_page(model, LETTERS, summary_of(model))).run
    for name, weight in model.named_parameters():
        sent = np.frombuffer(base64.b64decode(run["weights"][name.removeprefix("rnn.")]), "<f4")
        assert np.array_equal(sent, weight.detach().numpy().ravel())


def test_the_epochs_before_the_last_one_have_weights_in_half_precision(sample: Corpus) -> None:
    models = {number: random_model(seed=number, input="embedding", embedding_dim=5) for number in (0, 5, 100, 200)}
    epochs = [Epoch(number, halved(model), 9.5, 10.5) for number, model in models.items()]
    epochs[0] = epochs[0]._replace(train=math.nan, val=math.inf)
    model = models[100]
    run = Parts(make_page(model, LETTERS, summary_of(model), epochs, sample.characters)).run
    assert [(it["epoch"], it["train"], it["val"]) for it in run["epochs"]] == [
        (0, None, None),
        (5, 9.5, 10.5),
        (100, 6.25, 7.5),
    ]
    assert run["epochs"][-1].keys() == {"epoch", "train", "val", "correlations"}
    weights = {name.removeprefix("rnn."): weight.detach() for name, weight in model.named_parameters()}
    units = Units(weights, "tanh", sample.characters, LETTERS)
    assert (run["units"], run["order"]) == ([{"unit": it, "meaning": of} for it, of in units.named], units.order)
    assert run["epochs"][-1]["correlations"] == units.correlations(weights)
    for entry, epoch in zip(run["epochs"][:-1], epochs, strict=False):
        weights = {name.removeprefix("rnn."): weight for name, weight in epoch.weights.items()}
        assert entry["weights"].keys() == weights.keys()
        for name, weight in weights.items():
            sent = np.frombuffer(base64.b64decode(entry["weights"][name]), "<f2")
            assert np.array_equal(sent, weight.numpy().ravel())
        widened = {name: weight.float() for name, weight in weights.items()}
        assert entry["correlations"] == units.correlations(widened)


def test_of_a_run_under_way_all_kept_epochs_are_shown() -> None:
    model = random_model()
    run = Parts(
        make_page(model, LETTERS, summary_of(model) | {"metrics": {}}, [Epoch(5, halved(model), 9.5, 10.5)])
    ).run
    assert [it["epoch"] for it in run["epochs"]] == [5, None]


def test_the_page_of_a_run_of_the_books_size_is_small(sample: Corpus) -> None:
    model = random_model()
    epochs = [Epoch(number, halved(model), 9.5, 10.5) for number in (0, 1, 5, 10, 20, 50)]
    assert len(make_page(model, LETTERS, summary_of(model), epochs, sample.characters)) < 200_000


def test_a_number_that_is_not_finite_is_left_out() -> None:
    model = random_model()
    summary = summary_of(model)
    summary["metrics"]["val/perplexity"] = "nan"
    run = Parts(make_page(model, LETTERS, summary)).run
    assert "val/perplexity" not in dict(run["table"]) and "validation" not in run["about"]


def test_what_it_says_of_a_run_that_diverged_and_of_one_unit() -> None:
    model = random_model(hiddens=1)
    about = Parts(make_page(model, LETTERS, summary_of(model) | {"status": "diverged"})).run["about"]
    assert "1 hidden unit," in about and about.endswith(" Its training diverged.")


def test_no_path_of_the_machine_is_in_it(tmp_path: Path) -> None:
    model = random_model()
    summary = summary_of(model, "a book")
    summary["settings"]["data"] |= {"corpus": f"{tmp_path}/secret.txt", "search_dirs": [f"{tmp_path}/dirs"]}
    summary["settings"] |= {"resume": f"{tmp_path}/run", "logger": {"wandb": {"entity": "whoever"}}}
    summary["corpus"] |= {"source": f"{tmp_path}/secret.txt", "name": "secret", "sha256": "0"}
    text = make_page(model, LETTERS, summary).decode()
    for secret in (str(tmp_path), "secret", "search_dirs", "resume", "whoever", str(REPOSITORY), str(Path.home())):
        assert secret not in text


def test_the_policy_allows_its_own_script_and_style_and_no_request() -> None:
    model = random_model()
    parts = Parts(make_page(model, LETTERS, summary_of(model)))
    (policy,) = (tag["content"] for _, tag in parts.tags if tag.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    for name, element in (("script-src", parts.texts["script"][1]), ("style-src", parts.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()
        assert directives.pop(name) == f"'sha256-{digest}'"
    assert set(directives.values()) == {"'none'", "data:"}  # an empty icon, or a browser would ask for one
    assert not [tag for _, tag in parts.tags if tag.keys() & {"src", "srcset", "action", "style", "onclick"}]
    assert [tag["href"] for _, tag in parts.tags if "href" in tag] == ["data:,"]


ODD = ["</script>", "</title>", "<!--", "<script>", "\u2028", "'", '"', "&lt;", "{{run}}", "\\", "\0", "${1}"]


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(ODD) | st.text(max_size=4), max_size=6).map("".join),
    st.sets(st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&'\"\\\n\u2028\u0301\u200d😀"), max_size=5),
)
def test_no_title_and_no_character_breaks_out_of_its_element(title: str, characters: set[str]) -> None:
    vocab = Vocab({"a", *characters}, Tokens.characters)
    model = random_model(vocab, hiddens=2)
    usual = Parts(make_page(model, vocab, summary_of(model)))
    made = make_page(model, vocab, summary_of(model, title))
    parts = Parts(made)
    assert parts.tags == usual.tags
    assert parts.texts["script"][1] == usual.texts["script"][1]
    assert (parts.run["tokens"], parts.run["kind"]) == (vocab.idx_to_token, "characters")
    assert dict(parts.run["table"])["text"] == title
    assert "\u2028" not in parts.texts["script"][0]
    assert made.lower().count(b"</script") == 2
