"""docs/robot/commands.md says what each verb needs: each runs with that alone, and misses it in one sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrda_core.errors import PACKAGES
from hrda_training.__main__ import VERBS

pytestmark = pytest.mark.timeout(120)
for _name in ("jsonargparse", "onnxruntime", "rosbags", "PIL"):
    pytest.importorskip(_name)

REPOSITORY = Path(__file__).resolve().parents[2]
WATCHED = REPOSITORY / "test" / "support" / "watched_command.py"
IMPORTED_AS = {package: name for name, (package, _) in PACKAGES.items()} | {"tqdm": "tqdm"}
NODE = {"cv2", "numpy", "yaml"}
"""What the node needs in any case, beside ONNX Runtime."""

HEAVY = {"torch", "torchvision", "timm", "lightning_fabric", "matplotlib", "jinja2", "safetensors", "tensorboard"}
"""What no verb of the upper rows may ask for."""


@dataclass(frozen=True)
class Row:
    """A row of the table: verb and how it is called, packages by their import names."""

    what: str
    needs: frozenset[str]
    used: frozenset[str]

    @property
    def verb(self) -> str:
        return re.findall(r"`([\w-]+)", self.what)[0]


def rows() -> list[Row]:
    table = (REPOSITORY / "docs" / "robot" / "commands.md").read_text(encoding="utf-8").split("## What is needed")[1]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n## ")[0].splitlines()]
    found = [row for row in cells if len(row) == 4 and row[0].startswith("`")]
    return [Row(what, _names(needs), _names(used)) for what, needs, used, _ in found]


def _names(cell: str) -> frozenset[str]:
    return frozenset(IMPORTED_AS.get(name.strip(), name.strip()) for name in cell.split(",") if name.strip())


ROWS = {row.what: row for row in rows()}
COMMANDS = {
    "`models`": "models",
    "`bag info`": "bag info BAG",
    "`predict` on images, videos": "predict IMAGES --model hrda_lite --out OUT/masks",
    "`predict` on recordings": "predict BAG --model hrda_lite --out OUT/masks",
    "`evaluate` of a bundle": "evaluate --bundle hrda_lite --images IMAGES --labels LABELS",
    "`bench`": "bench hrda_lite --size 64x64 --frames 1 --warm_up 1 --layers 0",
}
"""How the rows are called here, with the model that ships."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from made_bag import write_made_bag

    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(4):
        image = rng.integers(0, 255, (64, 96, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
        cv2.imwrite(str(folder / "labels" / f"{number}.png"), np.full((64, 96), number, np.uint8))
    write_made_bag(folder / "bag", (rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(3)))
    return folder


def call(command: str, data: Path, out: Path, blocked: set[str]) -> subprocess.CompletedProcess[str]:
    places = {"BAG": data / "bag", "IMAGES": data / "images", "LABELS": data / "labels", "DATA": data, "OUT": out}
    words = [re.sub(r"^[A-Z]+", lambda found: str(places[found[0]]), word) for word in command.split()]
    program = [sys.executable, str(WATCHED), str(out / "imported.json"), ",".join(sorted(blocked)), *words]
    environment = {name: value for name, value in os.environ.items() if name != "AMENT_PREFIX_PATH"}
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=out, env=environment)


def test_every_verb_is_in_the_table() -> None:
    named = {name.split()[0] for row in ROWS for name in re.findall(r"`([a-z][\w -]*)`", row)}
    assert named == set(VERBS)


@pytest.mark.parametrize("what", COMMANDS)
def test_a_verb_runs_with_the_packages_of_its_row_and_asks_for_them_all(what: str, data: Path, tmp_path: Path) -> None:
    wanted = ROWS[what].needs | (ROWS[what].used - {"tqdm"})
    done = call(COMMANDS[what], data, tmp_path, (HEAVY | set(IMPORTED_AS.values())) - wanted - NODE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(json.loads((tmp_path / "imported.json").read_text())) - NODE == wanted


def test_bench_gives_times_without_onnx(data: Path, tmp_path: Path) -> None:
    done = call(f"{COMMANDS['`bench`']} --json OUT/record.json", data, tmp_path, HEAVY | {"onnx"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "times alone, without cost, roofline and layers: the Python package 'onnx' is not installed" in done.stderr
    figures = json.loads((tmp_path / "record.json").read_text())["figures"]
    assert set(figures) == {"latency", "memory"}


@pytest.mark.parametrize(
    ("what", "package"), [(what, package) for what in COMMANDS for package in sorted(ROWS[what].needs)]
)
def test_a_verb_that_misses_a_package_says_which_and_how_to_get_it(
    what: str, package: str, data: Path, tmp_path: Path
) -> None:
    done = call(COMMANDS[what], data, tmp_path, {package})
    assert done.returncode == 2, done.stdout + done.stderr
    *_, sentence = done.stderr.strip().splitlines()
    name = PACKAGES[package][0]
    assert f"the Python package '{name}' is needed here" in sentence
    assert f"pip install {name}" in sentence
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_what_a_page_or_a_picture_needs_is_asked_for_before_the_work(package: str, data: Path, tmp_path: Path) -> None:
    done = call("bag info BAG --out OUT/page.html", data, tmp_path, {package})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"pip install {package}" in done.stderr
    if package == "matplotlib":
        done = call(f"{COMMANDS['`evaluate` of a bundle']} --confusion OUT/a.png", data, tmp_path, {package})
        assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    "command",
    [
        "adapt --bag BAG --model hrda_lite --out OUT/out",
        "distill hrda_lite --out OUT/out --decoder_channels 8 --images IMAGES",
        "export hrda_lite --size 64x64 --out OUT/out",
        "import IMAGES/0.png --out OUT/out",
        "pack-source --source DATA --out OUT/out",
        "train recipe.yaml --run OUT/out",
    ],
)
def test_the_verbs_of_the_last_row_ask_for_the_extra_train(command: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("{}")
    done = call(command, data, tmp_path, HEAVY | {"onnx"})
    assert done.returncode == 2, done.stdout + done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert re.search(
        r"the Python package 'torch' is needed here .*; install it with: pip install -e '\.\[train\]'", sentence
    )
    assert not (tmp_path / "out").exists()
