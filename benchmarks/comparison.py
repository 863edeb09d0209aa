"""How many questions `hrda compare` takes, and how often it is right: people are simulated with labels.

    python benchmarks/comparison.py simulate                                made-up pairs of models, some minutes
    python benchmarks/comparison.py trial --models A B --images DIR --labels DIR --names LIST

`simulate` draws pairs of models that differ by two points, or not at all, and that disagree on more or fewer pixels.
`trial` runs two bundles on labelled images, whose labels answer, and repeats the questions with other draws. In both,
5 % of the answers are wrong: A is taken for B.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.bench.record import write_record
from hrda_core.comparison.disagreement import examine
from hrda_core.comparison.drive import Drive
from hrda_core.comparison.result import mean_answer
from hrda_core.comparison.sequential import LEVEL, Bounds, mean_with_bounds
from hrda_core.data.frames import ImageFrames
from hrda_core.data.image_files import read_labels, read_names
from hrda_core.inference import Prediction, Predictor
from hrda_core.labels import CAMVID11
from hrda_core.standard_streams import with_streams

FloatArray = npt.NDArray[np.float64]

QUESTIONS = 120
WRONG = 0.05


@dataclass(frozen=True)
class Pair:
    """A made-up pair of models.

    Attributes:
        shares: (P,) share of each pair of classes among the pixels on which they disagree.
        right_b, right_a: (P,) share of these on which B, or A, is right; on the others neither is.
    """

    shares: FloatArray
    right_b: FloatArray
    right_a: FloatArray

    @property
    def mean(self) -> float:
        """Accuracy of B minus that of A where they disagree."""
        return float(self.shares @ (self.right_b - self.right_a))


def draw_pair(rng: np.random.Generator, mean: float) -> Pair:
    """Draw a pair of models as they are found: few pairs of classes have most pixels, and in each one model leads.

    Args:
        mean: accuracy of B minus that of A where they disagree; |mean| up to 0.7.
    """
    while True:
        shares = rng.dirichlet(np.full(12, 0.5))
        decisive = rng.uniform(0.7, 0.95, 12)
        lead = np.clip(rng.normal(mean, 0.5, 12), -0.95, 0.95) * decisive
        lead += mean - shares @ lead
        if (np.abs(lead) <= decisive).all():
            return Pair(shares, (decisive + lead) / 2, (decisive - lead) / 2)


def simulate(pair: Pair, rng: np.random.Generator, *, questions: int = QUESTIONS, wrong: float = WRONG) -> Bounds:
    """Answer all questions about a made-up pair, some wrongly; the bounds say when it would have ended."""
    strata = rng.choice(len(pair.shares), questions, p=pair.shares)
    draw = rng.random(questions)
    answers = np.where(draw < pair.right_b[strata], 1, np.where(draw > 1 - pair.right_a[strata], -1, 0))
    answers = np.where(rng.random(questions) < wrong, -answers, answers)
    return mean_with_bounds(answers.tolist(), strata.tolist(), pair.shares, questions)


def summary(found: Sequence[Bounds], sign: int) -> dict[str, Any]:
    """Return how often the better model was named, and after how many questions."""
    ends = [one.decided_after or QUESTIONS for one in found]
    signs = np.asarray([one.sign for one in found])
    return {
        "trials": len(found),
        "right": int((signs == sign).sum()) if sign else 0,
        "wrong": int((signs == -sign).sum()) if sign else int((signs != 0).sum()),
        "undecided": int((signs == 0).sum()),
        "median_questions": float(np.median(ends)),
        "within_40": int(sum(one.decided_after is not None and one.decided_after <= 40 for one in found)),
    }


def run_simulate(trials: int) -> dict[str, Any]:
    """Pairs that differ by two points, by the share of pixels on which they disagree, and pairs that do not differ."""
    rows: dict[str, Any] = {}
    for share in (0.03, 0.04, 0.05, 0.06, 0.08, None):
        rng = np.random.default_rng(0)
        mean = 0.0 if share is None else 0.02 / share
        signs = rng.choice([-1, 1], trials)
        found = [simulate(draw_pair(rng, mean * sign), rng) for sign in signs.tolist()]
        upright = [_turned(one, sign) for one, sign in zip(found, signs.tolist(), strict=True)]
        name = "no difference" if share is None else f"2 points of {100 * share:.0f} %"
        rows[name] = summary(upright, int(share is not None))
        print(f"{name:16} {rows[name]}", flush=True)
    return rows


def _turned(bounds: Bounds, sign: int) -> Bounds:
    return bounds if sign > 0 else Bounds(-bounds.value, -bounds.high, -bounds.low, bounds.decided_after)


def run_trial(models: Sequence[str], images: Path, labels: Path, names: Sequence[str], trials: int) -> dict[str, Any]:
    """Two bundles on labelled images: groups of CamVid are what is right, and pixels without a label cannot be told."""
    drive = Drive((ImageFrames("images", images, tuple(f"{name}.jpg" for name in names)),), ("images",), "")
    truth = [read_labels(labels / f"{name}.png") for name in names]
    a, b = (_kept(Predictor(model)) for model in models)
    table, rng = CAMVID11.table(), np.random.default_rng(0)
    found, difference, disagreement = [], 0.0, 0.0
    for trial in range(trials):
        disagreement_of, questions = examine(drive, range(len(names)), a, b, QUESTIONS, trial)
        answers = []
        for question in questions:
            label = int(table[truth[question.frame][question.y, question.x]])
            right = [name for name, own in (("a", question.a), ("b", question.b)) if table[own] == label]
            answer = "unsure" if label == 255 or len(right) == 2 else right[0] if right else "neither"
            if rng.random() < WRONG:
                answer = {"a": "b", "b": "a"}.get(answer, answer)
            answers.append(answer)
        found.append(mean_answer(disagreement_of, questions, answers, QUESTIONS))
        disagreement = disagreement_of.share
    for number, label in enumerate(truth):
        rgb = drive.load(number)
        groups = table[label]
        right = [(table[predict(rgb).labels] == groups)[label != 255].sum() / label.size for predict in (a, b)]
        difference += float(right[1] - right[0]) / len(truth)
    result = {"models": list(models), "difference": difference, "disagreement": disagreement}
    result |= summary(found, int(np.sign(difference)))
    print(result)
    return result


def _kept(predict: Callable[[Any], Prediction]) -> Callable[[Any], Prediction]:
    """Each image is segmented once."""
    known: dict[bytes, Prediction] = {}

    def call(rgb: Any) -> Prediction:
        key = rgb.tobytes()
        if key not in known:
            known[key] = predict(rgb)
        return known[key]

    return call


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("simulate", "trial"))
    parser.add_argument("--trials", type=int, default=0, help="default: 400 to simulate, 40 of a trial")
    parser.add_argument("--models", nargs=2, default=("", ""))
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--names", type=Path, help="list of images, one a line, without suffix")
    parser.add_argument("--record", default="", help="write the figures to benchmarks/results/RECORD.json")
    options = parser.parse_args()
    if options.what == "simulate":
        figures = run_simulate(options.trials or 400)
    else:
        names = [str(Path(name).with_suffix("")) for name in read_names(options.names)]
        figures = run_trial(options.models, options.images, options.labels, names, options.trials or 40)
    if options.record:
        settings = {"questions": QUESTIONS, "wrong_answers": WRONG, "level": LEVEL}
        write_record(options.record, figures=figures, settings=settings)


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "comparison"))
