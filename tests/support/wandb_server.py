"""A fake Weights & Biases server on the loopback interface: it answers the client and stores the received data."""

import json
import re
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote, unquote

Json = dict[str, Any]

KEY = "5ec2e7" * 6 + "0bad"  # 40 characters, as wandb requires
ENTITY = "tester"  # the owner of the key
SENT_AS = {"display_name": "displayName", "group": "groupName", "tags": "tags"}


@dataclass
class ArrivedRun:
    """Data that a client sent for a run."""

    name: str  # W&B's ID
    project: str
    entity: str
    display_name: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    config: Json = field(default_factory=dict)  # as set by the user
    history: list[Json] = field(default_factory=list)
    summary: Json = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None  # None: still running


class WandbServer:
    """Serve inside the context. A request that is not among the `operations` is refused."""

    def __init__(self) -> None:
        self.runs: dict[str, ArrivedRun] = {}  # by W&B's ID
        self.views: list[Json] = []
        self.unknown: list[str] = []  # unknown requests, so that tests detect new requests of a newer client
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"wandb": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        teams: Json = {"edges": [{"node": {"name": ENTITY}}]}
        user = {"id": ENTITY, "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}
        self.operations: dict[str, Callable[[Json], Json]] = {
            "Viewer": lambda _: {"viewer": user},
            "GetDefaultEntity": lambda _: {"viewer": user},
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": {"organization": None}},
            "XXHashDigestsEnabled": lambda _: {"entity": {"xxhashDigestsEnabled": False}},
            "UpsertBucket": self._upsert_bucket,
            "RunResumeStatus": self._run_resume_status,
            "CreateRunFiles": self._create_run_files,
            "UpsertView2": self._upsert_view,
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def environment(self) -> dict[str, str]:
        """Return the environment for a client of this server. Error reports would go to W&B's own server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false",
                "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # fmt: skip

    def answer(self, path: str, body: bytes) -> Json:
        """Return the answer to a request. Unknown requests may raise any exception."""
        if path == "/graphql":
            asked = json.loads(body)
            name = asked.get("operationName") or re.findall(r"\b(?:query|mutation)\s+(\w+)", asked["query"])[0]
            return {"data": self.operations[name](asked.get("variables") or {})}
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            run, sent = self.runs[match[1]], json.loads(body)
            if lines := sent.get("files", {}).get("wandb-history.jsonl"):  # a repeated request replaces its rows
                rows = [json.loads(line) for line in lines["content"]]
                run.history[lines["offset"] : lines["offset"] + len(rows)] = rows
            if lines := sent.get("files", {}).get("wandb-summary.json"):
                run.summary = json.loads(lines["content"][-1])
            if sent.get("complete"):
                run.exit_code = sent["exitcode"]
        elif match := re.fullmatch(r"/upload/([^/]+)/(.+)", path):
            self.runs[match[1]].files[unquote(match[2])] = body
        elif not path.startswith("/sdk/otel/"):  # the client's telemetry
            raise LookupError(path)
        return {}

    # GraphQL operations

    def _upsert_bucket(self, sent: Json) -> Json:
        name, inserted = sent["name"], sent["name"] not in self.runs
        run = self.runs.setdefault(name, ArrivedRun(name, sent["project"], sent["entity"] or ENTITY, display_name=name))
        for field_name, sent_as in SENT_AS.items():
            setattr(run, field_name, sent[sent_as] or getattr(run, field_name))
        if sent["config"]:
            config = json.loads(sent["config"]).items()
            run.config = {key: entry["value"] for key, entry in config if key != "_wandb"}  # the client's metadata
        run.summary = json.loads(sent["summaryMetrics"] or "null") or run.summary
        project = {"id": run.project, "name": run.project, "entity": {"id": ENTITY, "name": ENTITY}}
        bucket = {"id": name, "name": name, "displayName": run.display_name, "project": project}
        bucket |= {"config": sent["config"], "historyLineCount": len(run.history)}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _run_resume_status(self, sent: Json) -> Json:
        bucket = None
        if run := self.runs.get(sent["name"]):
            bucket = {
                "id": run.name, "name": run.name, "displayName": run.display_name, "tags": [],
                "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
                "wandbConfig": '{"t": 1}',  # otherwise the client assumes an empty run
                "summaryMetrics": json.dumps(run.summary), "historyLineCount": len(run.history),
                "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
                "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]",
            }  # fmt: skip
        return {"model": {"name": sent["project"], "entity": {"id": ENTITY, "name": ENTITY}, "bucket": bucket}}

    def _create_run_files(self, sent: Json) -> Json:
        urls = {name: f"{self.url}/upload/{sent['run']}/{quote(name)}" for name in sent["files"]}
        files = [{"name": name, "uploadUrl": url, "uploadHeaders": []} for name, url in urls.items()]
        return {"createRunFiles": {"runID": sent["run"], "uploadHeaders": [], "files": files}}

    def _upsert_view(self, sent: Json) -> Json:
        view_id = f"id{len(self.views)}"
        self.views.append(sent | {"id": view_id, "spec": json.loads(sent["spec"])})
        project = {"id": sent["projectName"], "name": sent["projectName"], "entityName": sent["entityName"]}
        return {"upsertView": {"view": sent | {"id": view_id, "description": "", "project": project}, "inserted": True}}


class _Handler(BaseHTTPRequestHandler):
    wandb: WandbServer
    protocol_version = "HTTP/1.1"  # keep connections open, like W&B's server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = 400, {"errors": [{"message": "the stand-in for W&B's server refuses this"}]}
        try:
            with self.wandb.lock:
                status, answer = 200, self.wandb.answer(self.path, body)
        except Exception:  # the client would retry if the connection closed without an answer
            self.wandb.unknown.append(f"{traceback.format_exc()}\n{self.path}\n{body.decode(errors='replace')}")
        sent = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_PUT = do_POST  # noqa: N815 (the base class calls them so)

    def log_message(self, *words: object) -> None:
        """Print nothing."""
