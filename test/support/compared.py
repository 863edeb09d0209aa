"""Two models that disagree on half of every image, where A is right, and a browser that answers which one is."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tiny_bundle import write_tiny_bundle

FRAMES = 5


def write_compared(folder: Path, sides: tuple[int, int] = (64, 128)) -> Path:
    """Write the bundles `a` (named red) and `b` (blue), which read another channel each, and images in `drive`."""
    write_tiny_bundle(folder / "a", name="red")
    write_tiny_bundle(folder / "b", name="blue", default_plan="context")
    (folder / "drive").mkdir()
    rng = np.random.default_rng(0)
    height, width = sides
    for number in range(FRAMES):
        rgb = np.repeat(rng.integers(0, 256, (height, width, 1), np.uint8), 3, axis=2)
        rgb[:, width // 2 :, 2] = rng.integers(0, 256, (height, width - width // 2))
        cv2.imwrite(str(folder / "drive" / f"{number}.png"), rgb[..., ::-1])
    return folder


def request(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Ask the page; returns status, content and headers."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            sent = {"Content-Type": "application/json"} | sent
        connection.request(method, path, content, sent)
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())


def answer(port: int, path: str, number: int, word: str) -> dict[str, Any]:
    """Answer a question; returns what the page shows next."""
    status, content, _ = request(port, "POST", f"{path}answer", {"number": number, "answer": word})
    assert status == 200
    found: dict[str, Any] = json.loads(content)
    return found
