"""`hrda compare` as a user meets it: the page, who may speak with it, and what becomes of the answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("jsonargparse")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from compared import write_compared
from tiny_bundle import write_tiny_bundle

from hrda_core.comparison.drive import open_drive
from hrda_core.comparison.session import Session, Settings, open_session
from hrda_core.inference import Bundle
from hrda_training import compare_server
from hrda_training.__main__ import main

SETTINGS = Settings(frames=3, questions=30, backend="onnx", threads=1)
WATCHED = Path(__file__).resolve().parents[1] / "support" / "watched_command.py"
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


def request(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            sent = {"Content-Type": "application/json"} | sent
        connection.request(method, path, content, sent)
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())


def answer(port: int, path: str, number: int, word: str) -> dict[str, Any]:
    status, content, _ = request(port, "POST", f"{path}answer", {"number": number, "answer": word})
    assert status == 200
    found: dict[str, Any] = json.loads(content)
    return found


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


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("hrda compare: error: ")
    return sentence


def options(made: Path, out: Path, *more: str) -> list[str]:
    return [str(made / "a"), str(made / "b"), "--bag", str(made / "drive"), "--out", str(out), "--threads", "1", *more]


def test_mistakes_are_one_sentence_and_leave_nothing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "does not exist" in refused(capsys, str(made / "a"), str(made / "b"), "--bag", str(tmp_path / "no"))
    assert "are the same network" in refused(capsys, str(made / "a"), str(made / "a"), "--bag", str(made / "drive"))
    assert "--questions is a number from 1" in refused(capsys, *options(made, out, "--questions", "0"))
    assert "--port is a number from 0" in refused(capsys, *options(made, out, "--port", "70000"))
    assert "topic" in refused(capsys, *options(made, out, "--topic", "/camera"))
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} of 127.0.0.1 cannot be used" in refused(capsys, *options(made, out, "--port", port))
    assert list(tmp_path.iterdir()) == []


def test_no_disagreement_is_a_result(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 90, np.uint8))
    arguments = [str(made / "a"), str(made / "b"), "--bag", str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")]
    assert main(["compare", *arguments, "--json", str(tmp_path / "found.json")]) == 0
    assert "give every pixel of 1 frame the same class" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["better"], found["questions"], found["disagreement"]) == (None, 0, 0)


def test_models_with_other_classes_are_refused(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"name": "two", "classes": ["road", "rest"], "palette": [[0, 0, 0], [255, 255, 255]], "things": []}
    other = write_tiny_bundle(tmp_path / "other", label_space=space)
    sentence = refused(capsys, str(made / "a"), str(other), "--bag", str(made / "drive"))
    assert "only models with the same classes can be compared" in sentence


def test_answers_lie_beside_the_second_model_unless_told_otherwise(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.setattr(compare_server, "ask", lambda session, say, **options: None)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--bag", str(made / "drive")]) == 0
    assert (tmp_path / "b.compare" / "questions.json").is_file()
    # Nothing is written beside a model that came with the package.
    monkeypatch.setattr("hrda_core.inference.model_folders.is_shipped", lambda folder: folder.name == "b")
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "home"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "c").symlink_to(made / "a")
    assert main(["compare", str(tmp_path / "mine" / "c"), str(tmp_path / "b"), "--bag", str(made / "drive")]) == 0
    assert (tmp_path / "mine" / "b.compare" / "questions.json").is_file()
    monkeypatch.setattr("hrda_core.inference.model_folders.is_shipped", lambda folder: True)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--bag", str(made / "drive")]) == 0
    assert (tmp_path / "home" / "b.compare" / "questions.json").is_file()


def started(made: Path, out: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "hrda_training", "compare", *options(made, out, "--frames", "3")]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_ctrl_c_keeps_the_answers_and_says_how_to_go_on(made: Path, tmp_path: Path) -> None:
    out, token = tmp_path / "out", ""
    for answered in (0, 1):
        with started(made, out) as process:
            try:
                assert process.stderr is not None
                lines = [process.stderr.readline() for _ in range(3)]
                found = re.match(r"questions: http://127\.0\.0\.1:(\d+)(/.*/)", lines[0])
                assert found
                assert "open this address in a browser" in lines[1]
                assert f"{answered} answered so far" in lines[2]
                assert found[2] != token
                token = found[2]
                answer(int(found[1]), token, answered, "unsure")
                process.send_signal(signal.SIGINT)
                rest = process.stderr.read()
                assert process.wait(60) == 130
            finally:
                process.kill()
        assert f"{answered + 1} answers are kept in" in rest
        assert "the same command goes on: hrda compare " in rest
    assert json.loads((out / "answers.json").read_text())["answers"] == ["unsure", "unsure"]


def test_it_needs_no_torch_and_no_page_maker(made: Path, tmp_path: Path) -> None:
    """As docs/robot/commands.md says."""
    blocked = "torch,torchvision,timm,matplotlib,jinja2,safetensors,onnx,rosbags,mcap,PIL,tqdm,docstring_parser"
    program = [sys.executable, str(WATCHED), str(tmp_path / "imported.json"), blocked, "compare"]
    with subprocess.Popen(
        [*program, *options(made, tmp_path / "out", "--no-open", "--frames", "2", "--questions", "1")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            found = re.match(r"questions: http://127\.0\.0\.1:(\d+)(/.*/)", process.stderr.readline())
            assert found
            assert answer(int(found[1]), found[2], 0, "first")["kind"] == "end"
            assert "undecided after 1 question" in process.stdout.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    imported = set(json.loads((tmp_path / "imported.json").read_text()))
    assert imported - {"cv2", "numpy", "yaml"} == {"jsonargparse", "onnxruntime"}


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
