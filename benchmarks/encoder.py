"""MiT encoder against a plain formulation (explicit softmax, one crop at a time): forward, forward + backward, memory.

    benchmarks/encoder.py            # B0
    benchmarks/encoder.py --full     # B0 and B5: some minutes on one core

Three candidates take turns, on the same weights and crops, in one thread:

    ours          scaled_dot_product_attention, channel-first Mix-FFN, all crops in one batch
    ours_looped   the same, one crop at a time
    plain         softmax(q k^T / sqrt(d)) v written out, Mix-FFN on tokens with transposed maps, one crop at a time

Times are CPU time of the process, which other programs on the machine disturb less than wall time. Memory: bytes kept
between forward and backward (every tensor that autograd saves, parameters not counted), and the growth of the peak
resident size of a fresh process over one forward + backward, gradients already allocated.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.machine import machine
from hrda_core.models.mix_transformer import MixTransformer

WARM_UP = 1
BATCHES = {"b0": (3, 512, 100), "b5": (2, 384, 2)}
"""Variant -> crops in a batch, side of a crop (pixels), most repeats. A 512 x 1024 image has 3 crops of 512."""


def main() -> int:
    """Measure every asked-for variant; print and record."""
    parser = argparse.ArgumentParser(description="time and memory of the MiT encoder against a plain formulation")
    parser.add_argument("--full", action="store_true", help="B5 as well as B0")
    parser.add_argument("--repeats", type=int, default=7, help="measured runs of B0; B5 takes at most 2")
    options = parser.parse_args()
    before = machine()
    torch.set_num_threads(1)
    figures = {}
    for variant in ("b0", "b5") if options.full else ("b0",):
        crops, side, most = BATCHES[variant]
        figures[variant] = _measure(variant, crops, side, min(options.repeats, most))
        _show(variant, figures[variant])
    settings = {"crops_side_most_repeats": BATCHES, "threads": 1, "clock": "process CPU time"}
    print(f"written: {write_record('encoder', figures=figures, settings=settings, before=before).relative_to(ROOT)}")
    return 0


def _measure(variant: str, crops: int, side: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    ours = MixTransformer(variant, drop_path=0.0)
    plain = _plain(variant, ours)
    image = torch.randn(crops, 3, side, side)
    candidates: dict[str, Callable[[], list[Tensor]]] = {
        "ours": partial(ours, image),
        "ours_looped": partial(_loop, ours, image),
        "plain": partial(_loop, plain, image),
    }
    with torch.inference_mode():
        expected = candidates["plain"]()
        pairs = zip(candidates["ours"](), expected, strict=True)
        difference = max(float((own - other).abs().max() / other.abs().max()) for own, other in pairs)
        forward = _take_turns(candidates, repeats)
    backward = _take_turns({name: partial(_backward, run) for name, run in candidates.items()}, repeats)
    return {
        "largest_relative_difference_ours_plain": difference,
        "forward": forward,
        "forward_backward": backward,
        "memory_one_crop": {
            "plain": _memory(variant, side, plain=True, checkpoint_blocks=False),
            "ours": _memory(variant, side, plain=False, checkpoint_blocks=False),
            "ours_checkpointed": _memory(variant, side, plain=False, checkpoint_blocks=True),
        },
    }


def _loop(network: nn.Module, image: Tensor) -> list[Tensor]:
    each = [network(image[index : index + 1]) for index in range(image.shape[0])]
    return [torch.cat(levels) for levels in zip(*each, strict=True)]


def _backward(run: Callable[[], list[Tensor]]) -> None:
    torch.stack([features.square().mean() for features in run()]).sum().backward()


def _take_turns(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + WARM_UP):
        for name, run in candidates.items():
            begin = time.process_time()
            run()
            if repeat >= WARM_UP:
                seconds[name].append(time.process_time() - begin)
    return {name: milliseconds(values) for name, values in seconds.items()}


def _memory(variant: str, side: int, *, plain: bool, checkpoint_blocks: bool) -> dict[str, float]:
    """In a fresh process, whose peak resident size nothing else has raised."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory_of_one_step, (variant, side, plain, checkpoint_blocks))


def _memory_of_one_step(variant: str, side: int, plain: bool, checkpoint_blocks: bool) -> dict[str, float]:
    torch.set_num_threads(1)
    network: nn.Module = MixTransformer(variant, drop_path=0.0, checkpoint_blocks=checkpoint_blocks)
    if plain:
        network = _plain(variant, network)
    _backward(partial(network, torch.randn(1, 3, 64, 64)))  # loads the libraries, allocates the gradients
    image = torch.randn(1, 3, side, side)
    before = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    _backward(partial(network, image))
    growth = _status_mib("VmHWM") - before
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        maps = network(image)
    del maps
    return {"kept_for_backward_mib": round(sum(kept.values()) / 2**20, 1), "peak_rss_growth_mib": round(growth, 1)}


def _status_mib(field: str) -> float:
    """A size from /proc/self/status (Linux; `ru_maxrss` would be the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _plain(variant: str, weights: nn.Module) -> MixTransformer:
    """The same network with attention and Mix-FFN written out."""
    network = MixTransformer(variant, drop_path=0.0)
    network.load_state_dict(weights.state_dict())
    for module in network.modules():
        if hasattr(module, "kv"):
            module.forward = partial(_plain_attention, module)  # type: ignore[method-assign]
        elif hasattr(module, "fc1"):
            module.forward = partial(_plain_mix_ffn, module)  # type: ignore[method-assign]
    return network


def _plain_attention(attention: Any, tokens: Tensor, height: int, width: int) -> Tensor:
    batch, count, channels = tokens.shape
    reduced = tokens
    if attention.sr_ratio > 1:
        grid = tokens.transpose(1, 2).reshape(batch, channels, height, width)
        reduced = attention.norm(attention.sr(grid).flatten(2).transpose(1, 2))
    split = (attention.heads, channels // attention.heads)
    query = attention.q(tokens).reshape(batch, count, *split).permute(0, 2, 1, 3)
    key, value = attention.kv(reduced).reshape(batch, -1, 2, *split).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-2, -1) * split[1] ** -0.5).softmax(dim=-1)
    return attention.proj((weights @ value).transpose(1, 2).reshape(batch, count, channels))


def _plain_mix_ffn(ffn: Any, tokens: Tensor, height: int, width: int) -> Tensor:
    hidden = ffn.fc1(tokens).transpose(1, 2)
    hidden = ffn.dwconv(hidden.reshape(*hidden.shape[:2], height, width))
    return ffn.fc2(F.gelu(hidden.flatten(2).transpose(1, 2)))


def _show(variant: str, figures: dict[str, Any]) -> None:
    print(f"{variant}: ours and plain differ by {figures['largest_relative_difference_ours_plain']:.1e} relative")
    for phase in ("forward", "forward_backward"):
        _show_times(variant, phase, figures[phase])
    for name, memory in figures["memory_one_crop"].items():
        print(f"{variant} {name:<18} " + "  ".join(f"{key} {value}" for key, value in memory.items()))


def _show_times(variant: str, phase: str, times: dict[str, dict[str, float]]) -> None:
    for name in times:
        factor = times["plain"]["p50_ms"] / times[name]["p50_ms"]
        print(f"{variant} {phase:<17} {name:<12} p50 {times[name]['p50_ms']:9.1f} ms  {factor:5.2f} x plain's speed")


if __name__ == "__main__":
    raise SystemExit(main())
