"""`hrda models`: the networks that `create_model` builds, with their cost, and the bundles on this machine.

    hrda models                                            all presets, and the bundles that a name can stand for
    hrda models hrda_mitb5                                 one preset: its values, the size of its parts, every plan
    hrda models hrda_mitb5 --overrides.encoder mit_b0      the same with values replaced
    hrda models --count true                               count all of them anew instead of reading the table

The list reads its figures from `hrda_core/models/preset_costs.py`, which a test compares with the networks; the other
forms count. Counting uses the meta device, which allocates no weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hrda_core.errors import RecipeError, require
from hrda_core.models.preset_costs import PresetCost
from hrda_core.whole_files import write_json

from .arguments import parse_request

__all__ = ["HEIGHT", "SIDE", "WIDTH", "ModelsRequest", "count", "default_plan", "list_bundles", "main"]

HEIGHT, WIDTH = 1080, 1920

SIDE = 1024
"""Pixels of the papers' training crops."""


@dataclass(frozen=True)
class ModelsRequest:
    """The presets to list or to describe.

    Attributes:
        name: preset to describe; without it all are listed
        overrides: --overrides.KEY VALUE replaces a value
        classes: number of classes, for one preset
        count: true = count all presets again, which takes some minutes
    """

    name: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    classes: int = 19
    count: bool | None = None

    def __post_init__(self) -> None:
        if self.overrides and not self.name:
            raise RecipeError("--overrides needs the name of the preset that they belong to")


def main(argv: list[str]) -> int:
    """Parse, list or describe, write JSON. Return the exit code."""
    request, json = parse_request(ModelsRequest, argv, verb="models", about=__doc__, positional="name")
    if request.name or request.count:
        require("torch", "train")
    result = _describe(request) if request.name else _list(bool(request.count))
    if json:
        write_json(json, result)
    return 0


def count(name: str, classes: int = 19, **overrides: Any) -> PresetCost:
    """Count a preset's parameters, the memory of its training, and the operations of its default plan."""
    from hrda_core.models import resolve_preset

    network = _without_data(name, classes, **overrides)
    return PresetCost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        trained_parameters=_learning(network, name, overrides),
        training_gb=_training_gb(name, classes, overrides),
        gflop=_giga(network, default_plan(resolve_preset(name, **overrides).hrda)),
    )


def default_plan(hrda: bool) -> str:
    """Return the window plan of the listed cost: disjoint tiles for HRDA, the whole image for other networks."""
    return "tiles" if hrda else "whole"


def _giga(network: Any, plan: str) -> float:
    from hrda_core.windows.flops import plan_flops

    return round(plan_flops(network, plan, HEIGHT, WIDTH).giga, 1)


def _learning(network: Any, name: str, overrides: dict[str, Any]) -> int:
    """Let rest what a training lets rest; returns the number of parameters that learn."""
    from hrda_core.trainer.recipe import ModelConfig
    from hrda_core.trainer.resting import rest_weights

    rest_weights(network, ModelConfig(name, overrides))
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _training_gb(name: str, classes: int, overrides: dict[str, Any]) -> float:
    """What `hrda train --check` estimates for DAFormer's and HRDA's self-training with two crops of `SIDE` pixels."""
    from hrda_core.data.augmentation.transforms import CropConfig
    from hrda_core.models import resolve_preset
    from hrda_core.trainer.gpu_estimate import estimate_gpu
    from hrda_core.trainer.recipe import ModelConfig, Recipe
    from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig
    from hrda_core.uda.feature_distance import FeatureDistanceConfig

    config = resolve_preset(name, **overrides)
    side = max(SIDE, *config.detail_crop)
    recipe = Recipe(
        name=name,
        method="self_training",
        source=SourceConfig("any"),
        target=TargetConfig("any", path=Path("any")),
        model=ModelConfig(name, overrides),
        crop=CropConfig(side, side),
        feature_distance=FeatureDistanceConfig(weight=0.0 if config.tuning == "frozen" else 0.005),
    )
    return round(estimate_gpu(recipe, classes).memory_gb, 1)


def _list(recount: bool) -> dict[str, Any]:
    return {
        "image": [HEIGHT, WIDTH],
        "crop": [SIDE, SIDE],
        "presets": _list_presets(recount),
        "tuned": _list_tuned(recount),
        "bundles": list_bundles(),
    }


def _list_presets(recount: bool) -> dict[str, Any]:
    from hrda_core.models import PRESETS, list_presets
    from hrda_core.models.preset_costs import PRESET_COSTS

    rows = {}
    head = f"{'M param':>8}{'M learn':>8}{'GB':>6}{'GFLOP':>9}  plan at {HEIGHT} x {WIDTH}"
    print(f"{'':<34}{'encoder':<28}{'decoder':<28}{head}")
    for name in list_presets():
        config = PRESETS[name]
        cost, plan = count(name) if recount else PRESET_COSTS[name], default_plan(config.hrda)
        decoder = config.decoder + (f" {config.fusion}" if config.decoder == "daformer" else "")
        print(f"{name:<34}{config.encoder:<28}{decoder:<28}{_figures(cost)}  {plan}")
        rows[name] = {"encoder": config.encoder, "decoder": config.decoder, "hrda": config.hrda, "plan": plan}
        rows[name] |= cost._asdict()
    return rows


def _list_tuned(recount: bool) -> dict[str, dict[str, Any]]:
    """Print what is left to learn of the presets of plain ViTs where the encoder's own weights rest."""
    from hrda_core.models.preset_costs import TUNED_COSTS

    rows: dict[str, dict[str, Any]] = {}
    print(f"\n{'a plain ViT tuned by --overrides.tuning':<90}{'M param':>8}{'M learn':>8}{'GB':>6}{'GFLOP':>9}")
    for (name, tuning), listed in TUNED_COSTS.items():
        cost = count(name, tuning=tuning) if recount else listed
        print(f"{name:<34}{tuning:<56}{_figures(cost)}")
        rows.setdefault(name, {})[tuning] = cost._asdict()
    print(f"\nGB: a GPU's memory for self-training with two crops of {SIDE} x {SIDE}, fp32; counted, not measured")
    return rows


def _figures(cost: PresetCost) -> str:
    return f"{cost.parameters / 1e6:8.2f}{cost.trained_parameters / 1e6:8.2f}{cost.training_gb:6.1f}{cost.gflop:9.1f}"


def list_bundles() -> list[dict[str, Any]]:
    """Print the bundles in the home of the user's models and among the installed ones; returns them as plain values."""
    from hrda_core.inference.bundle import MANIFEST_NAME
    from hrda_core.inference.model_folders import installed_folders, models_home

    home = models_home()
    places = dict.fromkeys(installed_folders(), "installed models")
    if home is not None:
        places = {home: "your models", **{folder: text for folder, text in places.items() if folder != home}}
    rows = []
    for folder, text in places.items():
        found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}"))
        print(f"\n{text}, in {folder}:" + ("" if found else " none"))
        rows += [_bundle_row(path) for path in found]
    return rows


def _bundle_row(path: Path) -> dict[str, Any]:
    """Print one line about a bundle, also about one that cannot be used."""
    from hrda_core.errors import BundleError
    from hrda_core.inference.bundle import Bundle

    try:
        bundle = Bundle.open(path, verify=False)
    except BundleError as error:
        print(f"  {path.name:<24}{error}")
        return {"name": path.name, "path": str(path), "error": str(error)}
    static = [f"{g.plan} {g.size[0]}x{g.size[1]} {g.precision}" for g in bundle.static_graphs if g.size]
    any_size = sorted(bundle.graphs, key=lambda plan: plan != bundle.default_plan)
    plans = f"plans {', '.join(any_size)}" + (f"; for one size {', '.join(static)}" if static else "")
    print(f"  {path.name:<24}{bundle.preset}, {plans}")
    graphs = {"plans": any_size, "static_graphs": static}
    return {"name": path.name, "path": str(path), "preset": bundle.preset, **graphs}


def _describe(request: ModelsRequest) -> dict[str, Any]:
    from hrda_core.models import resolve_preset
    from hrda_core.window_plan import HRDA_PLANS
    from hrda_core.windows.flops import FlopCounter

    name, classes, overrides = request.name, request.classes, request.overrides
    config = resolve_preset(name, **overrides)
    model = _without_data(name, classes, **overrides)
    print(f"{name}, {classes} classes")
    for key, value in asdict(config).items():
        print(f"  {key:<20}{value}")
    parts: dict[str, int] = {}
    for key, parameter in model.named_parameters():
        part = next((part for part in ("scale_attention", "decode_head") if part in key), "backbone")
        parts[part] = parts.get(part, 0) + parameter.numel()
    total = sum(parts.values())
    learning, memory = _learning(model, name, overrides), _training_gb(name, classes, overrides)
    print("parameters: " + ", ".join(f"{part} {number:,}" for part, number in parts.items()) + f", in all {total:,}")
    print(f"tuning {config.tuning}: {learning:,} parameters learn")
    print(f"self-training, two crops of {SIDE} x {SIDE}, fp32: {memory:.1f} GB of a GPU (counted, not measured)")
    flops = FlopCounter(model)
    plans = HRDA_PLANS if config.hrda else ("whole",)
    costs = {plan: round(flops(plan, HEIGHT, WIDTH).giga, 1) for plan in plans}
    print(f"GFLOP at {HEIGHT} x {WIDTH}: " + ", ".join(f"{plan} {giga}" for plan, giga in costs.items()))
    return {
        "preset": name,
        "classes": classes,
        "config": asdict(config),
        "stride": model.stride,
        "parameters": total,
        "parameters_by_part": parts,
        "trained_parameters": learning,
        "training_gb": memory,
        "image": [HEIGHT, WIDTH],
        "gflop": costs,
    }


def _without_data(name: str, classes: int = 19, **overrides: Any) -> Any:
    import torch

    from hrda_core.models import create_model

    with torch.device("meta"):
        return create_model(name, classes, **overrides).eval()
