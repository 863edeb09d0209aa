"""Checkpoints: whole or not at all, and nothing in them runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_network import TINY
from torch import nn

from hrda_core.errors import DataError
from hrda_core.models import create_model
from hrda_core.trainer.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from hrda_core.trainer.guide import load_guide
from hrda_core.trainer.recipe import ModelConfig
from hrda_core.trainer.start_weights import load_start
from hrda_core.uda.distillation import GuideConfig


def _stepped() -> tuple[nn.Linear, torch.optim.AdamW]:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(2):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return layer, optimizer


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    tensors = {
        "student/w": torch.randn(2, 3),
        "student/count": torch.tensor(3),
        "generator/torch": torch.get_rng_state(),
    }
    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(tensors, {"iteration": 7, "recipe": {"name": "x"}}))
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert found.values == {"iteration": 7, "recipe": {"name": "x"}}
    assert set(found.below("student")) == {"w", "count"}
    assert all(torch.equal(found.tensors[name], value) for name, value in tensors.items())


def test_tensors_that_share_memory_are_saved_for_each_name(tmp_path: Path) -> None:
    shared = torch.randn(4, 4)
    tensors = {"student/w": shared, "teacher/w": shared, "teacher/row": shared[1], "student/turned": shared.T}
    save_checkpoint(tmp_path / "c", Checkpoint(tensors, {}))
    found = load_checkpoint(tmp_path / "c").tensors
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_an_optimiser_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    layer, optimizer = _stepped()
    save_checkpoint(tmp_path / "c", Checkpoint(optimizer_tensors(optimizer, layer, "optimizer"), {}))
    other = nn.Linear(3, 2)
    other.load_state_dict(layer.state_dict())
    again = torch.optim.AdamW(other.parameters(), lr=0.1)
    restore_optimizer(again, other, load_checkpoint(tmp_path / "c").below("optimizer"))
    for network, one in ((layer, optimizer), (other, again)):
        one.zero_grad()
        network(torch.full((1, 3), 2.0)).sum().backward()
        one.step()
    assert torch.equal(layer.weight, other.weight)


def test_c4_a_full_disk_keeps_the_old_checkpoint_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, Checkpoint({"a": torch.ones(1)}, {"iteration": 1}))

    def full(_: object, part: Path, *__: object) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hrda_core.trainer.checkpoint.save_file", full)
    with pytest.raises(DataError, match=r"No space left.*previous one is kept"):
        save_checkpoint(path, Checkpoint({"a": torch.zeros(1)}, {"iteration": 2}))
    assert load_checkpoint(path).values["iteration"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_folder_that_cannot_be_written_is_one_sentence() -> None:
    with pytest.raises(DataError, match="cannot be written"):
        save_checkpoint(Path("/dev/full/c.safetensors"), Checkpoint({"a": torch.ones(1)}, {}))


_SAVE_FOR_EVER = """
import sys, torch
from pathlib import Path
from hrda_core.trainer.checkpoint import Checkpoint, save_checkpoint
for iteration in range(1000000):
    tensors = {str(k): torch.full((50000,), float(iteration)) for k in range(8)}
    save_checkpoint(Path(sys.argv[1]), Checkpoint(tensors, {"iteration": iteration}))
    print(iteration, flush=True)
"""


@pytest.mark.parametrize("after", [0, 3, 11, 17])
def test_c3_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, after: int) -> None:
    path = tmp_path / "c.safetensors"
    child = subprocess.Popen([sys.executable, "-c", _SAVE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    written = -1
    while written < after:
        written = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    found = load_checkpoint(path)
    assert found.values["iteration"] >= after
    assert all((value == found.values["iteration"]).all() for value in found.tensors.values())


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "text"])
def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, Checkpoint({"a": torch.ones(100)}, {"iteration": 1}))
    if damage == "other":
        save_file({"a": torch.ones(1)}, path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-40], "empty": b"", "text": b"no tensors"}[damage])
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"c\.safetensors"):
        load_checkpoint(path)
    assert path.read_bytes() == before


def test_a_pipe_in_the_place_of_weights_is_one_sentence_and_nothing_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    os.mkfifo(path)
    model = create_model("hrda_lite", **TINY)
    readers: list[Callable[[], object]] = [
        lambda: load_checkpoint(path),
        lambda: load_start(model, ModelConfig(weights=path, overrides=TINY), 19),
        lambda: load_guide(GuideConfig("larger", path, overrides=TINY), 19),
    ]
    for read in readers:
        with pytest.raises(DataError, match="it is not a file"):
            read()


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_checkpoint(tmp_path / "absent")
