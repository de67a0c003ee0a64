"""install_torch.py asks an index of CPU builds where it helps, and otherwise installs what pip finds."""

import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import install_torch


class Index(BaseHTTPRequestHandler):
    """A stand-in for an index: it lists torch below /fast only, and below /slow after a while."""

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(3)
        self.send_response(200 if self.path in ("/fast/torch/", "/slow/torch/") else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "system", "has_driver", "pip_fails", "tried"),
    [
        ("/fast", "Linux", False, False, ["index"]),
        ("/fast", "Linux", False, True, ["index", "pip"]),
        ("/slow", "Linux", False, False, ["pip"]),
        ("/absent", "Linux", False, False, ["pip"]),
        ("/fast", "Linux", True, False, ["pip"]),
        ("/fast", "Darwin", False, False, ["pip"]),
    ],
)
def test_choice_and_fallback(
    path: str, system: str, has_driver: bool, pip_fails: bool, tried: list[str], index: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    commands: list[list[str]] = []

    def call(command: list[str]) -> int:
        commands.append(command)
        return int(pip_fails and "--index-url" in command)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(install_torch, "SECONDS", 1)
    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("shutil.which", lambda name: name if has_driver else None)
    monkeypatch.setattr(Path, "exists", lambda _: has_driver)
    assert install_torch.main(["--quiet"], index + path) == 0
    assert ["index" if "--index-url" in command else "pip" for command in commands] == tried
    assert all("--quiet" in command and any(each.startswith("torch>=") for each in command) for command in commands)
    assert "index" not in tried or commands[0][-1] == index + path
