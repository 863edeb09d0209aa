"""The tasks and arms of benchmarks/adaptation/adaptation.py: an arm is a recipe with a few values replaced."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hrda_core.bench.record import RESULTS, ROOT
from hrda_core.errors import DataError
from hrda_core.whole_files import whole_file

__all__ = [
    "ADABN",
    "ARMS",
    "DATA",
    "LONG_ARMS",
    "LONG_TASKS",
    "MAIN",
    "SHARED",
    "SHARED_FOLDER",
    "TASKS",
    "Start",
    "Task",
    "arm_recipe",
]

DATA = ROOT.parent / "shared" / "data"
"""Where the data lies beside developers' clones; recipes say `../shared/data`."""

_DATA_IN_RECIPES = "../shared/data"
_CAMVID = {"day": "CamVid day-val", "dusk": "CamVid dusk, last 20"}


@dataclass(frozen=True)
class Start:
    """The weights that every arm of a task starts from.

    Attributes:
        file: their place in the tree.
        commit: commit whose file is meant; empty = the file as it is in the tree.
        sha256: what that file must be; empty = any.
    """

    file: str = "models/hrda_lite_source/model.safetensors"
    commit: str = ""
    sha256: str = ""

    def path(self, folder: Path) -> Path:
        """Return the file, which is taken out of the history into `folder` where a commit is named.

        Raises:
            DataError: there is no such file, or it is another one.
        """
        path = ROOT / self.file
        if self.commit:
            path = folder / f"start_{self.commit}.safetensors"
            if not path.is_file():
                shown = subprocess.run(["git", "show", f"{self.commit}:{self.file}"], cwd=ROOT, capture_output=True)
                if shown.returncode:
                    raise DataError(
                        f"'{self.file}' of commit {self.commit}, from which this task starts, is not in the history "
                        f"here; run it in a full clone (git fetch --unshallow)"
                    )
                with whole_file(path) as part:
                    part.write_bytes(shown.stdout)
        if not path.is_file():
            raise DataError(f"weights '{path}' are not there; every arm starts from them: check out models/")
        found = _sha256(path)
        if self.sha256 and found != self.sha256:
            raise DataError(f"weights '{path}' have sha256 {found}, expected {self.sha256}; delete the file")
        return path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Task:
    """A source, a target, and the places where networks are scored.

    Attributes:
        recipe: name of the recipe in config/recipes, that of the arm `hrda`.
        result_file: where the scores of its arms are kept.
        start: weights that its arms start from.
        places: column of the table -> name of the validation set.
        labelled_target: whether the target's training images have labels, for the arm `target`.
        long: whether networks are also scored with BatchNorm statistics of the target, see `adaptation_run.py`.
    """

    recipe: str
    result_file: Path
    start: Start
    places: Mapping[str, str]
    labelled_target: bool = True
    long: bool = False

    def base(self) -> dict[str, Any]:
        """Return the recipe as its file says."""
        text = (ROOT / "config" / "recipes" / f"{self.recipe}.yaml").read_text(encoding="utf-8")
        values: dict[str, Any] = yaml.safe_load(text)
        return values

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms of the tables."""
        if not self.long:
            return MAIN
        return tuple(arm for arm in LONG_ARMS if arm != "target" or self.labelled_target)


_OLD_START = Start(commit="57f2274", sha256="36f6b87e0160900bdd4f4443a28e997a625cab9e576fa80980e7ded024814e80")
_OLD, _LONG = RESULTS / "adaptation.json", RESULTS / "adaptation_streets.json"
_THREE = _CAMVID | {"India": "India"}

TASKS: Mapping[str, Task] = {
    "synth2camvid": Task("synth2camvid_hrda_lite", _OLD, _OLD_START, _CAMVID),
    "day2dusk": Task("camvid_day2dusk_hrda_lite", _OLD, _OLD_START, _CAMVID),
    "streets2camvid": Task("streets2camvid_hrda_lite", _LONG, Start(), _THREE, long=True),
    "streets2india": Task("streets2india_hrda_lite", _LONG, Start(), _THREE, labelled_target=False, long=True),
}
"""The first two have 160 iterations on small crops, the others 2,000 on larger ones."""

LONG_TASKS = tuple(name for name, task in TASKS.items() if task.long)

_SUPERVISED: dict[str, Any] = {"method": "supervised", "target": None, "average": 0.0}
_APPEARANCE = {
    "photometric": True, "gamma": 2.0, "darken": 0.25, "colour_cast": 0.25, "grey": 0.1, "blur": 1.5, "noise": 12.0,
}  # fmt: skip
_BN_TRAIN: dict[str, Any] = {"model": {"freeze_encoder_norm": False}}
_MIC = {"self_training": {"mic": {"block": 32}}}
_SINGLE_SCALE: dict[str, Any] = {"model": {"overrides": {"hrda": False}}}

_ENLARGED = (640, 480)
"""Largest width and height of target images in the arms `_large`, 4/3 of the others. The sides of HRDA's crop are 1.5
times as long there. Its context at half size and its detail crop have 98,304 pixels together; DAFormer's crop, at full
size, has 90,112: the same memory. So HRDA sees most of an image where DAFormer can afford a third of it."""

_LARGE: dict[str, Any] = {
    "target": {"resize": list(_ENLARGED), "scale_min": 0.85},
    "crop": {"scale_min": 0.8, "scale_max": 1.45},
}

ARMS: Mapping[str, Mapping[str, Any]] = {
    "start": _SUPERVISED | {"iterations": 1},  # is not trained, see `adaptation_run.py`
    "source": _SUPERVISED,
    "source_photometric": _SUPERVISED | {"appearance": _APPEARANCE},
    "source_equal_time": _SUPERVISED | {"iterations": 3.5},
    "source_bn_train": _SUPERVISED | _BN_TRAIN,
    "source_photometric_bn_train": _SUPERVISED | _BN_TRAIN | {"appearance": _APPEARANCE},
    "dg": {"method": "domain_generalization", "target": None, "appearance": {"photometric": True}},
    "daformer": _SINGLE_SCALE,
    "hrda": {},
    "hrda_bn_train": _BN_TRAIN,
    "hrda_mic": _MIC,
    "hrda_photometric": {"appearance": _APPEARANCE},
    "hrda_large": {
        **_LARGE,
        "model": {"overrides": {"detail_crop": [192, 256]}},
        "crop": {**_LARGE["crop"], "height": 384, "width": 512},
    },
    "daformer_large": {**_LARGE, **_SINGLE_SCALE},
    "target": _SUPERVISED,
    # Ablations of `hrda`.
    "no_rcs": {"source": {"rcs_temperature": 0}},
    "no_fd": {"feature_distance": {"weight": 0}},
    "no_warmup": {"optim": {"warmup": 0}},
    "no_attention": {"model": {"overrides": {"fixed_attention": 0.5}}},
    "no_detail_loss": {"loss": {"detail": 0}},
}
"""Arm -> what it replaces in the recipe. `iterations` as a float is a factor."""

ADABN: Mapping[str, tuple[str, bool]] = {
    "source_adabn": ("source", False),
    "source_photometric_adabn": ("source_photometric", False),
    "source_decoder_adabn": ("source", True),
    "source_photometric_decoder_adabn": ("source_photometric", True),
    "source_bn_train_adabn": ("source_bn_train", False),
    "source_photometric_bn_train_adabn": ("source_photometric_bn_train", False),
}
"""Arms of the short tasks without training: BatchNorm statistics of another arm's network, measured again on 48 target
images; True = of the decoder alone. In the long tasks every network of every arm is scored in this way too."""

MAIN = (
    "source", "source_photometric", "source_bn_train", "source_photometric_bn_train", *ADABN, "source_equal_time",
    "hrda", "daformer", "hrda_mic", "dg", "target",
)  # fmt: skip

LONG_ARMS = (
    "start", "source", "source_photometric", "daformer", "hrda", "hrda_mic", "dg", "target", "hrda_large",
    "daformer_large",
)  # fmt: skip


SHARED = tuple(arm for arm in LONG_ARMS if arm != "target" and "target" in ARMS[arm] and ARMS[arm]["target"] is None)
"""Arms that never see a target, so that the long tasks, whose source is the same, have them in common."""

SHARED_FOLDER = "streets"


def arm_recipe(
    task: str, arm: str, seed: int, start: Path, *, runtime: Mapping[str, Any] | None = None, data: Path = DATA
) -> dict[str, Any]:
    """Return the recipe of an arm as plain values.

    Args:
        start: weights that it starts from.
        runtime: the section `runtime`; None = one CPU thread.
        data: folder that the recipes call `../shared/data`.
    """
    found, base = TASKS[task], TASKS[task].base()
    target = base["target"]
    name = SHARED_FOLDER if found.long and arm in SHARED else task
    recipe = _merged(base, ARMS[arm]) | {"name": f"{name}_{arm}", "seed": seed}
    if name == SHARED_FOLDER:
        recipe["limits"] = "Trained on rendered images only."
    if isinstance(recipe["iterations"], float):
        recipe["iterations"] = round(recipe["iterations"] * base["iterations"])
    if arm == "target":
        labels = target["path"].replace("/images", "/labels")
        first = {**sources(recipe)[0], "name": "CamVid, labels used", "images": target["path"], "labels": labels}
        recipe["source"] = {**first, "names": target["names"], "rcs_min_pixels": 250, "share": 1}
        recipe["crop"] |= {"scale_min": target["scale_min"], "scale_max": target["scale_max"]}
    if recipe["model"]["overrides"].get("hrda") is False:
        recipe["validation"] = [{**entry, "plan": "whole"} for entry in recipe["validation"]]
    if arm.endswith("_large"):
        recipe["validation"] = [{**entry, "resize": list(_ENLARGED)} for entry in recipe["validation"]]
    recipe["runtime"] = dict(runtime or {"threads": 1})
    if found.long or found.start.commit:
        recipe["model"]["weights"] = _in_tree(start)
    moved: dict[str, Any] = _moved(recipe, data)
    return moved


def sources(recipe: Mapping[str, Any]) -> list[Any]:
    """Return the sources of a recipe, one or several."""
    found = recipe["source"]
    return list(found) if isinstance(found, list) else [found]


def _in_tree(path: Path) -> str:
    """A run folder may then be taken along to another clone."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        if isinstance(value, Mapping) and isinstance(inner, list):  # each of several sources
            merged[key] = [_merged(entry, value) for entry in inner]
        else:
            merged[key] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def _moved(value: Any, data: Path) -> Any:
    """The recipe with another folder of the data."""
    if isinstance(value, Mapping):
        return {key: _moved(entry, data) for key, entry in value.items()}
    if isinstance(value, list):
        return [_moved(entry, data) for entry in value]
    if isinstance(value, str) and value.startswith(f"{_DATA_IN_RECIPES}/") and data.resolve() != DATA.resolve():
        return str(data.resolve() / value.removeprefix(f"{_DATA_IN_RECIPES}/"))
    return value
