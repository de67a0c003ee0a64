"""A stand-in for Weights & Biases' server on the loopback: it answers what the client asks and keeps what arrives.

    with WandbServer() as server:
        subprocess.run(program, env=os.environ | server.environment())
    assert not server.unknown
    (run,) = server.runs.values()

It speaks as much as runs, their files and artifacts, `wandb sync`, saved views and reports need. What it does
not know it refuses and notes in `unknown`, so that a test sees when a newer client asks something new.
"""

import base64
import gzip
import json
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote, unquote

Json = dict[str, Any]

ENTITY = "tester"  # whose key it is
NAMES = ("ARTIFACT_TAGS", "CLIENT_IDS", "FILESTREAM_GZIP", "LARGE_FILENAMES")  # what servers of 2026 can do
FEATURES = [{"name": name, "isEnabled": True} for name in NAMES]


@dataclass
class ArrivedRun:
    """What a client sent of a run."""

    name: str  # wandb's id
    entity: str
    project: str
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: Json = field(default_factory=dict)  # as the user gave it
    axes: dict[str, str | None] = field(default_factory=dict)  # of each metric, what it is shown against
    history: list[Json] = field(default_factory=list)
    summary: Json = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: dict[str, dict[str, bytes]] = field(default_factory=dict)  # committed ones: name, then path in it
    exit_code: int | None = None  # None: not ended


class WandbServer:
    """Serves while the context lasts, or until `die`; having answered `dies_after` file-stream posts it dies by itself.

    It `refuses` all, or takes `delay` seconds for whatever concerns artifacts and files. `runs` has what arrived, by
    wandb's run id; `views` the saved views and reports, as they were sent; `unknown` what was refused. A client posts
    as a run starts, every 15 s and as the run ends.
    """

    def __init__(self, dies_after: int = 0, refuses: bool = False, delay: float = 0) -> None:
        self.dies_after, self.refuses, self.delay = dies_after, refuses, delay
        self.runs: dict[str, ArrivedRun] = {}
        self.views: dict[str, Json] = {}
        self.keys: set[str] = set()  # that clients showed
        self.unknown: list[str] = []
        self.is_dead = False
        self._artifacts: list[tuple[Json, dict[str, bytes]]] = []  # what the client said of each, and its files
        self._lock = threading.Lock()
        self._http = _Listener(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._operations: dict[str, Callable[[Json], Json]] = {
            "Viewer": self._viewer,
            "GetDefaultEntity": self._viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": FEATURES}},
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": {"organization": None}},
            "XXHashDigestsEnabled": lambda _: {"entity": {"xxhashDigestsEnabled": False}},
            "UpsertBucket": self._upsert_bucket,
            "RunResumeStatus": self._run_resume_status,
            "CreateRunFiles": self._create_run_files,
            "ArtifactType": lambda _: {"project": {"artifact": None}},
            "CreateArtifact": self._create_artifact,
            "CreateArtifactManifest": lambda sent: {"createArtifactManifest": self._manifest(sent["artifactID"])},
            "UpdateArtifactManifest": lambda sent: {
                "updateArtifactManifest": self._manifest(sent["artifactManifestID"])
            },
            "CreateArtifactFiles": self._create_artifact_files,
            "CommitArtifact": self._commit_artifact,
            "UpsertView2": self._upsert_view,
            "upsertView": self._upsert_view,
            "ProjectViews": self._project_views,
            "GetProjects": self._projects,
            "ProjectInternalId": lambda sent: {"project": {"id": sent["projectName"], "internalId": "1"}},
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.die()

    def die(self) -> None:
        """Refuse connections from now on, and answer nothing more on those that are open."""
        self.is_dead = True
        self._http.shutdown()
        self._http.server_close()

    def environment(self) -> dict[str, str]:
        """What a client needs to come here."""
        return environment_of(self.url)

    # What a handler calls

    def answer(self, method: str, path: str, body: bytes) -> Json | None:
        """The answer to a request; None: refused."""
        if self.delay and (method == "PUT" or b"rtifact" in body):
            time.sleep(self.delay)
        if self.refuses:
            return None
        with self._lock:
            try:
                return self._answer_known(method, path, body)
            except Exception:  # the client asks again and again where a connection just ends
                self.unknown.append(f"{traceback.format_exc()}\n{method} {path}\n{body.decode(errors='replace')}")
                return None

    def _answer_known(self, method: str, path: str, body: bytes) -> Json | None:
        if path == "/graphql":
            asked = json.loads(body)
            name = asked.get("operationName") or re.findall(r"\b(?:query|mutation)\s+(\w+)", asked["query"])[0]
            return {"data": self._operations[name](asked.get("variables") or {})}
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            self._stream(self.runs[match[1]], json.loads(body))
            return {}
        if match := re.fullmatch(r"/upload/(run|artifact|manifest)/([^/]+)/(.+)", path):
            kind, owner, name = match.groups()
            files = {"run": lambda: self.runs[owner].files, "artifact": lambda: self._artifacts[int(owner)][1]}
            if kind in files:
                files[kind]()[unquote(name)] = body
            return {}
        if path.startswith("/sdk/otel/"):
            return {}  # the client's telemetry
        raise LookupError(path)

    def answered(self, path: str) -> None:
        """What comes after an answer has gone out."""
        if path.endswith("/file_stream") and self.dies_after:
            with self._lock:
                self.dies_after -= 1
            if not self.dies_after:
                self.die()

    def _stream(self, run: ArrivedRun, sent: Json) -> None:
        files = sent.get("files", {})
        if lines := files.get("wandb-history.jsonl"):  # a post that is sent again replaces its rows
            rows = [json.loads(line) for line in lines["content"]]
            run.history[lines["offset"] : lines["offset"] + len(rows)] = rows
        if lines := files.get("wandb-summary.json"):
            run.summary = json.loads(lines["content"][-1])
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    def _url(self, kind: str, owner: str, path: str) -> str:
        return f"{self.url}/upload/{kind}/{owner}/{quote(path)}"

    # The operations

    def _viewer(self, _: Json) -> Json:
        teams: Json = {"edges": [{"node": {"name": ENTITY}}]}
        user = {"id": ENTITY, "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}
        return {"viewer": user}

    def _upsert_bucket(self, sent: Json) -> Json:
        name, inserted = sent["name"], sent["name"] not in self.runs
        if inserted:
            self.runs[name] = ArrivedRun(name, sent["entity"] or ENTITY, sent["project"], display_name=name)
        run = self.runs[name]
        run.display_name = sent["displayName"] or run.display_name
        run.group = sent["groupName"] or run.group
        run.job_type = sent["jobType"] or run.job_type
        run.tags = sent["tags"] or run.tags
        if sent["config"]:
            config = {key: entry["value"] for key, entry in json.loads(sent["config"]).items()}
            run.axes = _axes(config.pop("_wandb", {}).get("m", []))
            run.config = config
        if sent["summaryMetrics"]:
            run.summary = json.loads(sent["summaryMetrics"])
        project = {"id": run.project, "name": run.project, "entity": {"id": run.entity, "name": run.entity}}
        bucket = {"id": name, "name": name, "displayName": run.display_name, "description": None, "project": project,
                  "config": sent["config"], "sweepName": None, "historyLineCount": len(run.history)}  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _run_resume_status(self, sent: Json) -> Json:
        run = self.runs.get(sent["name"])
        bucket = run and self._resumable(run)
        entity = sent["entity"] or ENTITY
        return {"model": {"name": sent["project"], "entity": {"id": entity, "name": entity}, "bucket": bucket}}

    def _resumable(self, run: ArrivedRun) -> Json:
        return {
            "id": run.name, "name": run.name, "displayName": run.display_name, "tags": run.tags, "notes": None,
            "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
            "wandbConfig": '{"t": 1}',  # without it the client takes the run for an empty one
            "summaryMetrics": json.dumps(run.summary), "historyLineCount": len(run.history),
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]",
        }  # fmt: skip

    def _create_run_files(self, sent: Json) -> Json:
        run = sent["run"]
        files = [{"name": name, "uploadUrl": self._url("run", run, name)} for name in sent["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _create_artifact(self, sent: Json) -> Json:
        asked = sent["input"]
        artifact = {"id": str(len(self._artifacts)), "state": "PENDING"}
        self._artifacts.append((asked, {}))
        sequence = {"id": asked["artifactCollectionName"], "latestArtifact": None}  # each version is uploaded in full
        return {"createArtifact": {"artifact": artifact | {"artifactSequence": sequence}}}

    def _manifest(self, artifact: str) -> Json:
        url = self._url("manifest", artifact, "wandb_manifest.json")
        file = {"id": artifact, "uploadUrl": url, "uploadHeaders": []}
        return {"artifactManifest": {"id": artifact, "file": file}}

    def _create_artifact_files(self, sent: Json) -> Json:
        nodes = []
        for file in sent["input"]["artifactFiles"]:
            artifact, name = file["artifactID"], file["name"]
            nodes.append({
                "id": f"{artifact}/{name}", "name": name, "displayName": name, "storagePath": name,
                "uploadUrl": self._url("artifact", artifact, name), "uploadHeaders": [],
                "uploadMultipartUrls": None,  # for files of gigabytes
                "artifact": {"id": artifact},
            })  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit_artifact(self, sent: Json) -> Json:
        asked, files = self._artifacts[int(sent["artifactID"])]
        self.runs[asked["runName"]].artifacts[asked["artifactCollectionName"]] = files
        return {"commitArtifact": {"artifact": {"id": sent["artifactID"], "digest": asked["digest"]}}}

    def _upsert_view(self, sent: Json) -> Json:
        view_id = sent.get("id") or f"id{len(self.views)}"
        inserted = view_id not in self.views
        self.views[view_id] = sent | {"id": view_id, "spec": json.loads(sent["spec"])}
        project = {"id": sent["projectName"], "name": sent["projectName"], "entityName": sent["entityName"]}
        described = sent | {"id": view_id, "description": "", "project": project, "updatedAt": None}
        return {"upsertView": {"view": described, "inserted": inserted}}

    def _project_views(self, _: Json) -> Json:
        edges = [{"node": view | {"spec": "{}"}} for view in self.views.values()]
        return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}}

    def _projects(self, sent: Json) -> Json:
        described: Json = {"__typename": "Project", "entityName": ENTITY, "createdAt": "2026-01-01T00:00:00Z"}
        names = dict.fromkeys(run.project for run in self.runs.values())
        edges = [{"node": described | {"id": name, "name": name, "isBenchmark": False, "user": None}} for name in names]
        info = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": info, "edges": edges}}


class _Listener(ThreadingHTTPServer):
    """Listens for a `WandbServer`."""

    def __init__(self, wandb: WandbServer) -> None:
        self.wandb = wandb
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no news; an error of ours is noted."""
        if not isinstance(sys.exception(), OSError):
            self.wandb.unknown.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"  # connections stay open, as those of W&B's server do

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.server.wandb.is_dead or len(body) < length:
            self.close_connection = True
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if given := self.headers.get("Authorization", "").removeprefix("Basic "):
            self.server.wandb.keys.add(base64.b64decode(given).decode().partition(":")[2])
        answer = self.server.wandb.answer(self.command, self.path, body)
        refused: Json = {"errors": [{"message": "the stand-in for W&B's server refuses this"}]}
        sent = json.dumps(refused if answer is None else answer).encode()
        self.send_response(400 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)
        self.server.wandb.answered(self.path)

    do_GET = do_PUT = do_POST  # noqa: N815 (the base class calls them so)

    def log_message(self, *words: object) -> None:
        """Nothing."""


def environment_of(url: str) -> dict[str, str]:
    """What a client needs to come to a server."""
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "false",  # goes to the maker's own server
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _axes(sent: list[Json]) -> dict[str, str | None]:
    """wandb names the fields of a metric by number, and its axis by that one's place in the list, from 1."""
    names = [entry.get("1") or entry.get("2") or "" for entry in sent]
    axes = [entry.get("4") or (names[entry["5"] - 1] if "5" in entry else None) for entry in sent]
    return dict(zip(names, axes, strict=True))
