"""Converting in the open: tensors come through, everything else becomes a stand-in, code is refused and never runs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_checkpoints import container, same
from torch import nn

from hrda_core import interop
from hrda_core.errors import CheckpointError
from hrda_core.interop import convert_trusted, read_checkpoint, trusted_convert
from hrda_core.interop.restricted_unpickling import StandIn, load_restricted

BASE = torch.arange(12.0).reshape(3, 4)
STATE = OrderedDict(whole=BASE, part=BASE[1:], turned=BASE.t(), counter=torch.tensor(3))


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def _foreign_object(monkeypatch: pytest.MonkeyPatch) -> object:
    """An object of a module that exists while it is pickled and is gone afterwards, as mmcv's are on our machines."""
    module = types.ModuleType("mmcv_like")
    config = type("ConfigDict", (dict,), {"__module__": "mmcv_like"})
    module.ConfigDict = config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mmcv_like", module)
    return config(lr=6e-5, nested=config(a=1))


def test_weights_come_through_and_metadata_becomes_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {"mIoU": np.float64(0.738), "config": _foreign_object(monkeypatch), "CLASSES": ("road", "sky")}
    torch.save(container(STATE, **meta), tmp_path / "a.pth")
    monkeypatch.delitem(sys.modules, "mmcv_like")
    done = convert_trusted(tmp_path / "a.pth", tmp_path / "new" / "a.safetensors")
    assert done.tensors == len(STATE)
    assert "mmcv_like.ConfigDict" in done.stand_ins
    checkpoint = read_checkpoint(tmp_path / "new" / "a.safetensors")
    assert same(checkpoint.tensors, STATE)
    assert checkpoint.classes == ("road", "sky")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.safetensors"]
    (tmp_path / "usual").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "new/a.safetensors")]
    assert modes[0] == modes[1]


def test_p5_f1_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "the_code_ran"
    torch.save(container(STATE, hook=Trap(mark)), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"asks to run 'posix.system'.*nothing was written"):
        convert_trusted(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert not mark.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_a_damaged_file_is_one_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    torch.save(container(STATE), tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-300])
    with pytest.raises(CheckpointError, match="cannot be unpickled") as refusal:
        convert_trusted(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_c4_a_place_that_cannot_be_written_is_no_damage_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: Path, part: Path) -> dict[str, object]:
        return run_child(file, part.parent / "absent" / part.name)  # in place of a disk without room

    run_child = trusted_convert._run_child
    monkeypatch.setattr(trusted_convert, "_run_child", refused)
    torch.save(container(STATE), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a.safetensors' cannot be written \(.*No such file.*; nothing was"):
        convert_trusted(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_an_existing_file_another_suffix_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("mine")
    for source, out, message in (
        ("a.pth", "a.safetensors", "exists"),
        ("a.pth", "a.pt", "must end in .safetensors"),
        ("absent.pth", "b.safetensors", "is not a file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            convert_trusted(tmp_path / source, tmp_path / out)
    assert (tmp_path / "a.safetensors").read_text() == "mine"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_p5_f1_no_class_of_the_file_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    torch.save(
        container(STATE, x=_foreign_object(monkeypatch)), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped
    )
    monkeypatch.delitem(sys.modules, "mmcv_like")
    (tmp_path / "mmcv_like.py").write_text("raise SystemExit('the module of the file was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    payload, asked = load_restricted(tmp_path / "a.pth")
    assert asked == ["mmcv_like.ConfigDict"]
    assert isinstance(payload["meta"]["x"], StandIn)
    assert same(payload["state_dict"], STATE)


def test_p5_f1_parameters_come_through_and_code_in_their_hooks_does_not(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": nn.Parameter(torch.ones(2))}}, tmp_path / "a.pth")
    payload, asked = load_restricted(tmp_path / "a.pth")
    assert torch.equal(payload["state_dict"]["weight"], torch.ones(2))
    assert not asked


ATTEMPTS = """
import os, runpy, socket, subprocess, sys
mark, keep = sys.argv[2:]
runpy.run_path(sys.argv[1])["lock"]()
attempts = [
    lambda: os.system(f"touch {mark}"),
    lambda: subprocess.run(["touch", mark]),
    lambda: open(mark, "w"),
    lambda: open(mark, "ab"),
    lambda: os.open(mark, os.O_CREAT | os.O_WRONLY),
    lambda: socket.socket().connect(("127.0.0.1", 9)),
    lambda: os.remove(keep),
    lambda: os.rename(keep, mark),
    lambda: os.execv("/bin/touch", ["touch", mark]),
    lambda: os.fork(),
]
for number, attempt in enumerate(attempts):
    try:
        attempt()
    except PermissionError as error:
        assert "the file tried" in str(error)
    else:
        sys.exit(f"attempt {number} went through")
print(len(attempts), "stopped")
"""


def test_p5_f1_the_second_lock_holds(tmp_path: Path) -> None:
    mark, keep = tmp_path / "mark", tmp_path / "keep"
    keep.touch()
    lock = Path(interop.__file__).with_name("process_lock.py")
    command = [sys.executable, "-I", "-c", ATTEMPTS, str(lock), str(mark), str(keep)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout == "10 stopped\n", done.stderr
    assert not mark.exists()
    assert keep.exists()
