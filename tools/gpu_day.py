"""A day on a machine with an NVIDIA GPU in one command: what only a GPU can show, in 25 minutes, without network.

    make gpu                                     # all steps; a second call goes on where the first ended
    python tools/gpu_day.py --name my_h200       # under a name of your own
    python tools/gpu_day.py --dry                # the same steps on the CPU, tiny: shows that the day would run

Writes benchmarks/results/gpu_NAME.json and gpu_NAME.md beside it. A step that fails, or takes longer than its time, is
recorded with its last lines. Ctrl-C ends the running step; call again to go on. `--again STEP` repeats steps.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from day_steps import State, Step, run_day

from hrda_core.bench.record import RESULTS, ROOT, record
from hrda_core.errors import HrdaError
from hrda_core.folder_locks import held_folder
from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import read_json, write_json, write_whole

DRY = "a dry day: "
PRESETS = {"hrda_lite": 120.0, "hrda_mitb0": 150.0, "hrda_mitb5": 210.0}
"""Presets that are timed, and the time for each, seconds."""

RECIPE = Path("config/recipes/hrda_lite.yaml")
DATA = ("synth_streets", "camvid", "boston_rear", "real_mix")
"""Folders of ../shared/data that the recipe reads."""


@dataclass(frozen=True)
class Day:
    """Where and how the steps run: `work` is the folder for what they leave, `dry` whether on the CPU and tiny."""

    work: Path
    dry: bool

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    @property
    def size(self) -> tuple[int, int]:
        return (128, 256) if self.dry else (1080, 1920)

    def file(self, name: str) -> Path:
        return self.work / f"{name}.json"

    def script(self, path: str, *arguments: object) -> list[str]:
        return [sys.executable, str(ROOT / path), *map(str, arguments)]

    def hrda(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "hrda_training", *map(str, arguments)]


def steps_of(day: Day) -> list[Step]:
    """Return the steps in order: first what says how far to trust the figures, last what takes all time left."""
    return [
        peaks(day),
        golden_parity(day),
        *plans(day),
        uda_step(day),
        onnxruntime(day),
        *tensorrt(day),
        node(day),
        training(day),
    ]


def peaks(day: Day) -> Step:
    out = day.file("peaks")
    tiny = ("--side", 256, "--repeats", 1) if day.dry else ()
    command = day.script("benchmarks/gpu/peaks.py", "--device", day.device, "--json", out, *tiny)
    return Step("peaks", "a large matrix product and a large copy", 60, [command], out)


def golden_parity(day: Day) -> Step:
    out = day.file("golden_parity")
    # A processor without bfloat16 emulates it, forty times slower.
    single = ("--precisions", "fp32") if day.dry else ()
    command = day.script("benchmarks/gpu/golden_parity.py", "--device", day.device, "--json", out, *single)

    def why_not() -> str:
        there = (ROOT / "test" / "golden").is_dir()
        return "" if there else "test/golden is not here: an installed package lacks it; use the source tree"

    about = "the network against the reference's values, " + ("fp32" if day.dry else "fp32 and bf16")
    return Step("golden_parity", about, 90, [command], out, why_not)


def plans(day: Day) -> Iterator[Step]:
    known = day.file("peaks")
    tiny = ("--frames", 1, "--plans", "overlap", "--precisions", "fp32") if day.dry else ()
    for preset, budget in PRESETS.items():
        name = f"plans_{preset}"
        out = day.file(name)
        options = ("--size", *day.size, "--peaks", known, "--bundles", day.work / "bundles", "--json", out, *tiny)
        command = day.script("benchmarks/gpu/torch_plans.py", preset, *options)
        about = f"PyTorch, all window plans of {preset}, {day.size[0]}x{day.size[1]}"

        def why_not(preset: str = preset) -> str:
            if day.dry and preset != "hrda_lite":
                return DRY + "the code is that of plans_hrda_lite"
            return "" if known.exists() else "the step 'peaks' has left no figures"

        yield Step(name, about, budget, [command], out, why_not)


def uda_step(day: Day) -> Step:
    out = day.file("uda_step")
    size = (
        ("--iterations", 1, "--crop", 64, 128, "--threads", 1) if day.dry else ("--iterations", 20, "--crop", 384, 512)
    )
    name = os.path.relpath(out.with_suffix(""), RESULTS)  # the script writes below benchmarks/results
    command = day.script("benchmarks/uda_step.py", "--device", day.device, "--bf16", *size, "--name", name)
    return Step("uda_step", "a training step in bf16 against the plain one: time and memory", 120, [command], out)


def onnxruntime(day: Day) -> Step:
    out = day.file("onnxruntime")
    size = f"{day.size[0]}x{day.size[1]}"
    backend, frames = ("onnx", 1) if day.dry else ("cuda", 50)
    options = ("--backend", backend, "--frames", frames, "--layers", 0, "--json", out)
    command = day.hrda("bench", ROOT / "models" / "hrda_lite", "--size", size, *options)
    return Step(
        "onnxruntime", f"ONNX Runtime on {day.device}, hrda_lite", 90, [command], out, lambda: _no_onnxruntime(day.dry)
    )


def tensorrt(day: Day) -> Iterator[Step]:
    for precision in ("fp32", "fp16", "int8"):
        name = f"tensorrt_{precision}"
        out, bundle = day.file(name), day.work / "bundles" / name
        # The search for the layers that int8 spoils runs on the CPU, and would take all day with large images.
        height, width = (480, 640) if precision == "int8" else day.size
        pictures = ("--calibration", ROOT / "packs" / "streets" / "images") if precision == "int8" else ()
        chosen = ("--size", f"{height}x{width}", "--precision", precision)
        commands = [
            day.hrda("export", ROOT / "models" / "hrda_lite", "--out", bundle, *chosen, *pictures),
            day.hrda("bench", bundle, *chosen, "--backend", "tensorrt", "--json", out),
        ]
        about = f"TensorRT, hrda_lite in {precision}, {height}x{width}: built, compared with ONNX Runtime, timed"
        budget = 240.0 if precision == "int8" else 120.0

        def why_not() -> str:
            return _absent(day, "tensorrt", "TensorRT needs a GPU")

        yield Step(name, about, budget, commands, out, why_not, leaves=bundle)


def node(day: Day) -> Step:
    out = day.file("node")
    name = os.path.relpath(out.with_suffix(""), RESULTS)
    command = day.script("benchmarks/node/memory_soak.py", "--minutes", 1, "--backend", "auto", "--name", name)
    return Step(
        "node", "the node under load for a minute, with the back end that it chooses", 120, [command], out,
        lambda: _absent(day, "rclpy", "the tests of test/ros run the node"),
    )  # fmt: skip


def training(day: Day) -> Step:
    run = day.work / "hrda_lite"
    runtime = ("--runtime.device", day.device, "--runtime.precision", "bf16")
    command = day.hrda("train", ROOT / RECIPE, "--run", run, "--resume", "auto", *runtime)

    def why_not() -> str:
        if day.dry:
            return DRY + "a training takes longer; the tests of hrda train stop and resume one"
        missing = [name for name in DATA if not (ROOT.parent / "shared" / "data" / name).exists()]
        return f"../shared/data lacks {', '.join(missing)}, which {RECIPE} reads" if missing else ""

    about = f"{RECIPE} in bf16 for the time that is left, with a checkpoint at the end"
    return Step("training", about, 3600, [command], why_not=why_not, goes_on=True)


def _absent(day: Day, package: str, dry: str) -> str:
    if day.dry:
        return DRY + dry
    return "" if importlib.util.find_spec(package) else f"the Python package '{package}' is not installed"


def _no_onnxruntime(dry: bool) -> str:
    if importlib.util.find_spec("onnxruntime") is None:
        return "the Python package 'onnxruntime' is not installed"
    if dry:
        return ""
    import onnxruntime as runtime

    there = "CUDAExecutionProvider" in runtime.get_available_providers()
    return "" if there else "this onnxruntime has no CUDAExecutionProvider; install onnxruntime-gpu"


# The record and the page


def page(content: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    machine, settings = content["machine"], content["settings"]
    gpu = (machine.get("gpu") or {}).get("name", "no GPU")
    how = "A dry day on the CPU: its times mean nothing." if settings["dry"] else f"On {gpu}."
    lines = [f"# GPU day: {settings['name']}", "", f"{how} {content['date']}, commit {content['commit']}.", ""]
    lines += ["| step | what | outcome | seconds |", "|---|---|---|---|"]
    for step in content["figures"]["order"]:
        entry = content["figures"]["steps"].get(step["name"], {"status": "not reached"})
        outcome = entry["status"] + (f": {entry['why']}" if "why" in entry else "")
        lines.append(f"| {step['name']} | {_cell(step['about'])} | {_cell(outcome)} | {entry.get('seconds', '')} |")
    for name, entry in content["figures"]["steps"].items():
        if "result" in entry:
            rows = list(_rows(entry["result"]))
            lines += [
                "",
                f"## {name}",
                "",
                "| figure | value |",
                "|---|---|",
                *(f"| {_cell(k)} | {_cell(v)} |" for k, v in rows),
            ]
        if "last_lines" in entry:
            lines += ["", f"## {name}: its last lines", "", "```text", *entry["last_lines"], "```"]
    return "\n".join(lines) + "\n"


def _rows(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{before}{key} ")
        elif isinstance(value, (int, float, str)):
            yield before + key, value


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def read_state(path: Path, settings: dict[str, Any], again: Sequence[str]) -> State:
    """Return the entries of an earlier call, without those to repeat.

    Raises:
        HrdaError: the file is none of ours, or of a day with other settings.
    """
    if not path.exists():
        return {}
    content = read_json(path)
    try:
        found, steps = content["settings"], content["figures"]["steps"]
        state = {str(name): dict(entry) for name, entry in steps.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise HrdaError(f"{path} is not the record of a GPU day; move it away, or give another --name") from None
    if found != settings:
        raise HrdaError(f"{path} is of a day with {found}, this one has {settings}; give another --name")
    return {} if "all" in again else {name: entry for name, entry in state.items() if name not in again}


def gpu_name(dry: bool) -> str:
    """Return a name for files by the GPU that PyTorch sees.

    Raises:
        HrdaError: there is none, or no PyTorch.
    """
    if dry:
        return "dry"
    try:
        import torch
    except ImportError:
        raise HrdaError(
            "PyTorch is not installed; set up .venv with 'make test', or run with --dry elsewhere"
        ) from None
    if not torch.cuda.is_available():
        raise HrdaError("PyTorch sees no NVIDIA GPU here; run this on a machine with one, or with --dry")
    return re.sub(r"\W+", "_", torch.cuda.get_device_name()).strip("_").lower()


def main(argv: Sequence[str] | None = None, steps: Callable[[Day], list[Step]] = steps_of) -> int:
    """Run the day. Return 0 if no step failed, 1 if one did, 2 for wrong input, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="of the files; default: the GPU's")
    parser.add_argument("--minutes", type=float, default=25.0, help="for this call (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU, in runs/gpu_day")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="these steps alone")
    parser.add_argument("--again", nargs="+", default=[], metavar="STEP", help="repeat these finished steps, or 'all'")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "gpu_day", help="for what the steps leave")
    parser.add_argument("--out", type=Path, help="folder of record and page; default: benchmarks/results, dry: --work")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _day(options, steps)
    except HrdaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ended; the same command goes on from here", file=sys.stderr)
        return 130


def _day(options: argparse.Namespace, steps: Callable[[Day], list[Step]]) -> int:
    end = time.monotonic() + 60 * options.minutes
    name = options.name or gpu_name(options.dry)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise HrdaError(f"the name '{name}' is not one for files; use letters, digits, '_', '-' and '.'")
    day = Day((options.work / name).resolve(), options.dry)
    chosen = _chosen(steps(day), options)
    path = (options.out or (options.work if options.dry else RESULTS)).resolve() / f"gpu_{name}.json"
    settings = {"name": name, "dry": options.dry, "size": list(day.size)}
    order = [{"name": step.name, "about": step.about} for step in steps(day)]

    about = record(f"gpu_{name}", figures={}, settings=settings)

    def keep(state: State) -> None:
        content = {**about, "figures": {"order": order, "steps": state}}
        write_json(path, content)
        write_whole(path.with_suffix(".md"), page(content))

    with held_folder(day.work, "used by a GPU day"):
        state = read_state(path, settings, options.again)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        left = end - time.monotonic()
        # Recipes name their data from the root of the tree.
        run_day(chosen, state, keep, seconds=left, folder=day.work, cwd=ROOT, environment=environment)
    print(f"written: {path} and {path.with_suffix('.md').name}")
    return int(any(state[step.name]["status"] in ("failed", "timed out") for step in chosen))


def _chosen(steps: list[Step], options: argparse.Namespace) -> list[Step]:
    names = [step.name for step in steps]
    for name in [*(options.only or ()), *options.again]:
        if name not in [*names, "all"]:
            raise HrdaError(f"there is no step '{name}'; choose of {', '.join(names)}")
    return [step for step in steps if not options.only or step.name in options.only]


if __name__ == "__main__":
    sys.exit(with_streams(main, "gpu_day"))
