"""A stand-in for the Hugging Face hub: the requests by which a commit is made, on loopback, kept in memory."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stand_in"


class StandInHub(ThreadingHTTPServer):
    """Repositories by name: whether they are private, and the files of each branch."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.private: dict[str, bool] = {}
        self.branches: dict[tuple[str, str], dict[str, bytes]] = {}
        self.messages: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.refused_metadata = ""
        """What the validator says about the metadata of a model card; empty: it accepts them."""


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif parts[:2] == ["api", "validate-yaml"]:
            errors = [{"message": self.server.refused_metadata}] if self.server.refused_metadata else []
            self._answer(400 if errors else 200, {"errors": errors, "warnings": []})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif parts[:2] == ["api", "models"] and parts[4] == "branch":
            self.server.branches.setdefault((f"{parts[2]}/{parts[3]}", parts[5]), {})
            self._answer(200, {})
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": [{**file, "shouldIgnore": False} for file in files]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [
                {**entry, "actions": {"upload": {"href": f"{self.server.endpoint}/lfs/{entry['oid']}", "header": {}}}}
                for entry in objects
            ]
            self._answer(200, {"transfer": "basic", "objects": actions})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            self._commit(f"{parts[2]}/{parts[3]}", parts[5], [json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404, {"error": f"the stand-in does not know {self.path}"})

    def do_PUT(self) -> None:
        oid = self.path.rsplit("/", 1)[-1]
        self.server.objects[oid] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, {})

    def _create(self, wanted: dict[str, Any]) -> None:
        repository = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.server.endpoint}/{repository}"}
        if repository in self.server.private:
            self._answer(409, {"error": "exists", **url})
            return
        self.server.private[repository] = wanted.get("private", wanted.get("visibility") == "private")
        self.server.branches[repository, "main"] = {}
        self._answer(200, url)

    def _commit(self, repository: str, branch: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.branches[repository, branch]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        oid = "0" * 40
        url = f"{self.server.endpoint}/{repository}/commit/{oid}"
        self._answer(200, {"commitUrl": url, "commitOid": oid, "success": True})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """Run the stand-in while the block runs."""
    server = StandInHub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
