"""Reading foreign files: every format, every kind of damage, and no code of the file is ever run."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_checkpoints import container, same
from safetensors.torch import save
from torch import nn

from hrda_core.errors import CheckpointError
from hrda_core.interop import read_checkpoint
from hrda_core.interop.safe_load import is_dangerous

STATE = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), counter=torch.tensor(3))


class Trap:
    """An object whose pickle runs a command; the command leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "payload",
    [
        STATE,
        {"state_dict": STATE},
        {"model": STATE, "epoch": 3},
        container(STATE, CLASSES=("road", "sky")),
        OrderedDict((f"module.{name}", value) for name, value in STATE.items()),
    ],
    ids=["bare", "state_dict", "model", "mmcv", "data-parallel"],
)
def test_pytorch_files_are_read(tmp_path: Path, payload: object, zipped: bool) -> None:
    torch.save(payload, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert checkpoint.name == "a.pth"
    assert same(checkpoint.tensors, STATE)
    assert checkpoint.classes == (("road", "sky") if "meta" in payload else ())  # type: ignore[operator]


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors_files_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(save(dict(STATE), {"classes": '["road", "sky"]'}))
    checkpoint = read_checkpoint(tmp_path / name)
    assert same(checkpoint.tensors, STATE)
    assert checkpoint.classes == ("road", "sky")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_the_code_did_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "the_code_ran"
    for payload in (container(STATE, hook=Trap(mark)), {"state_dict": STATE, "x": [Trap(mark)]}, Trap(mark)):
        torch.save(payload, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=r"asks to run 'posix.system'.*do not use this file"):
            read_checkpoint(tmp_path / "a.pth")
    assert not mark.exists()


def test_a_file_with_metadata_of_other_libraries_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    file = tmp_path / "iter_40000.pth"
    torch.save(container(STATE, mIoU=np.float64(0.738)), file)
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(file)
    command = f"hrda import --convert-trusted {file} --out {tmp_path / 'iter_40000.safetensors'}"
    assert str(refusal.value).endswith(command)
    assert "multiarray.scalar" in str(refusal.value)


def _text(path: Path) -> None:
    path.write_text("<!DOCTYPE html>\n<title>Google Drive - Quota exceeded</title>")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")


def _torchscript(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/data.pkl", "a/constants.pkl", "a/code/__torch__.py"):
            archive.writestr(name, b"")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "is not a file"),
        (lambda p: p.mkdir(), "is not a file"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (_text, r"text file that begins with '<!DOCTYPE html>'.*download it again"),
        (lambda p: p.write_bytes(bytes(range(200, 256)) * 9), "neither a PyTorch nor a safetensors file"),
        (_zip, "not a PyTorch file"),
        (_torchscript, "TorchScript"),
        (lambda p: torch.save([1, 2], p), "holds no weights"),
        (lambda p: torch.save({}, p), "holds no weights"),
        (lambda p: torch.save({"state_dict": {"a": torch.ones(1), "b": "text"}}, p), r"no tensors \(b\)"),
        (lambda p: torch.save(nn.Linear(1, 1), p), "--convert-trusted"),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    path = tmp_path / "a.pth"
    make(path)
    with pytest.raises(CheckpointError, match=message) as refusal:
        read_checkpoint(path)
    assert "\n" not in str(refusal.value)
    assert str(path.name) in str(refusal.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    if kind == "safetensors":
        path.write_bytes(save(dict(STATE)))
    else:
        torch.save(container(STATE), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for length in [*range(40), *range(40, len(whole) - 1, 13), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"empty|cut off or damaged|neither|text file"):
            read_checkpoint(path)


def test_a_damaged_byte_never_ends_in_another_kind_of_error(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(container(STATE), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for position in range(2, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017  # some flips change a value only and are not seen


@pytest.mark.parametrize(
    ("name", "dangerous"),
    [
        ("posix.system", True), ("builtins.eval", True), ("__builtin__.getattr", True), ("subprocess.Popen", True),
        ("os.path.join", True), ("builtins.set", False), ("numpy.dtype", False), ("mmcv.ConfigDict", False),
    ],
)  # fmt: skip
def test_names_that_run_code_are_told_from_metadata(name: str, dangerous: bool) -> None:
    assert is_dangerous(name) is dangerous
