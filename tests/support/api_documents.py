"""An API server that answers GET with documents by path, 404 for others, 403 where told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


@contextmanager
def serving(
    documents: Mapping[str, Any], folder: Path, *, forbidden: frozenset[str] = frozenset()
) -> Iterator[Path]:
    """Yields a kubeconfig that leads there. Any other method than GET is answered 405."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in forbidden:
                self._answer(403, {"kind": "Status", "message": f"{path} is forbidden"})
            elif path in documents:
                self._answer(200, documents[path])
            else:
                self._answer(404, {"kind": "Status", "message": f"{path} not found"})

        def _answer(self, status: int, document: Any) -> None:
            text = json.dumps(document).encode()
            self.send_response_only(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield _kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _kubeconfig(file: Path, url: str) -> Path:
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": url}}],
                "users": [{"name": "test", "user": {"token": "none"}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )
    )
    return file
