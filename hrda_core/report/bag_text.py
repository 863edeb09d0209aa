"""The summary of recordings as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hrda_core.errors import shown, some_of

__all__ = ["bag_text", "camera_facts", "clock", "jumps_text", "size_text", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60


def bag_text(summary: Mapping[str, Any]) -> str:
    """Return recordings, topics and cameras of a summary (`hrda_core.data.scan.summary`), and what is damaged."""
    lines = [*_recordings(summary["recordings"]), "", *_topics(summary["topics"])]
    for camera in summary["cameras"]:
        lines += ["", shown(camera["topic"])]
        lines += [f"  {name:<12}{value}" for name, value in camera_facts(camera)]
        curves = camera["curves"]
        lines.append(f"  {'exposure':<12}{sparkline(curves['time_s'], curves['luminance'])}  0 to 255")
    for entry in summary["salvage"]:
        lost = "an unknown number" if entry["lost"] is None else entry["lost"]
        lines += [
            "",
            f"damaged: {entry['recording']}",
            f"  {entry['kept']} images kept, {lost} lost: {entry['reason']}",
        ]
    if summary["remarks"]:
        lines += ["", *summary["remarks"]]
    return "\n".join(lines)


def camera_facts(camera: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of each known fact about a camera of a summary."""
    sizes = ", ".join(f"{width}x{height}" for width, height in camera["sizes"]) or "none decoded"
    rate = "–" if camera["rate_hz"] is None else f"{camera['rate_hz']:.2f} Hz median"
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in camera["shares"].items())
    facts = [
        ("images", f"{camera['images']}, {rate}, {sizes}, {some_of(camera['encodings']) or 'no encoding'}"),
        ("gaps", _intervals(camera["gaps"], camera["gap_count"])),
        ("clock back", _intervals(camera["jumps_back"], camera["jump_back_count"])),
        *(
            [("clock on", _intervals(ahead, camera["jump_forward_count"]))]
            if (ahead := camera["jumps_forward"])
            else []
        ),
        ("frames", f"{camera['analysed']} analysed: {shares}"),
    ]
    if camera["undecodable"]:
        causes = ", ".join(f"{cause} {count}" for cause, count in camera["undecodable"].items())
        facts.append(("undecodable", f"{sum(camera['undecodable'].values())} of the analysed: {causes}"))
    return facts


def sparkline(times: Sequence[float], values: Sequence[float]) -> str:
    """Draw means over time as bars of one character, from 0 to 255; a space where there is no value."""
    if not times:
        return ""
    begin, length = min(times), max(times) - min(times)
    columns: list[list[float]] = [[] for _ in range(min(_COLUMNS, len(times)))]
    for time, value in zip(times, values, strict=True):
        place = int((time - begin) / length * len(columns)) if length > 0 else 0
        columns[min(place, len(columns) - 1)].append(value)
    return "".join(_bar(sum(column) / len(column) / 255) if column else " " for column in columns)


def clock(seconds: float) -> str:
    """Write seconds as m:ss, or h:mm:ss."""
    whole = round(seconds)
    minutes, rest = divmod(abs(whole), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"-{text}" if whole < 0 else text


def jumps_text(jumps_s: Sequence[float]) -> str:
    """Say by how much the clock of a recorder jumped, which its duration leaves out."""
    named = ", ".join(f"{clock(step)}" for step in sorted(jumps_s, key=abs, reverse=True)[:3])
    more = f"; {len(jumps_s)} times in all" if len(jumps_s) > 3 else ""
    return f"the recorder's clock jumped by {named} (h:mm:ss){more}; the duration leaves that out"


def size_text(size: int) -> str:
    """Write bytes in a unit that fits."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _recordings(recordings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in recordings:
        yield entry["path"]
        length = "no images" if entry["duration_s"] is None else f"{clock(entry['duration_s'])} from {entry['begin']}"
        yield f"  {entry['storage']}, {size_text(entry['bytes'])}, {length}, {entry['images']} images"
        if entry["clock_jumps_s"]:
            yield f"  {jumps_text(entry['clock_jumps_s'])}"


def _topics(topics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names, types = ([shown(topic[key]) for topic in topics] for key in ("name", "message_type"))
    name_width, type_width = max(map(len, names)), max(map(len, types))
    yield f"{'topic':<{name_width}}  {'type':<{type_width}}{'messages':>10}{'rate':>12}"
    for topic, name, kind in zip(topics, names, types, strict=True):
        count = "–" if topic["count"] is None else topic["count"]
        rate = "–" if topic["rate_hz"] is None else f"{topic['rate_hz']:.2f} Hz"
        yield f"{name:<{name_width}}  {kind:<{type_width}}{count:>10}{rate:>12}"


def _intervals(intervals: Sequence[Mapping[str, float]], count: int) -> str:
    if not count:
        return "none"
    named = ", ".join(f"{abs(entry['length_s']):.2f} s at {clock(entry['at_s'])}" for entry in intervals)
    return f"{named}; {count} in all" if count > len(intervals) else named


def _bar(share: float) -> str:
    return _BARS[min(len(_BARS) - 1, max(0, int(share * len(_BARS))))]
