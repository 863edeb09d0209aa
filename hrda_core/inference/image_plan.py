"""Finds the window plan of a camera image for a bundle, after it is shrunk to `long_side`.

Export and use share this rule. A graph for one image size fits an image when the rule, with the graph's own tiles,
leads to the graph's size.
"""

from __future__ import annotations

import math
from fractions import Fraction

from hrda_core.errors import RecipeError
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.window_plan import Size, SizeRules, WindowPlan, plan_windows

__all__ = ["graph_for_image", "plan_for_graph"]

_ENCODER_STRIDE = 32


def plan_for_graph(bundle: Bundle, graph: GraphSpec, height: int, width: int) -> WindowPlan:
    """Return how a graph cuts an image of `height` x `width` pixels (after `shrunk`).

    The detail crops of an `overlap` plan are not those of the graph, which only its network knows.

    Raises:
        ImageError: a side is below 1.
        RecipeError: the graph's tiles do not fit into the image.
    """
    if graph.size is None:
        multiple: int | None = bundle.multiple_of
    elif graph.plan == "overlap":
        multiple = None
    else:
        multiple = Fraction(bundle.context_scale).limit_denominator(64).denominator * _ENCODER_STRIDE
    rules = SizeRules(
        multiple_of=multiple,
        tile_multiple=_ENCODER_STRIDE if graph.size else 1,
        smallest=math.ceil(_ENCODER_STRIDE / bundle.context_scale) if graph.size else 1,
        context_scale=bundle.context_scale,
    )
    return plan_windows(graph.choice, height, width, rules)


def graph_for_image(bundle: Bundle, plan: str, size: Size, precision: str = "fp32") -> GraphSpec | None:
    """Return the graph that runs on an image of `size` (after `shrunk`), preferably one made for its padded size.

    Args:
        precision: precision of the graph for one size; graphs for any size are `fp32` and serve that precision alone.
    """
    for graph in bundle.static_graphs:
        if (graph.plan, graph.precision) == (plan, precision) and _fits(bundle, graph, size):
            return graph
    return bundle.graphs.get(plan) if precision == "fp32" else None


def _fits(bundle: Bundle, graph: GraphSpec, size: Size) -> bool:
    try:
        cut = plan_for_graph(bundle, graph, *size)
    except RecipeError:  # an image too small for the graph's tiles
        return False
    return (cut.padded_height, cut.padded_width) == graph.size
