"""A single-scale segmentation network: one encoder, one decoder (DAFormer, SegFormer, DeepLab and the others)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Segmenter"]


class Segmenter(nn.Module):
    """An encoder and a decoder under the names of the released checkpoints, `backbone` and `decode_head`.

    Args:
        backbone: encoder, (B, 3, H, W) -> list of feature maps, finest first.
        head: decoder, maps -> logits (B, num_classes, H/stride, W/stride); its attribute `stride` is the number of
            image pixels per logit.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stride: int = head.stride  # type: ignore[assignment]
        self.backbone = backbone
        self.decode_head = head

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image (B, 3, H, W) to logits (B, num_classes, H/stride, W/stride)."""
        logits: Tensor = self.decode_head(self.backbone(image))
        return logits
