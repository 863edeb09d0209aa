"""Recordings in, one recording of masks out."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from hrda_core.data.recordings.mask_recording import MaskBagWriter, camera_names
from hrda_core.data.recordings.recordings import RecordedImage, Recordings
from hrda_core.inference.overlay import draw_outputs

from .segmentation import Model, Tally, segmented

__all__ = ["predict_recordings"]


def predict_recordings(
    recordings: Recordings,
    folder: Path,
    model: Model,
    tally: Tally,
    *,
    outputs: Collection[str],
    overlay_alpha: float,
    copy_camera: bool,
) -> dict[str, Any]:
    """Write a recording of the masks of all images of `recordings`.

    Args:
        recordings: opened for the topics that are segmented.
        folder: of the new recording; must not exist.
        model: what segments.
        tally: is kept up to date.
        outputs: some of `hrda_core.inference.overlay.OUTPUTS`.
        overlay_alpha: weight of the colours in the overlay, 0 to 1.
        copy_camera: also copy the camera images, those that do not decode too.

    Returns:
        for the JSON result: cameras, and what was salvaged of damaged recordings.
    """
    counts = [camera.count for camera in recordings.cameras]
    tally.total = sum(count for count in counts if count is not None) if None not in counts else 0
    cameras, table = camera_names([camera.topic for camera in recordings.cameras]), model.space.color_table()
    frames = segmented(recordings.images(), lambda image: image.decode(), _name, model, tally)
    with closing(frames), MaskBagWriter(folder, cameras, model.label_info) as writer:
        for image, result in frames:
            if copy_camera:
                writer.copy_image(image)
            if result is not None:
                rgb, prediction = result
                writer.write_masks(image, draw_outputs(rgb, prediction, outputs, table, overlay_alpha))
    return {
        "cameras": {topic: f"{camera}/segmentation" for topic, camera in cameras.items()},
        "salvage": [
            {"recording": str(part.recording), "kept": part.kept, "lost": part.lost, "reason": part.reason}
            for part in recordings.salvage()
        ],
    }


def _name(image: RecordedImage) -> str:
    return f"{image.recording}: {image.topic} at {image.stamp_ns / 1e9:.9f} s"
