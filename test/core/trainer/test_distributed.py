"""Two processes of two images each train as one process with all four."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import torchrun
from street_images import write_street_images
from tiny_network import TINY

ITERATIONS = 12

TOLERANCE = 1e-9
"""Relative. The largest difference of any loss was 1e-14: ten seeds, each with other images, on four sets of processor
instructions (AVX-512, AVX2, AVX, SSE), half of them over 20 steps."""


def _write_recipe(folder: Path) -> Path:
    images, labels = write_street_images(folder / "data", count=6)
    recipe = {
        "name": "tiny",
        "method": "self_training",
        "source": {"name": "made up", "images": str(images), "labels": str(labels), "rcs_min_pixels": 100},
        "target": {"name": "made up", "path": str(images)},
        "model": {"overrides": TINY, "imagenet": False, "allow_random_backbone": True},
        "self_training": {"threshold": 0.053, "mic": {"block": 16}},
        "feature_distance": {"things_only": False},
        "crop": {"height": 64, "width": 64},
        "optim": {"warmup": 2},
        "iterations": ITERATIONS,
        # The deepest map has one cell an image. BatchNorm makes +1 and -1 of two values, whatever they are: gradients
        # are 0 but for round-off, AdamW turns that into whole steps, and 20 steps made 5e-6 of 1e-16. So four images.
        "batch_size": 4,
        "runtime": {"precision": "fp64", "device": "cpu", "threads": 1},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def _log(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["losses"] | {"pseudo_weight": line["metrics"]["pseudo_weight"]} for line in lines]


@pytest.mark.timeout(400)
def test_two_processes_equal_one_with_the_same_global_batch(tmp_path: Path, repository: Path) -> None:
    recipe = _write_recipe(tmp_path)
    script = str(repository / "test" / "support" / "train_process.py")
    torchrun(2, [script, str(recipe), str(tmp_path / "two")])
    subprocess.run([sys.executable, script, str(recipe), str(tmp_path / "one")], check=True, capture_output=True)
    one, two = _log(tmp_path / "one"), _log(tmp_path / "two")
    assert len(one) == len(two) == ITERATIONS
    assert any(0 < step["pseudo_weight"] < 1 for step in one)
    assert any(step["feature_distance"] > 0 for step in one)
    for step, (alone, together) in enumerate(zip(one, two, strict=True)):
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            assert together[name] == pytest.approx(value, rel=TOLERANCE, abs=0), f"step {step}, {name}"
