"""Tells before a graph for any size runs whether memory is there for its logits, which it makes of the whole image."""

from __future__ import annotations

from hrda_core.errors import BackendError
from hrda_core.inference.backends.protocol import Backend
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.memory import free_memory
from hrda_core.window_plan import WindowPlan

__all__ = ["check_room"]

_SMALLEST = 1 << 22
"""Pixels below which nobody looks: 1.5 GB in 19 classes."""

_COPIES, _REST = 4, 40
"""What a pixel takes at the least: copies of its logits at one time, and bytes of images and encoder."""


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
    needed = pixels * (_COPIES * 4 * len(bundle.label_space) + _REST)
    free = free_memory()
    if free is not None and needed > free:
        raise BackendError(
            f"an image of {plan.height}x{plan.width} pixels (height x width) takes {needed / 1e9:.1f} GB in graph "
            f"'{graph.file}', and {free / 1e9:.1f} GB are free; shrink images (--long_side), or add a graph for their "
            f"size, which makes masks in bands: hrda export {bundle.path} --size {plan.height}x{plan.width} --plan "
            f"{graph.plan}"
        )
