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
from hrda_core.whole_files import write_json

from .arguments import parse_request

__all__ = ["HEIGHT", "WIDTH", "ModelsRequest", "count", "default_plan", "list_bundles", "main"]

HEIGHT, WIDTH = 1080, 1920

_SIDE = 1024
"""Pixels of the papers' training crops."""


@dataclass(frozen=True)
class ModelsRequest:
    """The presets to list or to describe.

    Attributes:
        name: preset to describe; without it all are listed
        overrides: --overrides.KEY VALUE replaces a value
        classes: number of classes, for one preset
        count: true = count all presets again, which takes up to two minutes
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


def count(model: Any, plan: str) -> tuple[int, float]:
    """Return the parameters, and the GFLOP of one image of `HEIGHT` x `WIDTH` under a window plan."""
    from hrda_core.windows.flops import plan_flops

    return sum(p.numel() for p in model.parameters()), round(plan_flops(model, plan, HEIGHT, WIDTH).giga, 1)


def default_plan(hrda: bool) -> str:
    """Return the window plan of the listed cost: disjoint tiles for HRDA, the whole image for other networks."""
    return "tiles" if hrda else "whole"


def _list(recount: bool) -> dict[str, Any]:
    from hrda_core.models import PRESETS, list_presets
    from hrda_core.models.preset_costs import PRESET_COSTS

    rows = {}
    print(f"{'':<34}{'encoder':<28}{'decoder':<28}{'M param':>8}{'GFLOP':>9}  plan at {HEIGHT} x {WIDTH}")
    for name in list_presets():
        config, plan = PRESETS[name], default_plan(PRESETS[name].hrda)
        parameters, giga = count(_without_data(name), plan) if recount else PRESET_COSTS[name]
        decoder = config.decoder + (f" {config.fusion}" if config.decoder == "daformer" else "")
        print(f"{name:<34}{config.encoder:<28}{decoder:<28}{parameters / 1e6:8.2f}{giga:9.1f}  {plan}")
        rows[name] = {
            "encoder": config.encoder,
            "decoder": config.decoder,
            "hrda": config.hrda,
            "parameters": parameters,
            "plan": plan,
            "gflop": giga,
        }
    return {"image": [HEIGHT, WIDTH], "presets": rows, "bundles": list_bundles()}


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
    trained, memory = _training(model, config)
    print("parameters: " + ", ".join(f"{part} {number:,}" for part, number in parts.items()) + f", in all {total:,}")
    print(f"tuning {config.tuning}: {trained:,} parameters learn")
    print(f"memory of a supervised step, two crops of {_SIDE} x {_SIDE}, AdamW, fp32: {memory:.1f} GB (counted)")
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
        "trained_parameters": trained,
        "training_gb": memory,
        "image": [HEIGHT, WIDTH],
        "gflop": costs,
    }


def _training(model: Any, config: Any) -> tuple[int, float]:
    """Parameters that learn, and GB of a supervised step."""
    from hrda_core.trainer.gpu_estimate import training_bytes
    from hrda_core.trainer.plain_vits import rest_encoder

    rest_encoder(model, config.tuning)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    side = max(_SIDE, *config.detail_crop)
    return trained, round(training_bytes(model, 2, (side, side)) / 1e9, 1)


def _without_data(name: str, classes: int = 19, **overrides: Any) -> Any:
    import torch

    from hrda_core.models import create_model

    with torch.device("meta"):
        return create_model(name, classes, **overrides).eval()
