"""Tells before an image runs in a graph for any size whether memory is there for its maps, which grow with it."""

from __future__ import annotations

from hrda_core.errors import BackendError
from hrda_core.inference.backends.protocol import Backend
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.memory import free_memory
from hrda_core.window_plan import WindowPlan

__all__ = ["check_room"]

_SMALLEST = 1 << 22
"""Pixels below which nobody looks: 0.3 GB."""

_PIXEL = {"torch": 85, "openvino": 105, "onnxruntime": 150}
"""Bytes that a pixel takes at the least: a little less than was measured for the plan `context` of `hrda_lite`
(`benchmarks/mask_memory.py`). Other plans, larger encoders, and graphs of before, which make logits of the whole image,
take more."""

_OTHER = 80


def check_room(bundle: Bundle, graph: GraphSpec, plan: WindowPlan, backend: Backend) -> None:
    """Refuse an image for which there is surely not enough memory; the kernel would end the process.

    Args:
        graph: graph that is to run.
        plan: how it cuts the image.
        backend: what runs it; on a GPU this machine's memory does not count.

    Raises:
        BackendError: memory is missing.
    """
    pixels = plan.padded_height * plan.padded_width
    if graph.size is not None or pixels < _SMALLEST or backend.info.device != "cpu":
        return
    needed = pixels * _PIXEL.get(backend.info.kind, _OTHER)
    free = free_memory()
    if free is not None and needed > free:
        raise BackendError(
            f"an image of {plan.height}x{plan.width} pixels (height x width) takes {needed / 1e9:.1f} GB or more in "
            f"graph '{graph.file}', and {free / 1e9:.1f} GB are free; shrink images (--long_side)"
        )
