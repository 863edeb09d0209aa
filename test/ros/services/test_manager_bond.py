"""The bond with a lifecycle manager, against a stand-in with the interface of bondpy (ros/bond_core, branch ros2)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from served_node import served_node


class Bond:
    """Remembers what becomes of it."""

    made: list[Bond]

    def __init__(self, topic: str, id: str, node: Any, on_broken: Any = None, on_formed: Any = None) -> None:
        self.topic, self.id, self.on_broken = topic, id, on_broken
        self.heartbeat_period, self.heartbeat_timeout = 1.0, 4.0
        self.steps: list[str] = []
        Bond.made.append(self)

    def start(self) -> None:
        self.steps.append(f"start {self.heartbeat_period:g} {self.heartbeat_timeout:g}")

    def shutdown(self) -> None:
        self.steps.append("shutdown")
        raise RuntimeError("the context is gone")


@pytest.fixture
def bonds(monkeypatch: pytest.MonkeyPatch) -> list[Bond]:
    module = ModuleType("bondpy.bondpy")
    module.Bond = Bond  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bondpy", ModuleType("bondpy"))
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    Bond.made = []
    return Bond.made


def test_a_managed_node_has_a_bond_from_activate_to_deactivate(
    ros: Any, bonds: list[Bond], capfd: pytest.CaptureFixture[str]
) -> None:
    with served_node("bonded", autostart=False) as served:
        (bond,) = bonds
        assert (bond.topic, bond.id, bond.steps) == ("bond", "bonded", ["start 0.1 4"])
        bond.on_broken()
        assert "the bond with the lifecycle manager is broken" in capfd.readouterr().err
        served.node.trigger_deactivate()
        assert bond.steps[1:] == ["shutdown"]
        bond.on_broken()
        assert "broken" not in capfd.readouterr().err, "leaving is no news"
        served.node.trigger_activate()
        assert [made.steps for made in bonds[1:]] == [["start 0.1 4"]]
    assert [made.steps[-1] for made in bonds] == ["shutdown", "shutdown"]


def test_a_node_that_starts_by_itself_has_none(ros: Any, bonds: list[Bond]) -> None:
    with served_node("alone"):
        pass
    assert bonds == []


def test_without_bondpy_the_log_says_what_the_manager_needs(
    ros: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bondpy", None)
    with served_node("unbonded", autostart=False):
        pass
    assert "give the manager bond_timeout: 0.0" in capfd.readouterr().err
