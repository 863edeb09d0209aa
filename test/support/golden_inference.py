"""HRDA with the golden weights over the golden image and its own detail boxes, on any device, in any precision."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from golden import golden
from golden_weights import golden_weights
from torch import Tensor

from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.hrda import HRDA
from hrda_core.models.mix_transformer import MixTransformer

ARRAYS = {
    "lr_logits_s4": "context",
    "attention_lr": "attention",
    "hr_logits_s4_merged": "detail",
    "fused_s4": "fused",
}
"""Golden array to the key of `golden_inference` that must equal it."""


def golden_network() -> HRDA:
    """Full-width HRDA of the golden weights, without dropout and stochastic depth."""
    backbone = MixTransformer("b0", drop_path=0.0)
    network = HRDA(
        backbone,
        DAFormerHead(backbone.channels, 19, dropout=0.0),
        DAFormerHead(backbone.channels, 19, fusion="conv1", dropout=0.0),
        detail_crop=(64, 96),
    )
    network.load_state_dict(golden_weights())
    return network


def golden_inference(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Context and merged detail logits, attention and fusion, on the CPU in fp32; `dtype` is that of autocast."""
    expected = golden("hrda_mitb0_inference")
    image = torch.from_numpy(expected["image"]).float().to(device)
    boxes = expected["hr_boxes"].tolist()
    network = golden_network().eval().to(device)
    with torch.inference_mode(), nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype):
        context = network.context(image)
        logits = network.detail(torch.cat([image[:, :, y1:y2, x1:x2] for y1, y2, x1, x2 in boxes])).float()
        total = logits.new_zeros(1, 19, image.shape[2] // 4, image.shape[3] // 4)
        count = torch.zeros_like(total)
        for (y1, y2, x1, x2), crop in zip(boxes, logits, strict=True):
            total[:, :, y1 // 4 : y2 // 4, x1 // 4 : x2 // 4] += crop
            count[:, :, y1 // 4 : y2 // 4, x1 // 4 : x2 // 4] += 1
        detail = total / count
        fused = network.fuse(context, detail)
    found = {"context": context.logits, "attention": context.attention, "detail": detail, "fused": fused}
    return {name: value.float().cpu() for name, value in found.items()}
