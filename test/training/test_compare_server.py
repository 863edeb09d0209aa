"""The page of `hrda compare`: what it asks, who may speak with it, and what becomes of the answers."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from compared import answer, request, write_compared

from hrda_core.comparison.drive import open_drive
from hrda_core.comparison.session import Session, Settings, open_session
from hrda_core.inference import Bundle
from hrda_training import compare_server

SETTINGS = Settings(frames=3, questions=30, backend="onnx", threads=1)
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_compared(tmp_path_factory.mktemp("made"), (120, 160))


@pytest.fixture
def session(made: Path, tmp_path: Path) -> Iterator[Session]:
    bundles = Bundle.open(made / "a"), Bundle.open(made / "b")
    with open_session(tmp_path / "out", *bundles, open_drive([made / "drive"]), SETTINGS) as opened:
        yield opened


@contextmanager
def asking(session: Session, *, open_browser: bool = False, said: list[str] | None = None) -> Iterator[tuple[int, str]]:
    """Port and path of the page; it ends with the questions. What the terminal shows goes to `said`."""
    said = [] if said is None else said
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            compare_server.ask(session, said.append, open_browser=open_browser)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    while len(said) < 2 and thread.is_alive():
        time.sleep(0.01)
    found = re.fullmatch(r"questions: http://127\.0\.0\.1:(\d+)(/[\w-]{20,}/)", said[0])
    assert found
    yield int(found[1]), found[2]
    thread.join(60)
    if failed:
        raise failed[0]


def right(session: Session, number: int) -> str:
    return "first" if session.questions[number].a_first else "second"


def finish(session: Session, port: int, path: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(request(port, "GET", f"{path}state")[1])
    while state["kind"] == "question":
        state = answer(port, path, state["number"], right(session, state["number"]))
    return state


def test_the_page_asks_until_the_answers_decide_and_only_then_tells_which_model_is_which(session: Session) -> None:
    with asking(session) as (port, path):
        status, page, headers = request(port, "GET", path)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        state = json.loads(request(port, "GET", f"{path}state")[1])
        assert set(state) == {"kind", "number", "most", "first", "second", "crop", "frame", "view"}
        assert not re.search("red|blue|differ", json.dumps(state["first"]) + json.dumps(state["second"]))
        end = finish(session, port, path)
    assert re.match(r"Result: red is more accurate than blue after \d+ questions", end["text"])
    assert b"http" not in page.replace(b"http://www.w3.org/2000/svg", b"")
    assert session.finished
    assert json.loads((session.folder / "result.json").read_text())["better"] == "a"


def test_the_order_of_the_answers_tells_nothing(session: Session) -> None:
    order = [question.a_first for question in session.questions]
    assert 5 < sum(order) < 25
    with asking(session) as (port, path):
        for number in range(6):
            state = answer(port, path, number, "neither") if number else None
            state = state or json.loads(request(port, "GET", f"{path}state")[1])
            question = session.questions[state["number"]]
            shown = question.a if question.a_first else question.b
            assert state["first"]["name"] == session.space.classes[shown]
        session.answers = session.answers[:1]
        finish(session, port, path)


def test_undo_asks_the_same_question_again(session: Session) -> None:
    with asking(session) as (port, path):
        first = answer(port, path, 0, "unsure")
        answer(port, path, 1, "neither")
        assert answer(port, path, 2, "undo") == first
        assert answer(port, path, 1, "undo")["number"] == 0
        assert answer(port, path, 0, "undo")["number"] == 0
        assert session.answers == []
        finish(session, port, path)


@pytest.mark.parametrize(
    ("status", "path", "headers"),
    [
        (403, "TOKEN", {"Host": "evil.example"}),
        (403, "TOKEN", {"Host": "127.0.0.1.evil.example:80"}),
        (403, "TOKEN", {"Host": ""}),
        (403, "TOKEN", {"Origin": "http://evil.example"}),
        (404, "/", {}),
        (404, "/wrong/", {}),
        (404, "/wrong/state", {}),
        (404, "TOKEN../../etc/passwd", {}),
        (404, "TOKENanswers.json", {}),
        (404, "TOKENstate?number=3", {}),
        (200, "TOKENstate", {"Host": "localhost:1234"}),
    ],
)
def test_only_who_knows_the_address_gets_anything(
    session: Session, status: int, path: str, headers: dict[str, str]
) -> None:
    with asking(session) as (port, token):
        found = request(port, "GET", path.replace("TOKEN", token), **headers)
        assert found[0] == status
        if status != 200:
            assert len(found[1]) < 40
        finish(session, port, token)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"{", {}),
        (400, [], {}),
        (400, {"number": 0}, {}),
        (400, {"number": "0", "answer": "first"}, {}),
        (400, {"number": True, "answer": "first"}, {}),
        (400, {"number": 0, "answer": "a"}, {}),
        (400, {"number": 0, "answer": ["first"]}, {}),
        (400, {"number": 0, "answer": "first"}, {"Content_Type": "text/plain"}),
        (403, {"number": 0, "answer": "first"}, {"Origin": "http://127.0.0.1:1"}),
        (413, b" " * 2000, {}),
        (413, None, {"Content_Length": "-1"}),
        (413, None, {"Transfer_Encoding": "chunked"}),
    ],
)
def test_an_answer_that_is_none_changes_nothing(
    session: Session, status: int, body: Any, headers: dict[str, str]
) -> None:
    with asking(session) as (port, token):
        assert request(port, "POST", f"{token}answer", body, **headers)[0] == status
        assert request(port, "POST", f"{token}state", {})[0] == 404
        assert answer(port, token, 7, "first")["number"] == 0
        assert session.answers == []
        finish(session, port, token)


def test_the_page_may_load_nothing_and_be_framed_by_nobody(session: Session) -> None:
    with asking(session) as (port, token):
        _, page, headers = request(port, "GET", token)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
        assert nonce
        assert page.count(f'nonce="{nonce[1]}"'.encode()) == 2
        assert nonce[1] != re.search(r"nonce-([\w-]+)", request(port, "GET", token)[2]["Content-Security-Policy"])[1]  # type: ignore[index]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        finish(session, port, token)


def test_it_listens_on_this_machine_alone(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[Any] = []
    bind = socket.socket.bind
    monkeypatch.setattr(socket.socket, "bind", lambda self, place: (bound.append(place), bind(self, place))[1])
    with asking(session) as (port, token):
        finish(session, port, token)
    assert [place[0] for place in bound] == ["127.0.0.1"]


def test_a_disk_that_refuses_an_answer_ends_it_with_a_sentence(session: Session) -> None:
    from hrda_core.errors import DataError

    (session.folder / "answers.json").mkdir()

    def serve() -> None:
        with asking(session) as (port, token):
            status, content, _ = request(port, "POST", f"{token}answer", {"number": 0, "answer": "first"})
            assert status == 409
            assert "cannot be written" in json.loads(content)["error"]

    with pytest.raises(DataError, match=r"answers\.json' cannot be written"):
        serve()
    assert session.answers == []


@pytest.mark.parametrize("display", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_browser_opens_where_there_is_a_display_unless_nobody_wants_it(
    session: Session, monkeypatch: pytest.MonkeyPatch, display: bool, wanted: bool
) -> None:
    opened: list[str] = []
    said: list[str] = []
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", ":0")

    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address) or True))
    with asking(session, open_browser=wanted, said=said) as (port, token):
        finish(session, port, token)
    assert len(opened) == (display and wanted)
    assert ("open this address" in said[1]) != (display and wanted)
    assert opened in ([], [said[0].removeprefix("questions: ")])


def test_a_person_answers_with_keys_in_a_real_browser(session: Session, record_property: Any) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed here")
    program = next((path for path in BROWSERS if os.path.exists(path)), None)
    if program is None:
        pytest.skip("no chromium is installed here (apt-get install chromium)")
    playwright.expect.set_options(timeout=60_000)
    with asking(session) as (port, token), playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}{token}")
        count = page.locator("#count")

        def press(key: str, then: str) -> None:
            page.keyboard.press(key)
            playwright.expect(count).to_have_text(re.compile(then))

        playwright.expect(count).to_have_text("question 1 of at most 30")
        check_layout(page)
        press("3", "question 2 ")
        press("Space", "question 3 ")
        press("c", "question 4 ")
        press("n", "question 5 ")
        press("Backspace", "question 4 ")
        press("b", "question 4 ")
        playwright.expect(page.locator("#question.bright")).to_have_count(1)
        page.locator("[data-answer=undo]").click()
        playwright.expect(count).to_have_text(re.compile("question 3 "))
        assert session.answers == ["neither", "unsure"]
        while count.inner_text() != "done":
            number = len(session.answers)
            press("1" if right(session, number) == "first" else "2", f"question {number + 2} |done")
        assert "red is more accurate than blue" in page.locator("#end").inner_text()
        assert complaints == []
        browser.close()
    assert session.comparison().better == "a"


def check_layout(page: Any) -> None:
    """Both answers are equally large, all is on the screen, the crop is enlarged, and the cross is on the pixel."""
    first, second = (page.locator(f"[data-answer={name}]").bounding_box() for name in ("first", "second"))
    for side in ("width", "height", "y"):
        assert first[side] == pytest.approx(second[side], abs=0.5)
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.locator("#crop").bounding_box()["width"] >= 600
    assert page.locator("#cross line").count() == 8
    assert page.locator("[data-answer=undo]").is_hidden()


def test_a_browser_that_goes_away_and_a_length_of_thousands_of_digits_leave_no_traceback(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with asking(session) as (port, path):
        status, _, _ = request(port, "POST", path + "answer", b"", Content_Length="9" * 5000)
        assert status == 413
        for _ in range(5):
            gone = socket.create_connection(("127.0.0.1", port))
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with a reset
            gone.sendall(b"GE")
            gone.close()
        while not session.finished:
            request(port, "POST", path + "answer", {"number": len(session.answers), "answer": "first"})
    assert "Traceback" not in capsys.readouterr().err


def test_connections_that_never_end_their_request_keep_nobody_out(session: Session) -> None:
    with asking(session) as (port, path):
        idle = []
        for _ in range(80):
            idle.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            idle[-1].sendall(b"GET / HT")
        try:
            ended = idle[0].recv(1) == b""
        except OSError:
            ended = False
        for one in idle:
            one.close()
        while not session.finished:
            request(port, "POST", path + "answer", {"number": len(session.answers), "answer": "first"})
    assert ended, "the oldest connection is still open"
