"""`hrda adapt --bag DRIVE --model BUNDLE --source PACK --out BUNDLE2`: a better model from a drive without labels.

    hrda adapt --bag drives/night --model models/hrda_lite --source packs/gta5 --out models/night
    hrda adapt --bag a.mcap b.mcap --topic /camera/front/image_raw --effort normal --mic true ...
    hrda adapt --bag drives/night --model models/hrda_lite --out models/night --effort instant    # no source, seconds

Selects frames, adapts, judges without labels and puts the best model into --out, with a report: the adapted one, the
instantly adapted one, or the given one if neither is better. Interrupted, the same command goes on.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrda_core.errors import RecipeError, require
from hrda_core.memory import keep_big_buffers
from hrda_core.whole_files import write_json

from .arguments import parse
from .progress import ProgressPrinter
from .stop_request import StopRequest

if TYPE_CHECKING:
    from hrda_core.adaptation.adapt import Outcome

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, adapt, say what was decided. Returns the exit code."""
    parser = _parser()
    options = parse(parser, argv)
    require("torch", "train")
    from hrda_core.adaptation.adapt import adapt
    from hrda_core.adaptation.efforts import effort_named
    from hrda_core.adaptation.request import Request
    from hrda_core.adaptation.stages.train import StoppedError
    from hrda_core.trainer.loop import Watch
    from hrda_core.trainer.recipe import RuntimeConfig

    keep_big_buffers()
    effort = effort_named(options.effort)
    if (options.eval_labels is None) != (options.eval_images is None):
        raise RecipeError("give both --eval_images and --eval_labels, or neither")
    request = Request(
        bags=tuple(options.bag),
        topics=tuple(options.topic),
        model=options.model,
        source=options.source,
        out=options.out,
        work=options.work or options.out.with_name(options.out.name + ".work"),
        effort=effort,
        mic=effort.mic if options.mic is None else options.mic,
        frames=options.frames,
        held_out=options.held_out,
        choose=options.choose,
        eval_images=options.eval_images,
        eval_labels=options.eval_labels,
        imagenet=options.imagenet,
        runtime=RuntimeConfig(device=options.device, precision=options.precision, threads=options.threads),
        seed=options.seed,
        command=shlex.join(["hrda", "adapt", *argv]),
    )
    stop = StopRequest()
    try:
        with ProgressPrinter() as printer:
            watch = Watch(progress=stop.seen(printer.step), say=printer.say, should_stop=stop)
            outcome = adapt(request, watch, printer.count)
    except StoppedError as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    _print(outcome)
    if options.json:
        write_json(options.json, outcome.to_dict())
    return 0


def _parser() -> Any:
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda adapt", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bag", type=Path, nargs="+", required=True, help="recordings: rosbag2 folders, .mcap, .db3, ROS 1 .bag")
    add("--topic", type=str, nargs="*", default=[], help="camera topics; default: the only one")
    add("--model", type=Path, required=True, help="bundle to start from; it is never changed")
    add("--source", type=str, default="", help="pack of hrda pack-source, or LAYOUT:ROOT, or a folder of images/ and "
        "labels/; default: none, the model's own sure predictions stand in")  # fmt: skip
    add("--out", type=Path, required=True, help="bundle folder for the chosen model; a bundle there is replaced")
    add("--work", type=Path, default=None, help="working folder; default: OUT.work")
    add("--effort", type=str, default="quick", help="instant, quick, normal or full")
    add("--mic", type=bool, default=None, help="masked image consistency; default: as the effort says")
    add("--frames", type=int, default=0, help="most frames to adapt on; 0 = as the effort says")
    add("--held_out", type=float, default=0.25, help="share of the recording's end that is judged on")
    add("--choose", type=str, default="verdict", help="verdict, or by hand: given, instant, adapted")
    add("--eval_images", type=Path, default=None, help="labelled images of the target, for the report alone")
    add("--eval_labels", type=Path, default=None, help="their label PNGs")
    add("--imagenet", type=Path, default=None, help="ImageNet weights of the encoder, for the feature distance")
    add("--device", type=str, default="auto", help="auto, cpu or cuda")
    add("--precision", type=str, default="fp32", help="fp32, bf16 or fp16")
    add("--threads", type=int, default=0, help="CPU threads; 0 = PyTorch's choice")
    add("--seed", type=int, default=0, help="of all randomness")
    add("--json", type=Path, default=None, help="write the result here")
    return parser


_SENTENCES = {
    "given": "the given model stays: no candidate is better beyond doubt. A copy of it is in",
    "instant": "the model with BatchNorm statistics of the recording is adopted. It is in",
    "adapted": "the adapted model is adopted. It is in",
}


def _print(outcome: Outcome) -> None:
    print(f"\n{_SENTENCES[outcome.choice]} {outcome.bundle}")
    for reason in outcome.verdict.reasons:
        print(f"  - {reason}")
    for candidate, refusals in outcome.verdict.refusals.items():
        for refusal in refusals:
            print(f"  - not {candidate}: {refusal}")
    print(f"report: {outcome.report}")
    print("on the running node:")
    print(f"  ros2 param set /segment_node model {outcome.bundle.resolve()}")
    print("  ros2 service call /segment_node/reload std_srvs/srv/Trigger")
