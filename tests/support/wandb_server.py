"""A stand-in for Weights & Biases' server on the loopback: it answers what the client asks and keeps what arrives.

    with WandbServer() as server:
        subprocess.run(program, env=os.environ | server.environment())
    assert not server.unknown
    (run,) = server.runs.values()

It speaks as much as runs, their files and artifacts, `wandb sync` and saved views need. What it does not know it
refuses and notes in `unknown`, so that a test sees when a newer client asks something new.
"""

import base64
import gzip
import json
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote, unquote

import yaml

Json = dict[str, Any]

ENTITY = "tester"  # whose key it is
FEATURES = ("ARTIFACT_TAGS", "CLIENT_IDS", "FILESTREAM_GZIP", "LARGE_FILENAMES")  # that servers of 2026 have
SUMMARIES = {1: "min", 2: "max", 3: "mean", 4: "best", 5: "last", 6: "none", 7: "copy", 8: "first"}  # wandb's numbers


@dataclass
class Metric:
    """What `define_metric` declared."""

    step: str | None = None
    summaries: list[str] = field(default_factory=list)
    hidden: bool = False


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
    metrics: dict[str, Metric] = field(default_factory=dict)  # by name, or by pattern
    history: list[Json] = field(default_factory=list)
    summary: Json = field(default_factory=dict)
    output: list[str] = field(default_factory=list)  # console lines, each after its time
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: dict[str, dict[str, bytes]] = field(default_factory=dict)  # committed ones: name, then path in it
    exit_code: int | None = None  # None: not ended


@dataclass
class SavedView:
    """A saved view of a project's workspace, or a report, as the package wandb-workspaces sends it."""

    id: str
    name: str  # wandb's own, nw-…-v
    display_name: str
    entity: str
    project: str
    spec: Json


@dataclass
class _Artifact:
    """A version of an artifact; its run has it once it is committed."""

    id: str
    run: ArrivedRun
    asked: Json  # what `CreateArtifact` said of it
    version: int | None = None  # None: not committed
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.asked["artifactCollectionName"])

    def is_called(self, name: str) -> bool:
        """Is it `name:v0`, `name:latest` or `name:alias`?"""
        names = [f"v{self.version}", "latest", *(alias["alias"] for alias in self.asked["aliases"] or [])]
        return self.version is not None and name.removeprefix(f"{self.name}:") in names


class SilentServer:
    """Accepts connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)  # the kernel accepts; nobody reads
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def environment(self) -> dict[str, str]:
        """What a client needs to come here."""
        return _environment(self.url)


class WandbServer:
    """Serves while the context lasts, or until `die`; having answered `dies_after` file-stream posts it dies by itself.
    It `refuses_history`, or takes `delay` seconds for whatever concerns artifacts and files.

    A client posts as a run starts, every `x_file_stream_transmit_interval` (15 s; below 1 is 15) and as the run ends.
    `runs` has what arrived, by wandb's run id; `views` the saved views, by their name, `reports` the reports;
    `unknown` what was refused.
    """

    def __init__(self, dies_after: int | None = None, refuses_history: bool = False, delay: float = 0) -> None:
        self.dies_after = dies_after
        self.refuses_history = refuses_history
        self.delay = delay
        self.runs: dict[str, ArrivedRun] = {}
        self.views: dict[str, SavedView] = {}
        self.reports: list[SavedView] = []
        self.sweeps: dict[str, Json] = {}
        self.commands: list[Json] = []  # for an agent of a sweep: {"type": "run", "run_id": …, "args": …}, then exit
        self.keys: set[str] = set()  # that clients showed
        self.unknown: list[str] = []
        self.asked: list[str] = []  # operations in the order of their arrival
        self._artifacts: list[_Artifact] = []
        self._posts = 0
        self._lock = threading.Lock()
        self._http = _Listener(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._operations: dict[str, Callable[[Json], Json]] = {
            "Viewer": self._viewer,
            "ServerFeaturesQuery": lambda _: {
                "serverInfo": {"features": [{"name": name, "isEnabled": True} for name in FEATURES]}
            },
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": {"organization": None}},
            "XXHashDigestsEnabled": lambda _: {"entity": {"xxhashDigestsEnabled": False}},
            "UpsertBucket": self._upsert_bucket,
            "RunResumeStatus": self._run_resume_status,
            "CreateRunFiles": self._create_run_files,
            "ArtifactType": self._artifact_type,
            "CreateArtifact": self._create_artifact,
            "CreateArtifactManifest": self._create_artifact_manifest,
            "UpdateArtifactManifest": self._update_artifact_manifest,
            "CreateArtifactFiles": self._create_artifact_files,
            "CommitArtifact": self._commit_artifact,
            "ArtifactByID": self._artifact_by_id,
            "ArtifactMembershipByName": self._artifact_membership,
            "UseArtifact": self._use_artifact,
            "UpsertSweep": self._upsert_sweep,
            "SweepWithRuns": self._sweep_with_runs,
            "CreateAgent": lambda _: {"createAgent": {"agent": {"id": "agent"}}},
            "Heartbeat": self._heartbeat,
            "UpsertView2": self._upsert_view,
            "View": self._view,
            "upsertView": self._upsert_report,
            "ProjectViews": self._reports_of,
            "GetProjects": self._projects,
            "GetDefaultEntity": self._viewer,
            "ProjectInternalId": lambda sent: {"project": {"id": sent["projectName"], "internalId": "1"}},
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.die()

    def die(self) -> None:
        """Refuse connections from now on and cut those that are open."""
        self._http.shutdown()
        self._http.server_close()
        self._http.cut()

    def environment(self) -> dict[str, str]:
        """What a client needs to come here."""
        return _environment(self.url)

    # What a handler calls

    def answer(self, method: str, path: str, body: bytes) -> Json | None:
        """The answer to a request; None: refused."""
        if self.delay and (method == "PUT" or b"rtifact" in body):
            time.sleep(self.delay)
        if self.refuses_history and path.endswith("/file_stream"):
            return None
        with self._lock:
            try:
                return self._answer_known(method, path, body)
            except Exception:  # the client asks again and again where a connection just ends
                self.unknown.append(f"{traceback.format_exc()}\n{method} {path}\n{body.decode(errors='replace')}")
                return None

    def _answer_known(self, method: str, path: str, body: bytes) -> Json | None:
        if method == "POST" and path == "/graphql":
            return self._graphql(json.loads(body))
        if method == "POST" and (match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path)):
            self._stream(self.runs[match[1]], json.loads(body))
            return {}
        if method == "PUT" and (match := re.fullmatch(r"/upload/(run|artifact|manifest)/([^/]+)/(.+)", path)):
            self._folder(match[1], match[2])[unquote(match[3])] = body
            return {}
        if method == "POST" and path.startswith("/sdk/otel/"):
            return {}  # the client's telemetry
        self.unknown.append(f"{method} {path}")
        return None

    def answered(self, path: str) -> None:
        """What comes after an answer has gone out."""
        if path.endswith("/file_stream"):
            with self._lock:
                self._posts += 1
                was_last = self._posts == self.dies_after
            if was_last:
                self.die()

    def _graphql(self, asked: Json) -> Json | None:
        name = asked.get("operationName") or (re.findall(r"\b(?:query|mutation)\s+(\w+)", asked["query"]) or [""])[0]
        self.asked.append(name)
        if name not in self._operations:
            self.unknown.append(asked["query"])
            return None
        return {"data": self._operations[name](asked.get("variables") or {})}

    def _stream(self, run: ArrivedRun, sent: Json) -> None:
        for name, lines in sent.get("files", {}).items():
            content = lines["content"]
            if name == "wandb-history.jsonl":
                _put(run.history, lines["offset"], [json.loads(line) for line in content])
            elif name == "wandb-summary.json":
                run.summary = json.loads(content[-1])
            elif name == "output.log":
                _put(run.output, lines["offset"], content)
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    def _folder(self, kind: str, owner: str) -> dict[str, bytes]:
        if kind == "run":
            return self.runs[owner].files
        artifact = self._artifacts[int(owner)]
        return artifact.files if kind == "artifact" else artifact.manifest

    def _upload_url(self, kind: str, owner: str, path: str) -> str:
        return f"{self.url}/upload/{kind}/{owner}/{quote(path)}"

    def _latest(self, name: str) -> _Artifact | None:
        return next((artifact for artifact in reversed(self._artifacts) if artifact.is_called(name)), None)

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
            run.metrics = _metrics(config.pop("_wandb", {}).get("m", []))
            run.config = config
        if sent["summaryMetrics"]:
            run.summary = json.loads(sent["summaryMetrics"])
        project = {"id": run.project, "name": run.project, "entity": {"id": run.entity, "name": run.entity}}
        bucket = {
            "id": name,
            "name": name,
            "displayName": run.display_name,
            "description": None,
            "config": sent["config"],
            "sweepName": None,
            "project": project,
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _run_resume_status(self, sent: Json) -> Json:
        run = self.runs.get(sent["name"])
        bucket = (
            run
            and {
                "id": run.name,
                "name": run.name,
                "displayName": run.display_name,
                "tags": run.tags,
                "notes": None,
                "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
                "wandbConfig": '{"t": 1}',  # without it the client takes the run for an empty one
                "summaryMetrics": json.dumps(run.summary),
                "historyLineCount": len(run.history),
                "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
                "logLineCount": len(run.output),
                "eventsLineCount": 0,
                "eventsTail": "[]",
            }
        )
        entity = sent["entity"] or ENTITY
        return {"model": {"name": sent["project"], "entity": {"id": entity, "name": entity}, "bucket": bucket}}

    def _create_run_files(self, sent: Json) -> Json:
        files = [{"name": name, "uploadUrl": self._upload_url("run", sent["run"], name)} for name in sent["files"]]
        return {"createRunFiles": {"runID": sent["run"], "uploadHeaders": [], "files": files}}

    def _artifact_type(self, sent: Json) -> Json:
        artifact = self._latest(sent["name"])
        return {"project": {"artifact": artifact and {"artifactType": {"name": artifact.asked["artifactTypeName"]}}}}

    def _create_artifact(self, sent: Json) -> Json:
        asked = sent["input"]
        artifact = _Artifact(str(len(self._artifacts)), self.runs[asked["runName"]], asked)
        self._artifacts.append(artifact)
        sequence = {"id": artifact.name, "latestArtifact": None}  # each version is uploaded in full
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": "PENDING", "artifactSequence": sequence}}}

    def _manifest(self, artifact: str) -> Json:
        url = self._upload_url("manifest", artifact, "wandb_manifest.json")
        file = {"id": artifact, "uploadUrl": url, "uploadHeaders": []}
        return {"artifactManifest": {"id": artifact, "file": file}}

    def _create_artifact_manifest(self, sent: Json) -> Json:
        return {"createArtifactManifest": self._manifest(sent["artifactID"])}

    def _update_artifact_manifest(self, sent: Json) -> Json:
        return {"updateArtifactManifest": self._manifest(sent["artifactManifestID"])}

    def _create_artifact_files(self, sent: Json) -> Json:
        nodes = [
            {
                "id": f"{file['artifactID']}/{file['name']}",
                "name": file["name"],
                "displayName": file["name"],
                "storagePath": file["name"],
                "uploadUrl": self._upload_url("artifact", file["artifactID"], file["name"]),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,  # for files of gigabytes
                "artifact": {"id": file["artifactID"]},
            }
            for file in sent["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit_artifact(self, sent: Json) -> Json:
        artifact = self._artifacts[int(sent["artifactID"])]
        artifact.version = sum(other.name == artifact.name and other.version is not None for other in self._artifacts)
        artifact.run.artifacts[artifact.name] = artifact.files
        return {"commitArtifact": {"artifact": _described(artifact)}}

    def _artifact_by_id(self, sent: Json) -> Json:
        return {"artifact": _described(self._artifacts[int(sent["id"])])}

    def _artifact_membership(self, sent: Json) -> Json:
        artifact = self._latest(sent["name"])
        described = artifact and _described(artifact)
        membership = described and {
            "__typename": "ArtifactCollectionMembership",
            "id": described["id"],
            "versionIndex": described["versionIndex"],
            "createdAt": described["createdAt"],
            "aliases": described["aliases"],
            "artifactCollection": described["artifactSequence"],
            "artifact": described,
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def _use_artifact(self, sent: Json) -> Json:
        asked = sent.get("input") or sent
        return {"useArtifact": {"artifact": _described(self._artifacts[int(asked["artifactID"])])}}

    def _upsert_sweep(self, sent: Json) -> Json:
        name = sent["id"] or f"sweep{len(self.sweeps)}"
        self.sweeps[name] = yaml.safe_load(sent["config"])
        entity = sent["entityName"] or ENTITY
        project = {"id": sent["projectName"], "name": sent["projectName"], "entity": {"id": entity, "name": entity}}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def _sweep_with_runs(self, sent: Json) -> Json:
        sweep = self.sweeps[sent["sweep"]]
        described = {
            "id": sent["sweep"],
            "name": sent["sweep"],
            "method": sweep["method"],
            "state": "RUNNING",
            "config": yaml.safe_dump(sweep),
            "controller": None,
            "scheduler": None,
            "runs": {"edges": []},
        }
        return {"project": {"sweep": described}}

    def _heartbeat(self, sent: Json) -> Json:
        commands = [self.commands.pop(0)] if self.commands and not json.loads(sent["runState"] or "{}") else []
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _upsert_view(self, sent: Json) -> Json:
        name, inserted = sent["name"], sent["name"] not in self.views
        self.views[name] = SavedView(
            name, name, sent["displayName"], sent["entityName"], sent["projectName"], json.loads(sent["spec"])
        )
        return {"upsertView": {"view": {"id": name, "name": name}, "inserted": inserted}}

    def _view(self, sent: Json) -> Json:
        views = [
            {"id": view.id, "name": view.name, "displayName": view.display_name, "spec": json.dumps(view.spec)}
            for view in self.views.values()
            if (view.entity, view.project) == (sent["entityName"], sent["name"])
            and sent.get("viewName") in (None, view.name)
        ]
        return {"project": {"allViews": {"edges": [{"node": view} for view in views]}}}

    def _upsert_report(self, sent: Json) -> Json:
        place = sent["entityName"], sent["projectName"]
        report = next((report for report in self.reports if report.id == sent["id"]), None)
        if inserted := report is None:
            report = SavedView(f"report{len(self.reports)}", sent["name"], sent["displayName"], *place, {})
            self.reports.append(report)
        assert report is not None
        report.spec = json.loads(sent["spec"])
        project = {"id": place[1], "name": place[1], "entityName": place[0]}
        view = {"id": report.id, "type": sent["type"], "name": report.name, "displayName": report.display_name,
                "description": "", "project": project, "spec": sent["spec"], "updatedAt": None}  # fmt: skip
        return {"upsertView": {"view": view, "inserted": inserted}}

    def _reports_of(self, sent: Json) -> Json:
        edges = [
            {"node": {"id": report.id, "name": report.name, "displayName": report.display_name, "spec": "{}"}}
            for report in self.reports
            if (report.entity, report.project) == (sent["entity"], sent["project"])
        ]
        return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}}

    def _projects(self, sent: Json) -> Json:
        names = dict.fromkeys(run.project for run in self.runs.values())
        described: Json = {"__typename": "Project", "entityName": ENTITY, "createdAt": "2026-01-01T00:00:00Z"}
        edges: list[Json] = [
            {"node": described | {"id": name, "name": name, "isBenchmark": False, "user": None}} for name in names
        ]
        info = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": info, "edges": edges}}


class _Listener(ThreadingHTTPServer):
    """Listens for a `WandbServer` and knows the open connections."""

    def __init__(self, wandb: WandbServer) -> None:
        self.wandb = wandb
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """End all connections; the threads that wait for requests there end too."""
        for connection in list(self._open):
            with suppress(OSError):  # the client was quicker
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no news; an error of ours is noted."""
        if not isinstance(sys.exception(), OSError):
            self.wandb.unknown.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"  # connections stay open, so that there are some to cut

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            return  # cut
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if given := self.headers.get("Authorization", "").removeprefix("Basic "):
            self.server.wandb.keys.add(base64.b64decode(given).decode().partition(":")[2])
        answer = self.server.wandb.answer(self.command, self.path, body)
        refused: Json = {"errors": [{"message": "the stand-in for W&B's server does not know this"}]}
        sent = json.dumps(refused if answer is None else answer).encode()
        self.send_response(HTTPStatus.BAD_REQUEST if answer is None else HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)
        self.server.wandb.answered(self.path)

    do_GET = do_PUT = do_POST  # noqa: N815 (the base class calls them so)

    def log_message(self, *words: object) -> None:
        """Nothing."""


def _environment(url: str) -> dict[str, str]:
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "false",  # goes to the maker's own server
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _put(rows: list[Any], offset: int, new: list[Any]) -> None:
    """A post that is sent again replaces its rows."""
    rows[offset : offset + len(new)] = new


def _metrics(sent: list[Json]) -> dict[str, Metric]:
    """wandb names the fields by number, and a step by its place in the list, from 1."""
    names = [entry.get("1") or entry.get("2") or "" for entry in sent]
    return {
        name: Metric(
            step=entry.get("4") or (names[entry["5"] - 1] if "5" in entry else None),
            summaries=[SUMMARIES[number] for number in entry.get("7", [])],
            hidden=2 in entry.get("6", []),
        )
        for name, entry in zip(names, sent, strict=True)
    }


def _described(artifact: _Artifact) -> Json:
    """A version of an artifact as queries have it."""
    project = {
        "id": artifact.run.project,
        "internalId": artifact.run.project,
        "name": artifact.run.project,
        "entity": {"name": artifact.run.entity},
    }
    collection = {"__typename": "ArtifactSequence", "name": artifact.name, "project": project}
    return {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": collection,
        "versionIndex": artifact.version,
        "artifactType": {"name": artifact.asked["artifactTypeName"]},
        "description": artifact.asked["description"],
        "metadata": artifact.asked["metadata"],
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": artifact.asked["historyStep"],
        "state": "PENDING" if artifact.version is None else "COMMITTED",
        "size": sum(map(len, artifact.files.values())),
        "digest": artifact.asked["digest"],
        "commitHash": "",
        "fileCount": len(artifact.files),
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": None,
        "aliases": [
            {"__typename": "ArtifactAlias", "id": name, "alias": name, "artifactCollection": collection}
            for name in [alias["alias"] for alias in artifact.asked["aliases"] or []]
        ],
    }
