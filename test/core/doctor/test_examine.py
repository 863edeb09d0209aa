"""A check that raises is a finding, and what stands on broken libraries is not looked at."""

from __future__ import annotations

import pytest

from hrda_core.doctor import examine as module
from hrda_core.doctor.examine import examine, guarded
from hrda_core.findings import fail, ok


def test_a_check_that_raises_is_a_finding_and_the_others_go_on() -> None:
    (found,) = guarded("disk", lambda: [][0])
    assert found.state == "fail"
    assert "IndexError" in found.text
    assert guarded("disk", lambda: None) == []
    assert guarded("disk", lambda: ok("disk", "x")) == guarded("disk", lambda: [ok("disk", "x")])


def test_models_are_not_opened_where_numpy_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_libraries_together", lambda: fail("numpy, OpenCV", "broken", "mend it"))
    for name in ("check_onnx_runtime", "check_tensorrt", "check_gpu"):
        monkeypatch.setattr(module, name, lambda driver: None)
    parts = dict(examine())
    assert [found.advice for found in parts["models"]] == ["mend that first, and run hrda doctor again"]
    assert parts["machine"] == []
