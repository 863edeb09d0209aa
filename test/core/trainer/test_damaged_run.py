"""A run folder whose files were damaged between two parts of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.errors import DataError
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.recipe import ModelConfig, Recipe
from hrda_core.trainer.recipe_data import SourceConfig


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    images, labels = write_street_images(tmp_path / "data", count=2)
    source = SourceConfig("made up", images=images, labels=labels, rcs_temperature=0)
    model = ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True)
    return Recipe(name="tiny", source=source, model=model, crop=CropConfig(64, 64), iterations=4)


def _stop_after(steps: int) -> Watch:
    calls = iter(range(1000))
    return Watch(should_stop=lambda: next(calls) + 1 >= steps)


def _other_values(**changes: Any) -> Callable[[Checkpoint], Checkpoint]:
    return lambda saved: Checkpoint(saved.tensors, {**saved.values, **changes})


def _other_tensors(changes: dict[str, Any]) -> Callable[[Checkpoint], Checkpoint]:
    def change(saved: Checkpoint) -> Checkpoint:
        tensors = {**saved.tensors, **changes}
        return Checkpoint({name: value for name, value in tensors.items() if value is not None}, saved.values)

    return change


MOMENT = "optimizer/decode_head.head.conv_seg.bias/exp_avg"


DAMAGES: dict[str, Callable[[Checkpoint], Checkpoint]] = {
    "no values": lambda saved: Checkpoint(saved.tensors, {}),
    "a list of values": lambda saved: Checkpoint(saved.tensors, [1]),  # type: ignore[arg-type]
    "no recipe": _other_values(recipe=None),
    "a list as recipe": _other_values(recipe=[]),
    "an iteration of letters": _other_values(iteration="x"),
    "no iteration": _other_values(iteration=None),
    "a negative iteration": _other_values(iteration=-1),
    "an iteration beyond the end": _other_values(iteration=10**6),
    "a moment of another shape": _other_tensors({MOMENT: torch.ones(1, 1)}),
    "a moment of nothing": _other_tensors({"optimizer/nothing/exp_avg": torch.ones(1)}),
    "no generator": _other_tensors({"generator/torch": None}),
    "a generator of another size": _other_tensors({"generator/torch": torch.ones(3)}),
}


def test_f5_a_checkpoint_with_damaged_content_is_one_sentence_and_stays(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run", watch=_stop_after(1))
    path = tmp_path / "run" / CHECKPOINT_NAME
    saved = load_checkpoint(path)
    assert MOMENT in saved.tensors
    for name, damage in DAMAGES.items():
        save_checkpoint(path, damage(saved))
        damaged = path.read_bytes()
        with pytest.raises(DataError, match=r"checkpoint .*damaged.*(another run folder|a new run)"):
            fit(recipe, tmp_path / "run", resume=True)
        assert path.read_bytes() == damaged, name


def test_f5_log_lines_that_are_no_text_or_no_step_go_when_a_run_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run", watch=_stop_after(2))
    for name in ("log.jsonl", "evaluations.jsonl"):
        with (tmp_path / "run" / name).open("ab") as file:
            file.write(b'{"iteration": Infinity}\n{"iteration": 9, "name": "\xff\n')
    fit(recipe, tmp_path / "run", resume=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, recipe.iterations + 1))
