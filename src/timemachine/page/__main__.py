"""Write the page of a run: python -m timemachine.page run=<its folder or export>."""

import argparse
import sys
from pathlib import Path

from timemachine.errors import SettingError, UserError
from timemachine.page import Epoch, make_page
from timemachine.run.console import error_line
from timemachine.run.files import relative_path, write_whole


def main() -> None:
    """Write page.html into a run's folder, or next to a `.safetensors` file, and print its path."""
    parser = argparse.ArgumentParser(prog="python -m timemachine.page", description="Write a run's page.html.")
    parser.add_argument("run", metavar="run=RUN", help="a run's folder, or its .safetensors")
    arguments = parser.parse_args()
    try:
        print(relative_path(run_page(arguments.run)))
    except UserError as error:
        sys.exit(error_line(error))
    except OSError as error:
        sys.exit(error_line(f"{error}; use run=<a copy in a writable folder>"))  # a full disk names no file


def run_page(typed: str) -> Path:
    """Write the page for the argument `run=<folder or file>`; return its path. Raises SettingError or OSError."""
    name, _, run = typed.partition("=")
    if name != "run" or not run or run.endswith(".ckpt"):  # a page shows the numbers of a run's last epoch
        raise SettingError(f"{typed}: expected run=<a run's folder, or its .safetensors>")
    if not Path(run).exists():
        raise SettingError(f"{typed}: not found; use the folder that train.py printed at its end")

    from timemachine.page.epochs import read_weights, with_perplexities
    from timemachine.run.load import load_run

    loaded = load_run(run)
    model = loaded.model  # fails for a run without one
    path, epochs, text = Path(run).with_suffix(".html"), list[Epoch](), ""
    if Path(run).is_dir():
        path, epochs = Path(run, "page.html"), with_perplexities(read_weights(Path(run)), Path(run))
        try:
            text = loaded.data.corpus.characters
        except SettingError as error:
            print(f"The page has no text to train on: {error}", file=sys.stderr)
    write_whole(path, make_page(model, loaded.vocab, loaded.summary, epochs, text))
    return path


if __name__ == "__main__":
    main()
