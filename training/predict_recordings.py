"""Segments recordings into one recording of masks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from hrda_core.camera_areas import CameraAreas
from hrda_core.data.recordings.mask_recording import MaskBagWriter, camera_names
from hrda_core.data.recordings.recordings import RecordedImage, Recordings
from hrda_core.errors import shown

from .segmentation import Segment, Tally, segmented

__all__ = ["predict_recordings"]


def predict_recordings(
    recordings: Recordings,
    folder: Path,
    segment: Segment,
    tally: Tally,
    *,
    label_info: str,
    copy_camera: bool,
    areas: CameraAreas | None = None,
) -> dict[str, Any]:
    """Write a recording of the masks of all images of `recordings`.

    Args:
        recordings: recordings that were opened for the topics to segment.
        folder: folder of the new recording; must not exist.
        segment: makes the outputs of an image.
        tally: is kept up to date.
        label_info: JSON text about the classes, as the node publishes it.
        copy_camera: also copy the camera images, including those that do not decode.
        areas: what of the pictures of each topic counts; None = all.

    Returns:
        values for the JSON result: cameras, what is to be told about their choice, and what was salvaged of damaged
        recordings.

    Raises:
        DataError: the areas are those of other topics.
    """
    counting = {} if areas is None else areas.of([camera.topic for camera in recordings.cameras])
    counts = [camera.count for camera in recordings.cameras]
    tally.total = sum(count for count in counts if count is not None) if None not in counts else 0
    cameras = camera_names([camera.topic for camera in recordings.cameras])
    frames = segmented(
        recordings.images(),
        lambda image: image.decode(),
        _name,
        segment,
        tally,
        lambda image: counting.get(image.topic),
    )
    with closing(frames), MaskBagWriter(folder, cameras, label_info) as writer:
        for image, masks in frames:
            if copy_camera:
                writer.copy_image(image)
            if masks is not None:
                writer.write_masks(image, masks)
    return {
        "cameras": {topic: f"{camera}/segmentation" for topic, camera in cameras.items()},
        "remarks": [*recordings.remarks, *recordings.value_remarks],
        "salvage": [
            {"recording": str(part.recording), "kept": part.kept, "lost": part.lost, "reason": part.reason}
            for part in recordings.salvage()
        ],
    }


def _name(image: RecordedImage) -> str:
    return f"{image.recording}: {shown(image.topic)} at {image.stamp_ns / 1e9:.9f} s"
