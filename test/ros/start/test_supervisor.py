"""What systemd hears of a node, at a real unix socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_manager import ServiceManager, service_manager

from hrda_ros.start import supervisor
from hrda_ros.start.supervisor import Supervisor


@pytest.fixture(params=[False, True], ids=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    with service_manager(tmp_path, without_file=request.param) as manager:
        yield manager


def test_a_service_says_that_it_is_ready_alive_and_ends(systemd: ServiceManager) -> None:
    told = Supervisor({"NOTIFY_SOCKET": systemd.name})
    told.ready()
    told.look("9.5 masks a second", hangs=False)
    told.ends()
    assert systemd.heard() == ["READY=1", "STATUS=9.5 masks a second\nWATCHDOG=1", "STOPPING=1"]


def test_a_service_that_hangs_says_so_and_not_that_it_is_alive(systemd: ServiceManager) -> None:
    Supervisor({"NOTIFY_SOCKET": systemd.name}).look("it hangs,\nWATCHDOG=1 or not", hangs=True)
    assert systemd.heard() == ["STATUS=it hangs, WATCHDOG=1 or not"]


def test_while_a_model_is_loaded_a_thread_says_that_the_service_is_alive(
    systemd: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_PERIOD_S", 0.01)
    before = threading.active_count()
    with Supervisor({"NOTIFY_SOCKET": systemd.name}).at_work():
        systemd.wait_for("WATCHDOG=1")
        systemd.wait_for("WATCHDOG=1")
    assert threading.active_count() == before
    assert set(systemd.heard()) <= {"WATCHDOG=1"}


def test_a_model_that_does_not_load_ends_that_thread_too(systemd: ServiceManager) -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="no model"), Supervisor({"NOTIFY_SOCKET": systemd.name}).at_work():
        raise ValueError("no model")
    assert threading.active_count() == before


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/absent/socket"}])
def test_without_systemd_nothing_is_said_and_nothing_fails(environment: dict[str, str]) -> None:
    told = Supervisor(environment)
    told.ready()
    told.look("well", hangs=False)
    with told.at_work():
        told.ends()


def test_a_manager_that_does_not_read_stops_no_node(systemd: ServiceManager) -> None:
    told = Supervisor({"NOTIFY_SOCKET": systemd.name})
    for _ in range(5000):
        told.look("well", hangs=False)
    assert 0 < len(systemd.heard()) < 5000
