"""The site: Sphinx reads the documents, the notebook, the sources and the settings where they lie. `make site` runs it.

Each source file has a page with its code, to which the links in the documents lead.
"""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
REPOSITORY = os.environ.get("REPOSITORY", "")  # owner/name on GitHub, if known
GITHUB = f"https://github.com/{REPOSITORY}"

project = "timemachine"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
html_title = f"{project} {release}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "README"
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".py": "restructuredtext", ".yaml": "restructuredtext"}
include_patterns = [
    "*.md",
    "*.py",
    "book.ipynb",
    "conf/**",
    "docs/*.md",
    "src/**",
    "sweeps/reference/**",
    "tests/**",
    "tools/**",
]
exclude_patterns = [".*", "outputs", "setup.py", "**/answer.md"]
default_role = "code"
myst_heading_anchors, myst_enable_extensions, nb_execution_mode = 4, ["dollarmath"], "off"
html_theme, html_math_renderer = "pydata_sphinx_theme", "mathml"
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_context = {"default_mode": "auto"}  # without it, the theme reports an error in the console
html_theme_options = {"navbar_persistent": ["search-button"]}
html_extra_path = ["../sweeps/reference/book/page.html"]

LESSON = "corpus vocab datamodule rnn language_model clipping sampling bpe cells perplexity"
CONTENTS = {  # entries of the header (README), and of a section in the sidebar
    "README": "Lesson <docs/code>;Settings <docs/settings>;Exercises <docs/exercises>;Notebook <book>;"
    "API <src/timemachine/__init__>;Gates <sweeps/reference/cells/report>;Next edition <docs/next_edition>;"
    "Extend <docs/extending>;W&B <docs/wandb>;Clusters <docs/clusters>;Tests <docs/tests>;"
    "Changes <CHANGELOG>;Contributing <CONTRIBUTING>",
    "docs/code": ";".join(f"/src/timemachine/{module}" for module in LESSON.split()),
    "docs/settings": "runs;callbacks",
    "docs/exercises": "teaching;how_low;models;speed;/sweeps/reference/**",
}
html_sidebars = {name: list[str]() for name in re.findall("<(.+?)>", CONTENTS["README"]) if name not in CONTENTS}
API = {
    "Data": "datamodule.TimeMachine vocab.Vocab corpus.Corpus corpus.find_corpus",
    "Models": "language_model.RNNLMScratch kernels.language_model.FusedRNNLM"
    " regularized.language_model.RegularizedRNNLM",
    "Cells": "rnn.RNNScratch cells.LSTMScratch cells.GRUScratch cells.StackedRNNScratch",
    "Training and scores": "clipping.clip_gradients perplexity.Perplexity evaluation.scores.window_score"
    " evaluation.scores.stream_nll",
    "Sampling": "decoding.continue_text sampling.Truncation",
    "Runs and sweeps": "run.run.load_run run.run.Run study.jobs.load_sweep",
    "Callbacks": "study.live_plot.LivePlot "
    + " ".join(re.findall(r"_target_: timemachine\.(\S+)", (ROOT / "conf/callbacks/default.yaml").read_text())),
    "Logger and checkpoints": "weights_and_biases.logger.WandbLogger run.recorder.Recorder"
    " run.checkpoints.AtomicCheckpointIO",
}
SETTINGS = (
    "train model/rnn model/regularized data/book trainer/default callbacks/default logger/wandb evaluate generate"
)
LIVE = "RNN against GRU"  # of the page's experiments
LANDING = """<section aria-label="About" class="small">
<p><b>What this is.</b> Section 9.5 of <a href="https://d2l.ai">Dive into Deep Learning</a> as a Lightning and Hydra
  program: a recurrent network from scratch, with answers to the exercises, measured in thousands of runs.</p>
<p><b>Install.</b> <code>git clone {address} timemachine &amp;&amp; cd timemachine &amp;&amp; make train</code></p>
<p><b>Read.</b> {links}</p>
</section></body>"""


def api() -> str:
    """Return the page of the classes and functions that users import."""
    page = "API\n===\n"
    for title, names in API.items():
        page += f"\n{title}\n{'-' * len(title)}\n"
        for name in names.split():
            is_class = name.rpartition(".")[2][0].isupper()
            page += (
                f"\n.. auto{'class' if is_class else 'function'}:: timemachine.{name}\n{'   :members:' * is_class}\n"
            )
    return page


def settings(name: str) -> str:
    """Return a table of a YAML file in conf/: names as on the command line, defaults and comments."""
    table = f"\n### [{name}.yaml](../conf/{name}.yaml)\n\n| setting | default | meaning, unit |\n|---|---|---|\n"
    group = [name.partition("/")[0]] * ("/" in name)
    names = list(group)
    for line in (ROOT / f"conf/{name}.yaml").read_text(encoding="utf-8").splitlines():
        if entry := re.fullmatch(r"( *)(\w+):(?: +([^# ].*?))?(?: +# *(.*))?", line):
            indent, key, default, meaning = entry.groups(default="")
            names[len(group) + len(indent) // 2 :] = [key]
            if names[0] not in ("defaults", "hydra"):
                table += f"| `{'.'.join(names)}` | {default and f'`{default}`'} | {meaning} |\n"
    return table


def read(app: Sphinx, name: str, content: list[str]) -> None:
    """Change a document before it is parsed: code becomes a page, and a page gets what only a site can show."""
    path = app.env.doc2path(name, base=False)
    if name == "src/timemachine/__init__":
        content[0] = api()
    elif path.suffix in (".py", ".yaml"):
        content[0] = f":orphan:\n:nosearch:\n\n{path}\n{'=' * 80}\n\n.. literalinclude:: /{path}\n"
    elif name == "docs/settings":
        content[0] += "\n## All settings\n" + "".join(map(settings, SETTINGS.split()))
    elif name == "book" and REPOSITORY:
        # train.py and conf/, too
        clone = rf"%sx git clone --quiet --depth 1 {GITHUB} timemachine\n    %cd timemachine\n    "
        content[0] = content[0].replace("%pip install --quiet .", f"{clone}%pip install --quiet .")
        Path(app.outdir, "book.ipynb").write_text(content[0], encoding="utf-8")
    elif name == "sweeps/reference/cells/report":
        experiments = json.loads((ROOT / "src/timemachine/page/experiments.json").read_text(encoding="utf-8"))
        (experiment,) = (each for each in experiments if each["name"] == LIVE)
        groups: dict[object, Any] = {"data": experiment["data"], **dict(enumerate(experiment["networks"]))}
        state = {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
        fragment = urlencode({"text": "the time traveller", "networks": len(experiment["networks"]), **state})
        style = "width: 100%; height: 46rem; border: 0"
        live = f'<iframe src="../../../page.html#{fragment}" title="{LIVE}" style="{style}"></iframe>'
        content[0] = re.sub(r"(\(figure\.png\)\n\n.*?\n\n)", rf"\1{live}\n\n", content[0], count=1, flags=re.DOTALL)
    if name in CONTENTS:
        content[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n\n" + CONTENTS[name].replace(";", "\n") + "\n```\n"


def link(app: Sphinx, document: nodes.document) -> None:
    """Let links to page.html lead to index.html, and those to folders to GitHub, or nowhere."""
    for node in [*document.findall(addnodes.download_reference), *document.findall(addnodes.pending_xref)]:
        target, uri = (ROOT / app.env.docname).parent.joinpath(node["reftarget"]).resolve(), ""
        if target.suffix == ".html":
            uri = app.builder.get_relative_uri(app.env.docname, "index")
        elif target.is_dir() and REPOSITORY:
            uri = f"{GITHUB}/tree/HEAD/{target.relative_to(ROOT)}"
        if uri or target.is_dir():
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri) if uri else node.children)


def draw(app: Sphinx, name: str, template: str, context: dict[str, Any], document: nodes.document | None) -> None:
    """Let the logo lead to index.html, and the notebook to Colab and Binder, which read the branch `notebook`."""
    context["favicon_url"] = "data:,"  # no request for one
    context["theme_logo_link"] = context["pathto"]("index")
    if name == "book":  # a label that differs from the text
        context["body"] = context["body"].replace(' aria-label="Toggle hidden content"', "")
    if name == "book" and REPOSITORY:
        colab = f"https://colab.research.google.com/github/{REPOSITORY}/blob/notebook/book.ipynb"
        binder = f"https://mybinder.org/v2/gh/{REPOSITORY}/notebook?labpath=book.ipynb"
        buttons = [
            f'<a class="btn btn-primary" href="{address}">Open in {host}</a>'
            for host, address in (("Colab", colab), ("Binder", binder))
        ]
        context["body"] = f"<p>{' '.join(buttons)}</p>{context['body']}"


def math(writer: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers show without a script or a font."""
    formula = node.astext().replace("‖", r"\|").replace(r"\dots", r"\ldots")
    writer.body.append(tex2mathml(formula, as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write index.html: the page that trains, with links to the site above and below it."""
    entries = ["Overview <README>", *CONTENTS["README"].split(";"), "Search <search>"]
    pairs = [entry.removesuffix(">").split(" <") for entry in entries]
    links = [f'<a href="{name}.html">{title.replace("&", "&amp;")}</a>' for title, name in pairs]
    page = (ROOT / "sweeps/reference/book/page.html").read_text(encoding="utf-8")
    top = " · ".join([*links[:6], links[-1]])
    page = page.replace("<body>", f'<body><nav aria-label="Site" class="small">{top}</nav>')
    about = LANDING.format(address=GITHUB if REPOSITORY else "&lt;this repository&gt;", links=" · ".join(links))
    Path(app.outdir, "index.html").write_text(page.replace("</body>", about), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    app.add_html_math_renderer("mathml", (math, None), (math, None))
    app.connect("source-read", read)
    app.connect("doctree-read", link)
    app.connect("html-page-context", draw)
    app.connect("build-finished", finish)
