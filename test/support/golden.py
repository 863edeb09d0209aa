"""Golden values of the reference implementation: the reduced set of this repository, and the full set beside it.

    golden("hrda_mitb0_inference")                   # from test/golden/*.npz, always there
    golden_full(shared_dir, "hrda_mitb0_inference")  # from ../shared/golden, with the fixture `shared_dir`

Both give a `Golden` with the same array names. In the reduced set big arrays are subsampled: `SAMPLING[file][array]` is
the index that was applied to the full array, and arrays that `SAMPLING` does not name are complete. A computed array is
brought to the same grid by `Golden.sample(array_name, computed)`, which in the full set changes nothing; so one test
serves both:

    expected = golden("hrda_mitb0_inference")
    fused = fuse(expected["image"], ...)                    # computed at full size
    assert relative_error(expected.sample("fused_s4", fused), expected["fused_s4"]) <= 1e-4

How the indexes read: `[..., 1::3, 2::3]` keeps rows 1, 4, 7, ... and columns 2, 5, 8, ... of the last two axes. The
step 3 on stride-4 logits meets even and odd cells, so a mistake in one phase of the 2x upsampling shows.
`np.s_[:, ::8]` keeps every eighth token. All inputs (images, labels, weights, boxes) are complete and exact; images
are stored as float16, which is lossless for them. The arrays that are float16 in the full set (`avg_s4` and
its neighbours) are rounded on disk: compare those at 5e-3. What every array means: ../shared/golden/README.md.

`golden_fixture()` makes the fixture that runs a test on both sets.
The weights that belong to them come from `golden_weights.py`. `make_reduced_golden.py` wrote the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "FOLDER",
    "SAMPLING",
    "SHARED_ARRAYS",
    "Golden",
    "argmax_agreement",
    "golden",
    "golden_fixture",
    "golden_full",
    "golden_scalars",
    "relative_error",
]

FOLDER = Path(__file__).resolve().parents[1] / "golden"
ArrayLike = TypeVar("ArrayLike")  # numpy array or torch tensor

_THIRD = np.s_[..., 1::3, 2::3]
_HALF = np.s_[..., 1::2, 1::2]
_TOKENS = np.s_[:, 3::8]

SAMPLING: Mapping[str, Mapping[str, Any]] = {
    "encoder_mitb0": {"f1": _HALF},
    "encoder_mitb0_block1_0": {
        "patch_embed1_tokens": _TOKENS,
        "norm1": _TOKENS,
        "attn_out": _TOKENS,
        "mlp_out": _TOKENS,
        "block_out": _TOKENS,
    },
    "daformer_mitb0": {"logits": _THIRD, "argmax": _HALF},
    "hrda_mitb0_inference": {
        "hr_logits_s4_merged": _THIRD,
        "fused_s4": _THIRD,
        "fused_argmax": _HALF,
        "lr_only_s4": _THIRD,
        "hr_only_s4": _THIRD,
        "avg_s4": _THIRD,
        "nooverlap_s4": _THIRD,
        "blurhr_s4": _THIRD,
        "noslide_s4": _THIRD,
    },
    "hrda_mitb0_slide": {
        "logits_sample": _THIRD,
        "argmax": _HALF,
        "prob_rescaled_sample": _THIRD,
        "argmax_rescaled": _HALF,
    },
    "hrda_mitb0_train_bneval": {"fused": _THIRD},
    "hrda_mitb0_train_bntrain": {"fused": _THIRD},
    "augment": {
        **{f"jit{i}_out": _THIRD for i in range(4)},
        **{f"blur_sigma{sigma}": _THIRD for sigma in (0.15, 0.6, 1.15)},
    },
    "classmix": {"mixed_img": _THIRD},
    "dg_style": {},
    "feature_distance": {},
    "mic_mask": {},
    "miou": {},
    "pipeline": {"normalized_rgb_chw": _THIRD},
    "pseudo_label": {"pl_prob": _THIRD, "pl_weight_top15_bottom20": _THIRD},
    "uda_mitb0": {
        **{f"it{i}/mixed_img": _THIRD for i in range(3)},
        **{f"it{i}/mixed_weight": _HALF for i in range(3)},
        **{f"it{i}/pseudo_label": _HALF for i in range(3)},
    },
}
"""Reduced file -> array -> index applied to the full array. Its keys are the files of the reduced set."""

SHARED_ARRAYS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "hrda_mitb0_train_bntrain": (
        "hrda_mitb0_train_bneval",
        ("image", "label", "seg_weight", "box", "lr_feat4", "grad_names"),
    ),
}
"""File -> (other file, arrays that are equal in both and stored there only). `golden` puts them back."""


class Golden(Mapping[str, np.ndarray]):
    """Arrays of one golden file by name; read-only."""

    def __init__(self, arrays: Mapping[str, np.ndarray], sampling: Mapping[str, Any]) -> None:
        self._arrays = arrays
        self._sampling = sampling

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def sample(self, name: str, computed: ArrayLike) -> ArrayLike:
        """Bring a computed array of full size (numpy or torch) to the grid on which `name` is stored."""
        index = self._sampling.get(name)
        return computed if index is None else computed[index]  # type: ignore[index]

    def starting_with(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays whose name starts with `prefix`, without it: `starting_with("grad/")`."""
        return {name.removeprefix(prefix): self[name] for name in self if name.startswith(prefix)}


def golden(name: str) -> Golden:
    """The reduced set's file `name` (without `.npz`)."""
    arrays = _load(FOLDER / f"{name}.npz")
    other, shared = SHARED_ARRAYS.get(name, ("", ()))
    if other:
        stored = _load(FOLDER / f"{other}.npz")
        arrays |= {array: stored[array] for array in shared}
    return Golden(arrays, SAMPLING[name])


def golden_full(shared_dir: Path, name: str) -> Golden:
    """The full set's file `name` (without `.npz`), from the folder `shared_dir`."""
    return Golden(_load(shared_dir / "golden" / f"{name}.npz"), {})


def golden_scalars() -> dict[str, Any]:
    """`scalars.json`, complete: schedules, parameter groups, sampling probabilities, grids, label tables."""
    scalars: dict[str, Any] = json.loads((FOLDER / "scalars.json").read_text("utf-8"))
    return scalars


def golden_fixture() -> Any:
    """A pytest fixture `name -> Golden` that runs each test on both sets; the full one is skipped where it is absent.

    In a test file: `load = golden_fixture()`, then `def test_...(load): expected = load("encoder_mitb0")`.
    """
    import pytest

    @pytest.fixture(params=["reduced", "full"])
    def load(request: pytest.FixtureRequest) -> Callable[[str], Golden]:
        if request.param == "reduced":
            return golden
        shared_dir: Path = request.getfixturevalue("shared_dir")
        return lambda name: golden_full(shared_dir, name)

    return load


def relative_error(computed: Any, expected: np.ndarray) -> float:
    """Largest absolute difference relative to the expected array's largest absolute value; the golden README's measure.

    Raises:
        ValueError: the shapes differ, so that nothing passes by broadcasting.
    """
    actual = np.asarray(computed.detach() if hasattr(computed, "detach") else computed, dtype=np.float64)
    if actual.shape != expected.shape:
        raise ValueError(f"computed shape {actual.shape}, golden shape {expected.shape}")
    reference = expected.astype(np.float64)
    return float(np.abs(actual - reference).max() / max(np.abs(reference).max(), 1e-12))


def argmax_agreement(computed: Any, expected: np.ndarray) -> float:
    """Share of equal entries of two class maps of the same shape, 0..1."""
    actual = np.asarray(computed)
    if actual.shape != expected.shape:
        raise ValueError(f"computed shape {actual.shape}, golden shape {expected.shape}")
    return float((actual == expected).mean())


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
