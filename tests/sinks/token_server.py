"""A token server on this machine, and the key of a service account that goes there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

# An answer of a token server, as status, content type and body; None: it never answers.
Answer = tuple[int, str, str] | None

TOKEN: Answer = (200, "application/json", json.dumps({"access_token": "token", "expires_in": 3600}))
BAD_GATEWAY: Answer = (502, "text/html", "<html><h1>502 Bad Gateway</h1></html>")
UNAVAILABLE: Answer = (503, "application/json", json.dumps({"error": "temporarily_unavailable"}))


def refusal(error: str, description: str) -> Answer:
    """Return what a token server says when it refuses (RFC 6749, section 5.2)."""
    return 400, "application/json", json.dumps({"error": error, "error_description": description})


class TokenServer:
    """Answers in turn, and with the last answer for ever; a context manager.

    Attributes:
        asked: how many tokens it was asked for.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self._over = threading.Event()
        self.asked = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def key(self) -> dict[str, str]:
        """Return a service account's key file, with a key that was made just now."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "test",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "job@test.iam.gserviceaccount.com",
            "token_uri": self.url,
        }

    def _next(self) -> Answer:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        next_answer: Callable[[], Answer] = self._next
        over = self._over

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = next_answer()
                if answer is None:
                    over.wait(30)
                    return
                status, kind, body = answer
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self) -> None:  # as the metadata server is asked
                self.do_POST()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def __enter__(self) -> TokenServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
