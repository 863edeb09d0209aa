"""The picture of a training step."""

from __future__ import annotations

import numpy as np
import pytest

from hrda_core.errors import DataError
from hrda_core.labels import CITYSCAPES19
from hrda_core.report.panels import MAX_WIDTH, draw_panel

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
NAMES = (
    "source_image", "source_labels", "target_image", "pseudo_labels", "pseudo_weight", "mixed_image", "mixed_labels",
    "predicted_labels", "attention",
)  # fmt: skip


def _pictures(size: tuple[int, int] = (64, 96), batch: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for name in NAMES:
        if name.endswith("image"):
            made[name] = rng.normal(0, 1, (batch, 3, *size)).astype(np.float32)
        elif name.endswith("labels"):
            made[name] = rng.integers(0, 19, (batch, *size))
        else:
            made[name] = rng.random((batch, *size)).astype(np.float32)
    return made


def test_there_is_a_row_an_image_and_a_column_a_picture() -> None:
    pictures = _pictures()
    one, two = (draw_panel(_pictures(batch=batch), CITYSCAPES19, MEAN, STD) for batch in (1, 2))
    assert one.dtype == np.uint8
    assert two.shape[0] - one.shape[0] == 64 + 4
    del pictures["attention"], pictures["mixed_image"]
    fewer = draw_panel(pictures, CITYSCAPES19, MEAN, STD)
    assert two.shape[1] - fewer.shape[1] == 2 * (96 + 4)


def test_images_labels_and_weights_keep_their_colours() -> None:
    image = np.zeros((1, 3, 8, 200), np.float32)
    labels = np.full((1, 8, 200), 13)
    labels[0, 0] = 255
    weight = np.full((1, 8, 200), 0.5, np.float32)
    panel = draw_panel(
        {"source_image": image, "source_labels": labels.astype(np.float32), "pseudo_weight": weight},
        CITYSCAPES19,
        MEAN,
        STD,
    )
    first, bottom = 24, 24 + 7
    assert panel[bottom, 100].tolist() == [124, 116, 104]
    assert tuple(panel[bottom, 204 + 100]) == CITYSCAPES19.palette[13]
    assert panel[first, 204 + 100].tolist() == [0, 0, 0]
    assert panel[bottom, 408 + 100].tolist() == [128, 128, 128]


def test_captions_stand_above_the_columns() -> None:
    panel = draw_panel(_pictures(), CITYSCAPES19, MEAN, STD)
    for column in range(len(NAMES)):
        assert panel[:24, column * 100 : column * 100 + 96].min() < 128


def test_a_large_step_is_shrunk_to_the_widest_panel() -> None:
    panel = draw_panel(_pictures((512, 1024), batch=1), CITYSCAPES19, MEAN, STD)
    assert MAX_WIDTH - 2 * len(NAMES) <= panel.shape[1] <= MAX_WIDTH
    assert (panel.shape[0] - 28) / ((panel.shape[1] - 32) / 9) == pytest.approx(0.5, abs=0.01)


def test_maps_of_a_coarser_grid_are_enlarged_to_the_cell() -> None:
    pictures = _pictures(batch=1)
    pictures["attention"] = np.ones((1, 16, 24), np.float32)
    panel = draw_panel(pictures, CITYSCAPES19, MEAN, STD)
    assert (panel[24 : 24 + 64, -96:] == 255).all()


def test_pictures_without_a_known_name_are_refused() -> None:
    with pytest.raises(DataError, match="source_image"):
        draw_panel({"other": np.zeros((1, 2, 2))}, CITYSCAPES19, MEAN, STD)
