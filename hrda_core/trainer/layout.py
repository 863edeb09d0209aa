"""The memory format in which the networks of a run are trained."""

from __future__ import annotations

import torch
from torch import nn

from hrda_core.models.depthwise import quicken_depthwise
from hrda_core.models.timm_encoder import TimmEncoder

__all__ = ["lay_out"]


def lay_out(network: nn.Module, encoder: nn.Module, channels_last: bool | None) -> None:
    """Put a network's weights into the memory format that its device is fast with.

    On a CPU, channels-last convolutions make sense with depthwise convolutions of our own alone.

    Args:
        network: student, teacher or any other network of the run, on its device.
        encoder: the student's encoder.
        channels_last: `RuntimeConfig.channels_last`.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    if channels_last is None:
        channels_last = on_cpu and isinstance(encoder, TimmEncoder)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        if on_cpu:
            quicken_depthwise(network)
