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

`tuning` puts LoRA or the tokens of Rein into the blocks (`adapters.py`). Which weights then rest is the trainer's
business: `added` names those that no file of the encoder has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat
from torch import Tensor, nn

from hrda_core.errors import ImageError, RecipeError
from hrda_core.models.adapters import Rein, adapter_names, add_lora, drop_lora
from hrda_core.models.timm_encoder import STRIDES

__all__ = ["PlainViT", "is_plain_vit"]

_TOKEN = 16
"""Pixels of the image that a token stands for, whatever the patch of the network is."""

_PATCHES = (14, 16)
_SAM = "samvit_"


class PlainViT(nn.Module):
    """A plain vision transformer with four maps at strides 4, 8, 16, 32.

    Args:
        name: timm model name, for example `vit_small_patch14_dinov2`.
        tuning: one of `presets.TUNINGS`: `lora` and `rein` put their parts into the blocks.
        rank: rank of the update of LoRA, or of Rein's tokens.
        tokens: Rein's tokens of each block.

    Attributes:
        name: as given.
        channels: channels of the four maps, finest first: a quarter, half, and twice the width of the network.
        strides: (4, 8, 16, 32).
        width: channels of the tokens.
        body: timm's network, which gives the tokens of four blocks as maps.
        enlarge: what makes the four maps of them; random at first.
        rein: Rein's tokens, or None.
        style_hallucination: applied to the image's tokens before positions are added to them; as in `MixTransformer`.
            None = the tokens stay as they are.

    Raises:
        RecipeError: timm does not know the name, or it is no plain ViT for images of any size, or has other patches.
    """

    strides = STRIDES
    pos_embed: nn.Parameter | None
    rein: Rein | None
    style_hallucination: nn.Module | None

    def __init__(self, name: str, tuning: str = "full", rank: int = 16, tokens: int = 100) -> None:
        super().__init__()
        patch, blocks, width = _anatomy(name)
        if patch not in _PATCHES:
            raise RecipeError(f"encoder '{name}' has patches of {patch} pixels; choose one with 14 or 16")
        self.name, self.width = name, width
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
        rotary = getattr(self._network, "rope", None)
        if (
            isinstance(rotary, RotaryEmbeddingCat)
            and not rotary.in_pixels
            and not getattr(rotary, "rotate_half", False)
        ):
            self._network.rope = _Rotary(rotary)
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
        self.register_module("style_hallucination", None)
        self.register_module("rein", None)
        if tuning == "lora":
            add_lora(self._network.blocks, rank)
        elif tuning == "rein":
            self.rein = Rein(blocks, width, tokens, rank)
            self.rein.refine(self._network.blocks)

    @property
    def added(self) -> frozenset[str]:
        """Names of the parameters that no file of the encoder has: the pyramid's, LoRA's, Rein's."""
        names = [name for name, _ in self.named_parameters()]
        return frozenset(adapter_names(names).union(name for name in names if name.startswith("enlarge.")))

    def drop_adapters(self) -> None:
        """Take LoRA and Rein out again: the encoder is the one of its file."""
        drop_lora(self)
        self.rein = None
        for block in self._network.blocks:
            block._forward_hooks.clear()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks again in the backward pass instead of keeping what they computed."""
        self._network.set_grad_checkpointing(enable)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a normalised image (B, 3, H, W) to maps (B, Ci, ceil(H/si), ceil(W/si)) for si in `strides`."""
        if not torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            _check(image)
        height, width = image.shape[2], image.shape[3]
        image = self._for_patches(image)
        if self.style_hallucination is None:
            taps = self._taps(image)
        else:
            taps = self._stylised_taps(image, self.style_hallucination)
        maps = (enlarge(tap) for enlarge, tap in zip(self.enlarge, taps, strict=True))
        return [
            found[:, :, : (height + stride - 1) // stride, : (width + stride - 1) // stride]
            for found, stride in zip(maps, self.strides, strict=True)
        ]

    @property
    def _network(self) -> Any:
        return self.body.model

    def embedded(self, image: Tensor) -> Tensor:
        """Return the image's tokens before positions are added and blocks run: (B, 3, H, W) to a map (B, C, h, w)."""
        tokens: Tensor = self._network.patch_embed(self._for_patches(image))
        return tokens.permute(0, 3, 1, 2)

    def _for_patches(self, image: Tensor) -> Tensor:
        """The image with one patch of the network for each token."""
        image = F.pad(image, (0, -image.shape[3] % STRIDES[-1], 0, -image.shape[2] % STRIDES[-1]))
        if self._patch == _TOKEN:
            return image
        size = tuple(side // _TOKEN * self._patch for side in image.shape[2:])
        return F.interpolate(image, size=size, mode="bilinear", align_corners=False)

    def _stylised_taps(self, image: Tensor, style: nn.Module) -> list[Tensor]:
        """As `_taps`, with `style` between the patches and the blocks, where it may double the batch."""
        tokens = self._network.patch_embed(image)
        changed = style(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        # timm reads the number of images off its input, so that is given as often as there are styles.
        copies = changed.shape[0] // image.shape[0]
        handle = self._network.patch_embed.register_forward_hook(lambda *_: changed)
        try:
            return self._taps(image.repeat(copies, 1, 1, 1))
        finally:
            handle.remove()

    def _taps(self, image: Tensor) -> list[Tensor]:
        """The tokens of four blocks as maps (B, C, rows, columns), with position embeddings of this grid."""
        if self.pos_embed is None:
            return list(self.body(image))
        rows, columns = (side // self._patch for side in image.shape[2:])
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


class _Rotary(nn.Module):
    """timm's rotary positions of EVA-02 and its kin, without `repeat_interleave`: the tracing exporter writes that as
    operations that spoil the shapes of others in the graph."""

    bands: Tensor

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.register_buffer("bands", theirs.bands, persistent=False)
        self._reference, self._offset = theirs.ref_feat_shape, getattr(theirs, "grid_offset", 0.0)
        self._columns_first = getattr(theirs, "grid_indexing", "ij") == "xy"

    def get_embed(self, shape: tuple[int, int]) -> Tensor:
        """Return sines, then cosines, of a grid of rows and columns: (rows * columns, 2 * channels of a head)."""
        sides = [torch.arange(side, device=self.bands.device).float() + self._offset for side in shape]
        if self._reference is not None:
            sides = [place / side * of for place, side, of in zip(sides, shape, self._reference, strict=True)]
        grid = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1)
        grid = grid.flip(-1) if self._columns_first else grid
        angles = (grid[..., None] * self.bands).flatten(-2).flatten(0, 1)
        angles = torch.stack([angles, angles], -1).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], -1)


@lru_cache(maxsize=256)
def is_plain_vit(name: str) -> bool:
    """Return whether timm has a network of that name with one grid of tokens for images of any size.

    SAM has one too, and `PlainViT` says why it is not taken.
    """
    if name.startswith(_SAM):
        return True
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
    if name.startswith(_SAM):
        raise RecipeError(
            f"encoder '{name}' of SAM has relative positions of one image size, so it becomes no graph for any size; "
            f"take DINOv2, DINOv3, EVA-02 or SigLIP"
        )
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
