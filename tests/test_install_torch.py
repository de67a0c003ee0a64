"""install_torch.py asks an index of CPU builds where it helps, and otherwise installs what pip finds."""

import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools import install_torch


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve a folder that has an index of torch."""
    (tmp_path / "index/torch").mkdir(parents=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "seconds", "system", "has_driver", "pip_fails", "tried"),
    [
        ("/index", 60, "Linux", False, False, ["index"]),
        ("/index", 60, "Linux", False, True, ["index", "pip"]),
        ("/index", 0, "Linux", False, False, ["pip"]),  # slower than this
        ("/absent", 60, "Linux", False, False, ["pip"]),
        ("/index", 60, "Linux", True, False, ["pip"]),
        ("/index", 60, "Darwin", False, False, ["pip"]),
    ],
)
def test_choice_and_fallback(
    path: str, seconds: int, system: str, has_driver: bool, pip_fails: bool, tried: list[str], server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    commands: list[list[str]] = []

    def call(command: list[str]) -> int:
        commands.append(command)
        return int(pip_fails and "--index-url" in command)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(install_torch, "SECONDS", seconds)
    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("shutil.which", lambda name: name if has_driver else None)
    monkeypatch.setattr(Path, "exists", lambda _: has_driver)
    assert install_torch.main(["--quiet"], server + path) == 0
    assert ["index" if "--index-url" in command else "pip" for command in commands] == tried
    assert all("--quiet" in command and any(each.startswith("torch>=") for each in command) for command in commands)
    assert "index" not in tried or commands[0][-1] == server + path
    assert install_torch.main(["--locked"], server + path) == 0
    assert re.fullmatch(r"torch==[\d.]+", next(each for each in commands[-1] if each.startswith("torch")))
