"""No command and no node opens a connection to another machine (F12).

All tests of this tree run on a tripwire, and those of train, adapt, evaluate, export and the node would fail by it.
Here is shown that it holds, that those tests run on it, and that no code of ours asks for a connection.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import no_network
import pytest
from no_network import ATTEMPTS, ReachedOutError, is_here

ELSEWHERE = "192.0.2.1"  # an address for documents: nobody has it


def _send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"hello", (ELSEWHERE, 9))


REACHES: dict[str, Callable[[], object]] = {
    "an address": lambda: socket.create_connection((ELSEWHERE, 80), timeout=1),
    "a name": lambda: socket.getaddrinfo("example.com", 443),
    "a page": lambda: urllib.request.urlopen("https://example.com"),
    "a datagram": _send,
    "an address of version 6": lambda: socket.create_connection(("2001:db8::1", 80), timeout=1),
}


@pytest.mark.parametrize("what", REACHES)
def test_f12_a_test_that_reaches_for_another_machine_ends(what: str) -> None:
    seen = len(ATTEMPTS)
    with pytest.raises(ReachedOutError, match="no test and no command may reach another machine"):
        REACHES[what]()
    assert len(ATTEMPTS) == seen + 1
    del ATTEMPTS[seen:]


def test_f12_this_machine_may_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()[:2]).close()
    assert all(
        is_here(host) for host in ("localhost", "127.0.1.1", b"localhost", None, "", "::1", socket.gethostname())
    )
    assert not any(is_here(host) for host in (ELSEWHERE, "example.com", "128.0.0.1", "localhost.example.com"))


def test_f12_train_adapt_evaluate_export_and_the_node_run_in_processes_with_the_tripwire(repository: Path) -> None:
    assert no_network._state == {"laid": True, "forbidden": True}
    verbs = {"train", "adapt", "evaluate", "export", "distill", "import"}
    called = set()
    for file in (repository / "test" / "training").glob("test_*.py"):
        called |= set(re.findall(r'\bmain\(\[\*?\(?"([a-z]+)"', file.read_text(encoding="utf-8")))
    assert verbs - called == set(), "their tests call them in the test's own process"


USES_ONNX_RUNTIME = """
import sys
from pathlib import Path
import numpy as np
from hrda_core.inference.backends.onnx_backend import OnnxBackend
OnnxBackend(Path(sys.argv[1]))(np.zeros((1, 64, 64, 3), np.uint8))
"""


def test_f12_onnx_runtime_keeps_no_number_of_this_machine_and_nothing_to_send(
    repository: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """From 1.29 on it would, below the user's cache, and send it from compiled code, past the tripwire."""
    dropped = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", USES_ONNX_RUNTIME, str(tiny_bundle / "model.onnx")]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=240)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower() or path.name == "deviceid"]


def test_f12_no_code_of_ours_speaks_to_a_network_but_the_page_on_this_machine(repository: Path) -> None:
    speaks = re.compile(
        r"^\s*(?:import|from) (?:urllib\.request|urllib3|requests|httpx|http|ftplib|socket|ssl)\b", re.M
    )
    found = {
        str(file.relative_to(repository))
        for folder in ("hrda_core", "hrda_ros", "training")
        for file in (repository / folder).rglob("*.py")
        if speaks.search(file.read_text(encoding="utf-8"))
    }
    # streams.py sets how long a line of the log waits on a socket that is there already
    assert found == {"training/compare_server.py", "hrda_ros/start/supervisor.py", "hrda_ros/start/streams.py"}
    supervisor = (repository / "hrda_ros" / "start" / "supervisor.py").read_text(encoding="utf-8")
    assert re.findall(r"socket\.socket\(([\w.]+)", supervisor) == ["socket.AF_UNIX"], "systemd's, on this machine"
    assert '"127.0.0.1"' in (repository / "training" / "compare_server.py").read_text(encoding="utf-8")
