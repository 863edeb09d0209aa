"""The page of `hrda bag info`: what recordings hold, as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.frames import evenly_spaced
from hrda_core.data.image_files import UInt8Array, decoded
from hrda_core.data.scan.camera_scan import CameraScan, Picture
from hrda_core.data.scan.scan import Scan
from hrda_core.report.bag_text import camera_facts, clock, jumps_text, size_text
from hrda_core.report.contact_sheet import contact_sheet, jpeg_bytes
from hrda_core.report.html_page import jpeg, png, render, write_page
from hrda_core.report.time_figures import draw_over_time

__all__ = ["BAG_PAGE", "SHEET_PICTURES", "write_bag_page"]

SHEET_PICTURES = 24
"""Pictures of a camera on the contact sheet, at most."""

BAG_PAGE = """
<h2>Recordings</h2>
<table><tr><th>path</th><th>storage</th><th class="number">size</th><th>begin</th>
<th class="number">length</th><th class="number">images</th></tr>
{% for entry in recordings %}<tr><td>{{ entry.path }}</td><td>{{ entry.storage }}</td>
<td class="number">{{ entry.size }}</td><td>{{ entry.begin }}</td><td class="number">{{ entry.length }}</td>
<td class="number">{{ entry.images }}</td></tr>{% endfor %}</table>
{% for entry in recordings if entry.jumps %}<p class="note">{{ entry.path }}: {{ entry.jumps }}.</p>
{% endfor %}
{% for remark in remarks %}<p class="note">{{ remark }}.</p>{% endfor %}
{% for entry in salvage %}<p class="warning">Damaged: {{ entry.recording }}. {{ entry.kept }} images kept,
{% if entry.lost is none %}an unknown number{% else %}{{ entry.lost }}{% endif %} lost: {{ entry.reason }}.</p>
{% endfor %}

<h2>Topics</h2>
<table><tr><th>topic</th><th>type</th><th class="number">messages</th><th class="number">rate, Hz</th></tr>
{% for topic in topics %}<tr><td>{{ topic.name }}</td><td>{{ topic.message_type }}</td>
<td class="number">{% if topic.count is none %}–{% else %}{{ topic.count }}{% endif %}</td>
<td class="number">{% if topic.rate_hz is none %}–{% else %}{{ "%.2f" | format(topic.rate_hz) }}{% endif %}</td></tr>
{% endfor %}</table>

{% for camera in cameras %}<h2>{{ camera.topic }}</h2>
<table>{% for name, value in camera.facts %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}</table>
{% if camera.sheet %}<h3>Frames</h3><img src="{{ camera.sheet }}" alt="frames of {{ camera.topic }}">
<h3>Light, sharpness and motion</h3><img src="{{ camera.curves }}" alt="curves of {{ camera.topic }}">
<p class="note">Luminance is the mean grey level, 0 to 255. Sharpness and motion are relative to the contrast; motion is
against the analysed frame before, and stays below 0.03 where nothing moves.</p>
{% else %}<p class="warning">No frame of this camera decodes.</p>{% endif %}
{% else %}<h2>Cameras</h2><p class="warning">No image could be read.</p>{% endfor %}
"""


def write_bag_page(path: Path, summary: Mapping[str, Any], scan: Scan) -> Path:
    """Write the page and return its path.

    Args:
        summary: `summarise(scan, ...)`.
        scan: scan with pictures.

    Raises:
        DataError: the file cannot be written.
        MissingPackageError: jinja2 or matplotlib is not installed.
    """
    cameras = {camera.topic: camera for camera in scan.cameras}
    names = ", ".join(Path(entry["path"]).name for entry in summary["recordings"])
    values = {
        "title": f"Recording {names}",
        "recordings": [_recording(entry) for entry in summary["recordings"]],
        "topics": summary["topics"],
        "salvage": summary["salvage"],
        "remarks": summary["remarks"],
        "cameras": [_camera(camera, cameras[camera["topic"]]) for camera in summary["cameras"]],
    }
    return write_page(path, render(BAG_PAGE, values))


def _recording(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": entry["path"],
        "storage": entry["storage"],
        "size": size_text(entry["bytes"]),
        "begin": entry["begin"] or "–",
        "length": "–" if entry["duration_s"] is None else clock(entry["duration_s"]),
        "images": entry["images"],
        "jumps": jumps_text(entry["clock_jumps_s"]) if entry["clock_jumps_s"] else "",
    }


def _camera(camera: Mapping[str, Any], scanned: CameraScan) -> dict[str, Any]:
    values = {"topic": camera["topic"], "facts": camera_facts(camera), "sheet": "", "curves": ""}
    if scanned.pictures:
        curves = {name: values for name, values in camera["curves"].items() if name != "time_s"}
        values["sheet"] = jpeg(jpeg_bytes(_sheet(scanned.pictures, scanned.elapsed_s)))
        values["curves"] = png(draw_over_time(camera["curves"]["time_s"], curves))
    return values


def _sheet(pictures: Sequence[Picture], elapsed_s: npt.NDArray[np.float64]) -> UInt8Array:
    """As many pictures as there is room for, evenly spaced."""
    chosen = evenly_spaced(pictures, SHEET_PICTURES)
    times = [clock(float(elapsed_s[picture.number])) for picture in chosen]
    return contact_sheet([decoded(picture.jpeg) for picture in chosen], times)
