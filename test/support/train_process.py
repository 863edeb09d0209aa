"""One process of test_distributed.py, started by torchrun or alone: a short run of a recipe file."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser

from hrda_core.trainer.loop import fit
from hrda_core.trainer.recipe import Recipe


def main(recipe_file: str, run: str) -> None:
    """Train as the file says; dropout is off, since its masks belong to a process."""
    torch.set_num_threads(1)
    torch.nn.Dropout2d.forward = lambda self, x: x  # type: ignore[method-assign,assignment]
    parser = ArgumentParser()
    parser.add_class_arguments(Recipe)
    values = yaml.safe_load(Path(recipe_file).read_text(encoding="utf-8"))
    recipe = parser.instantiate(parser.parse_object(values))
    fit(Recipe(**vars(recipe)), Path(run))


if __name__ == "__main__":
    main(*sys.argv[1:])
