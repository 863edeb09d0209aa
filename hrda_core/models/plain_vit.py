"""Plain vision transformers of timm as encoders: DINOv2, DINOv3, EVA-02, SigLIP and their kin, under any decoder.

A plain ViT keeps one grid of tokens, a patch of 14 or 16 pixels each, through all its blocks. Decoders want maps at
strides 4, 8, 16 and 32. As in BEiT (arXiv 2106.08254) and the papers that put segmentation decoders on DINOv2, the
outputs of four blocks at equal distances become the four maps: the first is enlarged four times by two transposed
convolutions, the second twice by one, the third stays, and of the fourth the largest value of 2 x 2 tokens is taken.

With patches of 14 pixels the image is resized by 14/16 first, so that a token stands for 16 pixels of the image: the
maps' strides, and with them HRDA's windows, are those of every other encoder. Sides are padded with zeros to a multiple
of 32, and the maps are cut, as for other networks that cut images into patches. Learned position embeddings are
resized to the grid, bicubically and without smoothing, as in DINOv2: that is an operation of ONNX, timm's smoothed
resizing is none. Encoder weights come from a file of timm's; nothing is downloaded here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import ImageError, RecipeError
from hrda_core.models.timm_encoder import STRIDES

__all__ = ["PlainViT", "is_plain_vit"]

_TOKEN = 16
"""Pixels of the image that a token stands for, whatever the patch of the network is."""


class PlainViT(nn.Module):
    """A plain vision transformer with four maps at strides 4, 8, 16, 32.

    Args:
        name: timm model name, for example `vit_small_patch14_dinov2`.

    Attributes:
        name: as given.
        channels: channels of the four maps, finest first: a quarter, half, and twice the width of the network.
        strides: (4, 8, 16, 32).
        body: timm's network, which gives the tokens of four blocks as maps.
        enlarge: what makes the four maps of them; random at first.

    Raises:
        RecipeError: timm does not know the name, or it is no plain ViT for images of any size.
    """

    strides = STRIDES
    pos_embed: nn.Parameter | None

    def __init__(self, name: str) -> None:
        super().__init__()
        patch, blocks, width = _anatomy(name)
        self.name = name
        self.channels = (width // 4, width // 2, width, width)
        taps = tuple(blocks * part // 4 - 1 for part in (1, 2, 3, 4))
        self.body = _build(name, out_indices=taps)
        self._patch = patch
        self._grid: tuple[int, int] = tuple(self._network.patch_embed.grid_size)
        # timm's network gets its position embeddings with each image; DINOv3 turns tokens by their place and has none.
        learned = getattr(self._network, "pos_embed", None)
        self.register_parameter("pos_embed", learned)
        if learned is not None:
            del self._network.pos_embed
            self._network.pos_embed = None
        self.enlarge = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, width // 2, 2, stride=2),
                    nn.GroupNorm(1, width // 2),
                    nn.GELU(),
                    nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
                ),
                nn.ConvTranspose2d(width, width // 2, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a normalised image (B, 3, H, W) to maps (B, Ci, ceil(H/si), ceil(W/si)) for si in `strides`."""
        if not torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            _check(image)
        height, width = image.shape[2], image.shape[3]
        image = F.pad(image, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        rows, columns = image.shape[2] // _TOKEN, image.shape[3] // _TOKEN
        if self._patch != _TOKEN:
            size = (rows * self._patch, columns * self._patch)
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        taps = self._taps(image, rows, columns)
        maps = (enlarge(tap) for enlarge, tap in zip(self.enlarge, taps, strict=True))
        return [
            found[:, :, : (height + stride - 1) // stride, : (width + stride - 1) // stride]
            for found, stride in zip(maps, self.strides, strict=True)
        ]

    @property
    def _network(self) -> Any:
        return self.body.model

    def _taps(self, image: Tensor, rows: int, columns: int) -> list[Tensor]:
        """The tokens of four blocks as maps (B, C, rows, columns), with position embeddings of this grid."""
        if self.pos_embed is None:
            return list(self.body(image))
        height, width = self._grid
        of_place = self.pos_embed.shape[1] - height * width  # tokens without a place may have one each, too
        places = self.pos_embed[:, of_place:].reshape(1, height, width, -1).permute(0, 3, 1, 2)
        places = F.interpolate(places, size=(rows, columns), mode="bicubic", align_corners=False)
        fitting = torch.cat([self.pos_embed[:, :of_place], places.flatten(2).transpose(1, 2)], dim=1)
        # timm then finds embeddings of just the grid that the image has, and leaves them as they are.
        network = self._network
        network.patch_embed.grid_size, network.pos_embed = (rows, columns), fitting
        try:
            return list(self.body(image))
        finally:
            network.pos_embed = None  # it belongs to this image, and a copy of the network must not hold it


@lru_cache(maxsize=256)
def is_plain_vit(name: str) -> bool:
    """Return whether timm has a network of that name with one grid of tokens for images of any size."""
    try:
        _anatomy(name)
    except RecipeError:
        return False
    return True


@lru_cache(maxsize=64)
def _anatomy(name: str) -> tuple[int, int, int]:
    """Pixels of a patch, number of blocks, and width of the tokens."""
    if not timm.is_model(name):
        raise RecipeError(f"there is no encoder '{name}' in timm")
    try:
        with torch.device("meta"):
            info: Any = _build(name).feature_info
            network: Any = timm.create_model(name, pretrained=False)
            blocks = len(network.blocks)
    except Exception as error:  # networks refuse in many ways
        raise RecipeError(f"encoder '{name}' is no plain vision transformer for images of any size") from error
    strides, widths = set(info.reduction()), set(info.channels())
    if len(strides) != 1 or len(widths) != 1 or blocks < len(STRIDES):
        raise RecipeError(
            f"encoder '{name}' has {blocks} blocks and maps at strides {sorted(strides)}; a plain ViT has four blocks "
            f"or more at one stride"
        )
    return strides.pop(), blocks, widths.pop()


def _build(name: str, **options: Any) -> nn.Module:
    body: nn.Module = timm.create_model(name, pretrained=False, features_only=True, dynamic_img_size=True, **options)
    return body


def _check(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[0] < 1 or image.shape[1] != 3 or 0 in image.shape[2:]:
        raise ImageError(
            f"an encoder takes a batch of RGB images (B, 3, H, W), B, H, W 1 or more; got {tuple(image.shape)}", "shape"
        )
