"""`hrda models`: the list, one preset, JSON, and mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from tiny_bundle import write_tiny_bundle

from hrda_core.models import list_presets
from hrda_core.models.preset_costs import PRESET_COSTS, TUNED_COSTS
from hrda_core.trainer.gpu_estimate import estimate_gpu
from hrda_core.trainer.recipe import Recipe
from hrda_training import train
from hrda_training.__main__ import main


def test_the_list_has_every_preset_with_its_size_and_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["models", "--json", str(tmp_path / "models.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : lines.index("")]] == list_presets()
    shown = next(line for line in lines if line.startswith("hrda_mitb5 "))
    memory = PRESET_COSTS["hrda_mitb5"].training_gb
    figures = ["85.69", "85.69", f"{memory:.1f}", "2628.6"]
    assert shown.split() == ["hrda_mitb5", "mit_b5", "daformer", "sepaspp", *figures, "tiles"]
    rows = json.loads((tmp_path / "models.json").read_text())["presets"]
    assert list(rows) == list_presets()
    assert rows["hrda_mitb5"]["parameters"] == rows["hrda_mitb5"]["trained_parameters"] == 85_685_990
    assert {name: row["training_gb"] for name, row in rows.items()} == {
        name: cost.training_gb for name, cost in PRESET_COSTS.items()
    }


def test_the_list_has_the_tunings_of_a_plain_vit_with_what_learns_and_its_memory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["models", "--json", str(tmp_path / "models.json")]) == 0
    section = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [line.split()[:2] for line in section[1:]] == [list(key) for key in TUNED_COSTS]
    tuned = json.loads((tmp_path / "models.json").read_text())["tuned"]["hrda_dinov2_l"]
    full = PRESET_COSTS["hrda_dinov2_l"]
    learning = [tuned[tuning]["trained_parameters"] for tuning in ("frozen", "lora", "rein")]
    assert learning == sorted(learning)
    assert learning[-1] < 0.05 * full.trained_parameters
    assert all(row["training_gb"] < 0.8 * full.training_gb for row in tuned.values())


def test_the_documentation_has_the_same_table(repository: Path) -> None:
    text = (repository / "docs" / "research" / "networks.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    table = {row[0].strip("`"): tuple(row[3:]) for row in cells if len(row) == 6}
    assert table == {
        name: (f"{cost.parameters / 1e6:.2f}", f"{cost.training_gb:.1f}", f"{cost.gflop:.1f}")
        for name, cost in PRESET_COSTS.items()
    }
    tuned = {row[0].strip("`"): tuple(row[2:]) for row in cells[1:] if len(row) == 4}
    costs = {"full": PRESET_COSTS["hrda_dinov2_l"]}
    costs |= {tuning: cost for (name, tuning), cost in TUNED_COSTS.items() if name == "hrda_dinov2_l"}
    assert tuned == {
        tuning: (f"{cost.trained_parameters / 1e6:.2f} M", f"{cost.training_gb:.1f}") for tuning, cost in costs.items()
    }
    files = {row[2].strip("`") for row in cells if len(row) == 6}
    assert not [name for name in files if not (repository / "hrda_core" / "models" / name).is_file()]


def test_the_list_ends_with_your_bundles_and_the_installed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path))
    static = {"plan": "tiles", "file": "model.onnx", "size": [64, 128]}
    write_tiny_bundle(tmp_path / "mine", static_graphs=[static])
    (write_tiny_bundle(tmp_path / "broken") / "model.onnx").unlink()
    assert main(["models", "--json", str(tmp_path / "models.json")]) == 0
    shown = capsys.readouterr().out
    yours, installed = shown.split("\nyour models, in ")[1].split("\ninstalled models, in ")
    assert yours.splitlines()[0] == f"{tmp_path}:"
    assert re.search(r"^  mine +tiny, plans tiles, context; for one size tiles 64x128 fp32$", yours, re.M)
    assert re.search(r"^  broken +model bundle .*'model.onnx' is missing", yours, re.M)
    assert installed.splitlines()[0] == f"{repository / 'models'}:"
    assert re.search(r"^  hrda_lite +hrda_lite, plans tiles, context$", installed, re.M)
    rows = json.loads((tmp_path / "models.json").read_text())["bundles"]
    installed_ones = {"hrda_lite": False, "hrda_lite_camvid": False}
    assert {row["name"]: "error" in row for row in rows} == {"broken": True, "mine": False, **installed_ones}


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from hrda_training.__main__ import main; status = main(['models']); "
        "sys.exit(3 if 'torch' in sys.modules else status)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_one_preset_is_described_with_its_parts_and_plans(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    command = ["models", "hrda_mitb0", "--overrides.decoder_channels", "64", "--overrides.detail_crop", "[256, 384]"]
    assert main([*command, "--classes", "5", "--json", str(path)]) == 0
    shown, model = capsys.readouterr().out, json.loads(path.read_text())
    assert model["config"]["decoder_channels"] == 64
    assert model["config"]["detail_crop"] == [256, 384]
    assert model["parameters_by_part"]["backbone"] == 3_319_392
    assert model["parameters"] == sum(model["parameters_by_part"].values())
    assert model["gflop"]["context"] < model["gflop"]["tiles"] < model["gflop"]["overlap"] < model["gflop"]["nested"]
    for text in ("hrda_mitb0, 5 classes", "mit_b0", "scale_attention", "nested"):
        assert text in shown


def test_a_tuned_vit_is_described_with_what_learns_and_the_memory_of_a_step(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = []
    for tuning in ("full", "rein"):
        command = ["models", "hrda_dinov2_s", "--overrides.tuning", tuning, "--json", str(tmp_path / "model.json")]
        assert main(command) == 0
        found.append(json.loads((tmp_path / "model.json").read_text()))
    full, rein = found
    assert full["trained_parameters"] == full["parameters"] == 26_979_206
    # 12 blocks with 100 tokens of rank 16 and width 384, and two layers that they share
    assert rein["parameters"] - full["parameters"] == 12 * 16 * (100 + 384) + 2 * 384 * 385
    assert rein["trained_parameters"] < 0.25 * rein["parameters"]
    assert rein["training_gb"] < full["training_gb"]
    assert "tuning rein: " in capsys.readouterr().out


def test_the_memory_of_a_preset_is_what_the_check_of_a_recipe_estimates(tmp_path: Path, repository: Path) -> None:
    recipe: list[Recipe] = []
    with mock.patch.object(train, "estimate", lambda given, *_: recipe.append(given)):
        file = repository / "config" / "recipes" / "gta2cityscapes_hrda_mitb5.yaml"
        assert train.main([str(file), "--check", "--model.preset", "hrda_mitb0"]) == 0
    checked = estimate_gpu(recipe[0], 19)
    assert main(["models", "hrda_mitb0", "--json", str(tmp_path / "model.json")]) == 0
    found = json.loads((tmp_path / "model.json").read_text())
    assert f"  memory {found['training_gb']:.1f} GB: " in str(checked)
    assert found["training_gb"] == PRESET_COSTS["hrda_mitb0"].training_gb


def test_a_single_scale_network_has_the_plan_whole(tmp_path: Path) -> None:
    assert main(["models", "daformer_mitb0", "--json", str(tmp_path / "model.json")]) == 0
    assert json.loads((tmp_path / "model.json").read_text())["gflop"] == {"whole": 1058.6}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["hrda_mitb55"], "did you mean 'hrda_mitb5'"),
        (["hrda_mitb0", "--overrides.encoder", "mitb3"], "mit_b3"),
        (["hrda_mitb0", "--overrides.decoder_chanels", "8"], "decoder_channels"),
        (["hrda_mitb0", "--classes", "0"], "num_classes"),
        (["--overrides.encoder", "mit_b3"], "--overrides needs the name"),
    ],
)
def test_a_users_mistake_gives_exit_code_2_and_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *arguments]) == 2
    message = capsys.readouterr().err
    assert sentence in message
    assert "Traceback" not in message


def test_columns_of_the_list_do_not_run_together(capsys: pytest.CaptureFixture[str]) -> None:
    from hrda_core.models import PRESETS

    main(["models"])
    table = capsys.readouterr().out.partition("\n\n")[0]
    words = {line.split()[0]: line.split() for line in table.splitlines()}
    for name, config in PRESETS.items():
        assert words[name][1:3] == [config.encoder, config.decoder], name
