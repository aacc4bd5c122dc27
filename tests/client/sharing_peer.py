"""A small server on a Unix socket that knows shared memory: its model echoes `x` as `y`."""

from __future__ import annotations

import _posixshmem
import json
import mmap
import os
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np

from pelton.tensors import DATATYPES


class SharingPeer(socketserver.ThreadingUnixStreamServer):
    """Answers registrations and inferences, and remembers what it was asked.

    Attributes:
        url: for the client.
        regions: region name -> its mapping, as long as it is registered.
        asked: method and path of every request, in order.
        requests: the JSON part of every inference, in order.
        refuses: whether it allows no shared memory.
        hangs_up: whether it closes the connection after a registration, instead of answering.
        tells_places: whether an answer repeats where its outputs lie; Triton does not have to.
        sends_too_big: whether an output that does not fit its place is sent in the message, where
            the request allows it.
        grows: how many times as many rows an answer has as its request.
        meanwhile: called in the middle of an inference, before its outputs are written.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.path = folder / "peer.sock"
        self.url = f"unix:{self.path}"
        self.regions: dict[str, mmap.mmap] = {}
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.refuses = False
        self.hangs_up = False
        self.tells_places = True
        self.sends_too_big = True
        self.grows = 1
        self.meanwhile = lambda: None
        super().__init__(str(self.path), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> SharingPeer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may have given up
            super().handle_error(request, client_address)

    def count(self, end: str) -> int:
        """Return how many requests had a path with such an end."""
        return sum(path.endswith(end) for path in self.asked)

    def tensors(self, number: int = -1) -> dict[str, dict[str, Any]]:
        """Return the parameters of the inputs of an inference, by name."""
        return {each["name"]: each["parameters"] for each in self.requests[number]["inputs"]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SharingPeer

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, body: bytes) -> None:
        self.server.asked.append(self.path)
        parts = self.path.split("/")
        if parts[2] == "models":
            self._infer(body)
        elif self.server.refuses:
            self._error("shared memory is not enabled on this server")
        elif parts[-1] == "register":
            self._register(parts[-2], json.loads(body))
        elif parts[-1] == "unregister":
            self.server.regions.pop(parts[-2], None)
            self._answer(b"")
        else:
            rows = [{"name": name, "key": f"/{name}"} for name in self.server.regions]
            self._answer(json.dumps(rows).encode())

    def _register(self, name: str, told: dict[str, Any]) -> None:
        try:
            file = _posixshmem.shm_open(told["key"], os.O_RDWR, mode=0)
        except OSError as error:
            self._error(f"cannot open: {error.strerror}")
            return
        self.server.regions[name] = mmap.mmap(file, told["byte_size"], offset=told["offset"])
        os.close(file)
        if self.server.hangs_up:
            self.close_connection = True
        else:
            self._answer(b"")

    def _infer(self, body: bytes) -> None:
        length = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        request, tail = json.loads(body[:length]), body[length:]
        self.server.requests.append(request)
        entries, pieces = [], []
        wanted = {each["name"]: each["parameters"] for each in request.get("outputs", [])}
        for entry in request["inputs"]:
            told = entry["parameters"]
            region = told.get("shared_memory_region")
            if region is None:
                raw, tail = tail[: told["binary_data_size"]], tail[told["binary_data_size"] :]
            else:
                if region not in self.server.regions:
                    self._error(f"no shared memory region {region!r} is registered")
                    return
                start = told.get("shared_memory_offset", 0)
                raw = self.server.regions[region][start : start + told["shared_memory_byte_size"]]
            row = DATATYPES[entry["datatype"]]
            if row.wire_bytes is not None:
                assert len(raw) == int(np.prod(entry["shape"])) * row.wire_bytes
            name = entry["name"].replace("x", "y")
            grown = raw * self.server.grows
            shape = [entry["shape"][0] * self.server.grows, *entry["shape"][1:]]
            answer = {"name": name, "datatype": entry["datatype"], "shape": shape}
            place = wanted.get(name, {})
            fits = place.get("shared_memory_byte_size", 0) >= len(grown)
            if not fits and self.server.sends_too_big and place.get("binary_data"):
                place = {}
            if "shared_memory_region" in place:
                if place["shared_memory_region"] not in self.server.regions:
                    self._error("no such region")
                    return
                if not fits:
                    self._error("its place is too small")
                    return
                mapped = self.server.regions[place["shared_memory_region"]]
                self.server.meanwhile()
                mapped[: len(grown)] = grown
                if self.server.tells_places:
                    answer["parameters"] = {**place, "shared_memory_byte_size": len(grown)}
            else:
                answer["parameters"] = {"binary_data_size": len(grown)}
                pieces.append(grown)
            entries.append(answer)
        head = json.dumps({"model_name": "m", "model_version": "1", "outputs": entries}).encode()
        self._answer(head + b"".join(pieces), {"Inference-Header-Content-Length": str(len(head))})

    def _error(self, message: str) -> None:
        said = json.dumps({"error": message, "code": "invalid_input"}).encode()
        self._answer(said, {}, 400)

    def _answer(self, body: bytes, fields: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
