"""A local stand-in of the W&B server's HTTP interface, for the real client: runs, history, files,
artifacts, the public API.

It keeps what it is sent (`runs`, `artifacts`, `files`) and every request it does not know
(`unknown`): a test that used it asserts that there was none. It can be out of order (`state =
"down"`: every answer is 503) or silent (`"silent"`: no answer at all).
"""

import base64
import gzip
import json
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "lab"
PROJECT = "UHJvamVjdEludGVybmFsSWQ6MQ=="  # ProjectInternalId:1


def identity(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class WandbServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.state = "up"
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.bodies: list[bytes] = []
        self.unknown: list[str] = []
        self.lock = threading.RLock()
        self.over = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is part of the tests; a request that cannot be answered is not."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.unknown.append("".join(traceback.format_exception(error)))

    def history(self, run: str) -> list[dict[str, Any]]:
        """The rows of a run, in the order in which they came."""
        return [json.loads(line) for line in self.runs[run]["lines"].get("wandb-history.jsonl", [])]

    def summary(self, run: str) -> dict[str, Any]:
        return json.loads((self.runs[run]["lines"].get("wandb-summary.json") or ["{}"])[-1])

    def config(self, run: str) -> dict[str, Any]:
        return {key: entry["value"] for key, entry in json.loads(self.runs[run]["config"]).items()}


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """A running stand-in."""
    server = WandbServer()
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.socket.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw

    def handle_any(self) -> None:
        body = self.body()
        if self.server.state == "silent":
            self.server.over.wait(120)
        if self.server.state != "up":
            return self.answer({"error": "out of order"}, 503)
        with self.server.lock:
            self.server.bodies.append(body)
            if stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                return self.answer(receive_lines(self.server, stream[1], json.loads(body)))
            if self.path == "/graphql":
                return self.answer({"data": self.graphql(json.loads(body))})
            if self.command == "PUT" and self.path.startswith("/upload/"):
                self.server.files[self.path.removeprefix("/upload/")] = body
                return self.answer({})
            if self.path.startswith("/sdk/otel/"):
                return self.answer({})
            self.server.unknown.append(f"{self.command} {self.path}")
            return self.answer({}, 404)

    do_GET = do_PUT = do_POST = handle_any  # noqa: N815

    def graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        name = named[1] if named else "?"
        if name not in OPERATIONS:
            self.server.unknown.append(f"{name}\n{request['query']}\n{request.get('variables')}")
            return {}
        return OPERATIONS[name](self.server, request.get("variables") or {})


def receive_lines(server: WandbServer, run: str, message: dict[str, Any]) -> dict[str, Any]:
    record = server.runs[run]
    for name, chunk in (message.get("files") or {}).items():
        lines, start = record["lines"].setdefault(name, []), chunk.get("offset", 0)
        lines[start:] = chunk["content"] if name != "wandb-summary.json" else chunk["content"][-1:]
    if message.get("complete"):
        record["state"] = "finished" if message.get("exitcode") == 0 else "failed"
    return {"limits": {}}


def viewer(server: WandbServer, _: Any) -> dict[str, Any]:
    name = {
        "id": identity("user"),
        "entity": ENTITY,
        "username": ENTITY,
        "email": "a@b.c",
        "flags": "{}",
        "admin": False,
        "name": ENTITY,
    }
    return {"viewer": {**name, "teams": {"edges": []}, "apiKeys": {"edges": []}}}


def project(variables: dict[str, Any]) -> dict[str, Any]:
    name = variables.get("project") or variables.get("projectName") or "uncategorized"
    return {
        "id": identity("project"),
        "internalId": PROJECT,
        "name": name,
        "entity": {"id": identity("entity"), "name": ENTITY},
    }


def resume_status(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    record = server.runs.get(variables["name"])
    bucket = None
    if record:
        lines = record["lines"]
        history = lines.get("wandb-history.jsonl", [])
        bucket = {
            **{
                "id": identity(record["id"]),
                "name": record["id"],
                "displayName": record["displayName"],
                "config": record["config"],
            },
            "summaryMetrics": (lines.get("wandb-summary.json") or ["{}"])[-1],
            "historyLineCount": len(history),
            "eventsLineCount": len(lines.get("wandb-events.jsonl", [])),
            "logLineCount": len(lines.get("output.log", [])),
            **{
                "historyTail": json.dumps(history[-1:]),
                "eventsTail": "[]",
                "tags": [],
                "wandbConfig": json.dumps({"t": 1}),
            },
        }
    return {"model": {**project(variables), "bucket": bucket}}


def upsert_run(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    new = variables["name"] not in server.runs
    record = server.runs.setdefault(
        variables["name"],
        {"id": variables["name"], "lines": {}, "config": "{}", "displayName": variables["name"]},
    )
    record.update(
        {
            key: value
            for key, value in variables.items()
            if value is not None and key not in ("id", "name")
        },
        state="running",
    )
    bucket = {
        **{
            "id": identity(record["id"]),
            "name": record["id"],
            "displayName": record["displayName"],
            "description": "",
        },
        **{"config": record["config"], "sweepName": None, "project": project(variables)},
        "historyLineCount": len(record["lines"].get("wandb-history.jsonl", [])),
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": new}}


def create_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    run = variables["run"]
    files = [
        {"name": name, "uploadUrl": f"{server.url}/upload/{run}/{name}"}
        for name in variables["files"]
    ]
    return {"createRunFiles": {"runID": identity(run), "uploadHeaders": [], "files": files}}


def create_artifact(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    asked = variables["input"]
    server.artifacts.append(asked)
    number = identity(f"artifact{len(server.artifacts) - 1}")
    return {
        "createArtifact": {
            "artifact": {
                "id": number,
                "state": "PENDING",
                "artifactSequence": {"latestArtifact": None},
            }
        }
    }


def manifest(operation: str) -> Any:
    """Where to upload an artifact's list of files: the manifest is called as its artifact is."""

    def reply(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = variables.get("artifactID") or variables["artifactManifestID"]
        name = f"manifest-of-{base64.b64decode(artifact).decode()}"
        file = {
            "id": identity("file"),
            "uploadUrl": f"{server.url}/upload/{name}",
            "uploadHeaders": [],
        }
        return {operation: {"artifactManifest": {"id": artifact, "file": file}}}

    return reply


def artifact_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    nodes = [
        {
            **{
                "storagePath": file["name"],
                "uploadUrl": f"{server.url}/upload/artifact/{file['name']}",
                "uploadHeaders": [],
            },
            **{"uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}},
        }
        for file in variables["input"]["artifactFiles"]
    ]
    return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}


def public_run(server: WandbServer, record: dict[str, Any]) -> dict[str, Any]:
    """A run as the public API shows it."""
    history = server.history(record["id"])
    return {
        **{
            "id": identity(record["id"]),
            "name": record["id"],
            "displayName": record["displayName"],
            "state": record["state"],
        },
        **{
            "group": record.get("groupName"),
            "jobType": record.get("jobType"),
            "tags": record.get("tags") or [],
            "config": record["config"],
        },
        "summaryMetrics": json.dumps(server.summary(record["id"])),
        "historyLineCount": len(history),
        "historyKeys": {"lastStep": max((row["_step"] for row in history), default=-1), "keys": {}},
        **{
            "sweepName": None,
            "commit": None,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00",
        },
        **{
            "description": "",
            "notes": "",
            "systemMetrics": "{}",
            "user": {"name": ENTITY, "username": ENTITY},
        },
        **{"projectId": 1, "internalId": identity(record["id"])},
    }


def one_run(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    record = server.runs.get(variables["name"])
    return {"project": {**project(variables), "run": record and public_run(server, record)}}


def all_runs(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    edges = [
        {"node": public_run(server, record), "cursor": record["id"]}
        for record in server.runs.values()
    ]
    page = {"edges": edges, "pageInfo": {"hasNextPage": False, "endCursor": None}}
    return {
        "project": {**project(variables), "runCount": len(edges), "readOnly": False, "runs": page}
    }


def history_page(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    rows = [
        row
        for row in server.history(variables["run"])
        if variables["minStep"] <= row["_step"] < variables["maxStep"]
    ]
    return {"project": {"run": {"history": [json.dumps(row) for row in rows]}}}


def sampled_history(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    keys = json.loads(variables["spec"])["keys"]
    rows = [
        {key: row[key] for key in keys}
        for row in server.history(variables["run"])
        if set(keys) <= set(row)
    ]
    return {"project": {"run": {"sampledHistory": [rows]}}}


def live_history(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {
        "project": {
            "run": {
                "parquetHistory": {
                    "parquetUrls": [],
                    "liveData": server.history(variables["runName"]),
                }
            }
        }
    }


OPERATIONS = {
    "Viewer": viewer,
    "GetDefaultEntity": viewer,
    "ServerInfo": lambda *_: {
        "serverInfo": {
            "cliVersionInfo": {"max_cli_version": "99.0.0"},
            "latestLocalVersionInfo": None,
        }
    },
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "OrganizationCoreWeaveOrganizationID": lambda *_: {"entity": {"organization": None}},
    "RunResumeStatus": resume_status,
    "UpsertBucket": upsert_run,
    "CreateRunFiles": create_files,
    "ArtifactType": lambda *_: {"project": {"artifact": None}},
    "XXHashDigestsEnabled": lambda *_: {"entity": {"xxhashDigestsEnabled": False}},
    "CreateArtifact": create_artifact,
    "CreateArtifactManifest": manifest("createArtifactManifest"),
    "UpdateArtifactManifest": manifest("updateArtifactManifest"),
    "CreateArtifactFiles": artifact_files,
    "CommitArtifact": lambda _, variables: {
        "commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}
    },
    "Run": one_run,
    "Runs": all_runs,
    "RunHistoryKeys": one_run,
    "HistoryPage": history_page,
    "SampledHistoryPage": sampled_history,
    "RunParquetHistory": live_history,
}
