"""Play a short bag of real street footage through the segmentation node and show what comes out.

    python demo/run_demo.py [--out demo_output] [--model models/hrda_lite]

Camera, node and recorder are processes of their own that talk over Fast DDS. No ROS distribution is needed: the ROS
wheels of the demo's environment are enough (`make demo` sets it up). See docs/robot/demo.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from street_demo.errors import ChildFailedError, Interrupted
from street_demo.interruption import Interruption
from street_demo.paths import BAG, DEFAULT_MODEL

from hrda_core.errors import HrdaError
from hrda_core.standard_streams import with_streams

EXIT_OUR_FAULT = 1
EXIT_USER_MISTAKE = 2
EXIT_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parse(argv)
    interruption = Interruption()
    interruption.install()
    try:
        # Imports OpenCV, ONNX Runtime and rosbags: after the signal handler is in place and the options are read.
        from street_demo.stages import run_stages

        return 0 if run_stages(options, interruption) else EXIT_OUR_FAULT
    except Interrupted:
        return _fail("interrupted; all processes are stopped and nothing was left behind", EXIT_INTERRUPTED)
    except HrdaError as error:
        return _fail(str(error), EXIT_USER_MISTAKE)
    except ChildFailedError as error:
        return _fail(str(error), error.exit_code)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for the results")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model bundle")
    parser.add_argument("--bag", type=Path, default=BAG, help="rosbag2 folder with compressed images")
    parser.add_argument(
        "--rate", type=_positive(float), help="camera frames a second; None = what the model can follow"
    )
    parser.add_argument("--max-frames", type=_positive(int), help="only so many frames, evenly spaced; None = all")
    return parser.parse_args(argv)


def _positive(kind: type[float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
        return value

    convert.__name__ = kind.__name__
    return convert


def _fail(text: str, exit_code: int) -> int:
    print(f"run_demo: {text}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(with_streams(main, "run_demo"))
