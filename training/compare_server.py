"""The questions of a comparison as a page on this machine: standard library, no network, one HTML file.

It listens on 127.0.0.1 alone. Whoever does not know the random token in the address gets nothing, and neither does a
page of another site that calls this machine by a name of its own (DNS rebinding). A request names no files: it says
which question it answers, and how.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hrda_core.comparison.result import ESTIMATOR, points
from hrda_core.comparison.session import Session
from hrda_core.errors import HrdaError, RecipeError, TextError
from hrda_core.untrusted_text import parse_json

__all__ = ["PAGE", "ask", "browser_here", "check_port"]

PAGE = Path(__file__).with_name("compare_page.html")

_ADDRESS = "127.0.0.1"
_OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?")
"""Any port: `ssh -L` may give the page another one on the user's machine."""

_LONGEST_BODY = 1024
_MOST_CONNECTIONS = 64  # a browser opens far fewer; without a limit they take all the files that a process may open
_ANSWERS = {"first", "second", "neither", "unsure", "undo"}


def ask(session: Session, say: Callable[[str], None], *, port: int = 0, open_browser: bool = True) -> None:
    """Serve the page until nothing is left to ask.

    Args:
        session: the comparison; it keeps each answer at once.
        say: takes lines for the user.
        port: port of this machine; 0 = any that is free.
        open_browser: open the page in the user's browser, where there is one.

    Raises:
        RecipeError: the port is in use.
        DataError: an answer could not be kept.
        KeyboardInterrupt: the user ended it; the answers so far are kept.
    """
    with _told(port):
        server = _Server(session, port)
    address = f"http://{_ADDRESS}:{server.server_port}/{server.token}/"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        say(f"questions: {address}")
        shown = open_browser and browser_here() and webbrowser.open(address)
        if not shown:
            say(
                f"open this address in a browser on this machine; from another one, first: ssh -L "
                f"{server.server_port}:{_ADDRESS}:{server.server_port} THIS_MACHINE"
            )
        say(f"{len(session.answers)} answered so far; Ctrl-C ends it at any time and keeps the answers")
        while not server.ended.wait(0.2):
            pass
    finally:
        server.shutdown()
        server.server_close()
    if server.error is not None:
        raise server.error


def check_port(port: int) -> None:
    """Refuse a port that is in use, before the models run for minutes; 0 = any that is free.

    Raises:
        RecipeError: it cannot be used.
    """
    with socket.socket() as trial, _told(port):
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        trial.bind((_ADDRESS, port))
        trial.listen()


@contextmanager
def _told(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecipeError(
            f"port {port} of {_ADDRESS} cannot be used ({error.strerror}); give another --port, or 0 for any free one"
        ) from error


def browser_here() -> bool:
    """Return whether a browser can show a window; without a display Python would start one in the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, session: Session, port: int) -> None:
        super().__init__((_ADDRESS, port), _Handler)
        self.session = session
        self.token = secrets.token_urlsafe(16)
        self.page = PAGE.read_text(encoding="utf-8")
        self.one_at_a_time, self.ended = threading.Lock(), threading.Event()
        self.error: HrdaError | None = None
        self.connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        while len(self.connections) > _MOST_CONNECTIONS:
            with suppress(OSError):
                self.connections.pop(0).shutdown(socket.SHUT_RDWR)  # its thread ends
        super().process_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away in the middle; all else is a fault of ours, with its traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        path = self._allowed()
        if path == "":
            nonce = secrets.token_urlsafe(12)
            self._send(self.server.page.replace("NONCE", nonce).encode(), "text/html; charset=utf-8", nonce)
        elif path == "state":
            self._state()
        elif path is not None:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        path = self._allowed()
        if path == "answer":
            self._answer()
        elif path is not None:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _answer(self) -> None:
        body = self._body()
        if body is None:
            return
        number, answer = body.get("number"), body.get("answer")
        if type(number) is not int or not isinstance(answer, str) or answer not in _ANSWERS:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        try:
            with self.server.one_at_a_time:
                _take(self.server.session, number, answer)
        except HrdaError as error:
            self._fail(error)
        else:
            self._state()

    def _allowed(self) -> str | None:
        """The path behind the token; None for a request that was refused."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if not _OWN_HOST.fullmatch(host) or (origin and origin != f"http://{host}"):
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        found = re.fullmatch(r"/([^/]*)/(.*)", self.path)
        if found is None or not hmac.compare_digest(found[1].encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return found[2]

    def _body(self) -> dict[str, Any] | None:
        """The request's JSON; None where it was refused."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > _LONGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        try:
            body = parse_json(self.rfile.read(int(length)))
        except TextError:
            body = None
        # Another site's form cannot send this type without asking first.
        if self.headers.get_content_type() != "application/json" or not isinstance(body, dict):
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        return body

    def _state(self) -> None:
        try:
            with self.server.one_at_a_time:
                state = _state(self.server.session)
        except HrdaError as error:
            self._fail(error)
            return
        self._send(json.dumps(state).encode(), "application/json")
        if state["kind"] == "end":
            self.server.ended.set()

    def _fail(self, error: HrdaError) -> None:
        """What the disk refuses ends the questions, here and at the terminal."""
        self._send(json.dumps({"error": str(error)}).encode(), "application/json", status=HTTPStatus.CONFLICT)
        self.server.error = error
        self.server.ended.set()

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(json.dumps({"error": status.phrase}).encode(), "application/json", status=status)

    def _send(self, body: bytes, kind: str, nonce: str = "", *, status: HTTPStatus = HTTPStatus.OK) -> None:
        own = f"'nonce-{nonce}'" if nonce else "'none'"
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": f"default-src 'none'; script-src {own}; style-src {own}; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "hrda"

    def log_message(self, *values: object) -> None:
        """Write no log: the terminal is for the user, and the address is a secret."""


def _take(session: Session, number: int, answer: str) -> None:
    if answer == "undo":
        session.undo(number)
    elif number == len(session.answers) and not session.finished:
        a_first = session.questions[number].a_first
        own = {"first": "a" if a_first else "b", "second": "b" if a_first else "a"}
        session.answer(number, own.get(answer, answer))


def _state(session: Session) -> dict[str, Any]:
    return _end(session) if session.finished else _question(session, len(session.answers))


def _question(session: Session, number: int) -> dict[str, Any]:
    """A question without a word on which model says what, and on how it stands."""
    question = session.questions[number]
    first, second = (question.a, question.b) if question.a_first else (question.b, question.a)
    return {
        "kind": "question",
        "number": number,
        "most": session.most,
        "first": _class(session, first),
        "second": _class(session, second),
        "crop": _data(session.picture(number, "crop")),
        "frame": _data(session.picture(number, "frame")),
        "view": vars(session.views[number]),
    }


def _end(session: Session) -> dict[str, Any]:
    found = session.comparison()
    rows = [["class", "difference, points", "between", "and", "questions"]]
    for one in found.classes:
        values = [points(value) for value in (one.difference, one.low, one.high)]
        rows.append([one.name, *values, str(one.asked)])
    return {
        "kind": "end",
        "title": "Thank you, that is all",
        "text": f"Result: {found.sentence(*session.names)}.",
        "rows": rows if len(rows) > 1 else [],
        "note": f"A = {session.names[0]}, B = {session.names[1]}. {ESTIMATOR} A class counts the pixels that "
        "one of the models gives it, so that a pixel counts for two classes. You can close this page.",
    }


def _class(session: Session, label: int) -> dict[str, str]:
    if label >= len(session.space):
        return {"name": "no class", "colour": "#000000"}
    red, green, blue = session.space.palette[label]
    return {"name": session.space.classes[label], "colour": f"#{red:02x}{green:02x}{blue:02x}"}


def _data(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
