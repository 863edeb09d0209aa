"""The models and drives of benchmarks/verdict.py: what is given, what a candidate could be, and how each is spoilt.

Two halves share no base network, no training and no frame. `FIT` is what the rules of the verdict may be fitted to,
`REPORT` is what they are reported on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hrda_core.bench.record import ROOT
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.frames import evenly_spaced
from hrda_core.data.image_files import read_image, read_labels
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.deploy.network import load_network as load_bundled
from hrda_core.inference import Bundle
from hrda_core.labels import CAMVID11, CITYSCAPES19, IDD7, IGNORE_LABEL, ClassGroups
from hrda_core.models.timm_encoder import load_imagenet_weights
from hrda_core.resizing import resize_map, shrink
from hrda_core.trainer.loading import load_network as load_trained
from hrda_core.uda.adabn import reestimate_batchnorm
from hrda_core.uda.entropy import entropy_loss
from hrda_core.window_plan import PlanChoice
from hrda_core.windows.torch_windows import predict_probs

UInt8Array = npt.NDArray[np.uint8]

DATA = ROOT.parent / "shared" / "data"
PACK = ROOT / "packs" / "streets"
WIDTH = 320
"""All images are shrunk to this width: IDD Lite has no more, and the bench shall end within half an hour."""

FIT, REPORT = "fit", "report"
MAIN = {FIT: "hrda_lite_source", REPORT: "hrda_lite"}
"""Half -> the base network of its variants."""

_MEAN = (127.5, 127.5, 127.5)
_CROP = (160, 224)
_PLAN = PlanChoice("tiles", (1, 1))
"""As the graphs of the bench, and those of the shipped bundles."""


@dataclass(frozen=True)
class Drive:
    """Frames of one drive.

    Attributes:
        name: its name.
        half: `fit` or `report`.
        judged: images that the verdict sees, in order of time.
        labels: their labels, which only the bench sees.
        adapt: images to adapt on; none of them is judged.
        groups: groups that labels are scored in.
    """

    name: str
    half: str
    judged: tuple[Path, ...]
    labels: tuple[Path, ...]
    adapt: tuple[Path, ...]
    groups: ClassGroups


def drives() -> tuple[Drive, ...]:
    """Return all drives; each half has a day, a dusk and an Indian one."""
    return (
        _camvid("day 0006R0", FIT, "0006R0", slice(-24, None), slice(0, 50)),
        _camvid("dusk, first half", FIT, "0001TP", slice(0, 24), slice(31, None)),
        _idd("India, even", FIT, 0),
        _camvid("day 0016E5", REPORT, "0016E5", slice(-24, None), slice(0, 140)),
        _camvid("dusk, second half", REPORT, "0001TP", slice(-24, None), slice(0, 31)),
        _idd("India, odd", REPORT, 1),
    )


def _camvid(name: str, half: str, prefix: str, judged: slice, adapt: slice) -> Drive:
    files = sorted((DATA / "camvid" / "images" / "train").glob(f"{prefix}_*.jpg"))
    chosen = tuple(files[judged])
    labels = tuple(DATA / "camvid" / "labels" / "train" / f"{path.stem}.png" for path in chosen)
    return Drive(name, half, chosen, labels, tuple(evenly_spaced(files[adapt], 40)), CAMVID11)


def _idd(name: str, half: str, odd: int) -> Drive:
    """Sequences are in one half or the other."""

    def mine(path: Path) -> bool:
        return int(path.stem.split("_")[0]) % 2 == odd

    score = DATA / "idd_lite" / "score"
    chosen = tuple([path for path in sorted((score / "images").iterdir()) if mine(path)][:24])
    adapt = [path for path in sorted((DATA / "idd_lite" / "images").iterdir()) if mine(path)]
    labels = tuple(score / "labels" / f"{path.stem}.png" for path in chosen)
    return Drive(name, half, chosen, labels, tuple(evenly_spaced(adapt, 40)), IDD7)


def read(path: Path) -> UInt8Array:
    """Read an image at the size of the bench."""
    return shrink(read_image(path), WIDTH)


def source_part(train: bool) -> tuple[list[Path], list[Path]]:
    """Return images and labels of packs/streets: those to train on, or those that are held out."""
    pack = SourcePack.open(PACK)
    pairs = pack.train_pairs() if train else pack.held_out_pairs()
    return list(pairs.images), list(pairs.labels)


@dataclass(frozen=True)
class Model:
    """A model of the bench.

    Attributes:
        name: its name, unique.
        kind: how it was made; rows of the report.
        base: the base network that it was made from.
        drive: drive that it was made for; empty = it is a model for all drives of its half.
        make: builds the network.
    """

    name: str
    kind: str
    base: str
    drive: str
    make: Callable[[], nn.Module]


class Zoo:
    """Builds the models of a half; what was trained is kept in a folder.

    Args:
        folder: where trained weights are kept.
        half: `fit` or `report`.
    """

    def __init__(self, folder: Path, half: str) -> None:
        self._folder, self._half = folder, half
        self._seed = {FIT: 0, REPORT: 1}[half]
        self.drives = [drive for drive in drives() if drive.half == half]

    def models(self) -> list[Model]:
        """Return all models of the half, in an order in which each finds what it is made from."""
        main = MAIN[self._half]
        found = [
            Model(main, "as trained", main, "", lambda: self._main()),
            Model("other", "another training", "other", "", lambda: self._kept("other", self._other)),
            Model("labelled", "trained on labels", "labelled", "", lambda: self._kept("labelled", self._labelled)),
            Model("statistics of the source", "statistics", main, "", lambda: self._normed(self._main(), _source())),
            Model("statistics of noise", "spoilt", main, "", lambda: self._normed(self._main(), _noise())),
            *(
                Model(f"without {name}", "spoilt", main, "", lambda name=name: _erased(self._main(), name))
                for name in ("sidewalk", "car")
            ),
            Model("colours swapped", "spoilt", main, "", lambda: _colours_swapped(self._main())),
            *(
                Model(f"{a} and {b} swapped", "spoilt", main, "", lambda a=a, b=b: _classes_swapped(self._main(), a, b))
                for a, b in (("road", "sidewalk"),)
            ),
            *(
                Model(f"weights with noise {noise:g}", "spoilt", main, "", lambda noise=noise: self._shaken(noise))
                for noise in (0.1,)
            ),
        ]
        for number, drive in enumerate(self.drives):
            found += self._for_drive(drive, self.drives[number - 1])
        return found

    def _for_drive(self, drive: Drive, other: Drive) -> Iterator[Model]:
        main = MAIN[self._half]

        def add(name: str, kind: str, make: Callable[[], nn.Module], base: str = main) -> Model:
            return Model(f"{name} ({drive.name})", kind, base, drive.name, make)

        here, there = _images(drive.adapt), _images(other.adapt)
        yield add("instant", "instant", lambda: self._normed(self._main(), here))
        yield add("instant of other", "instant", lambda: self._normed(self._network("other"), here), "other")
        yield add("statistics of all layers", "statistics", lambda: self._normed(self._main(), here, whole=True))
        yield add("statistics of another drive", "statistics", lambda: self._normed(self._main(), there))
        yield add("statistics of blurred frames", "statistics", lambda: self._normed(self._main(), here.blurred()))
        yield add("labels given once", "own labels", lambda: self._labelled_once(drive, "beside source"))
        yield add("labels given once, alone", "own labels", lambda: self._labelled_once(drive, "alone"))
        if drive is self.drives[0]:
            return
        yield add("self-trained", "self-trained", lambda: self._trained(drive, "teacher", 25))
        yield add("self-trained too long", "self-trained", lambda: self._trained(drive, "hard", 40))
        yield add("collapsed", "spoilt", lambda: self._trained(drive, "entropy", 30))

    # Bases.

    def _main(self) -> nn.Module:
        return base_network(MAIN[self._half])

    def _network(self, name: str) -> nn.Module:
        return next(model for model in self.models() if model.name == name).make()

    def _kept(self, name: str, train: Callable[[], nn.Module]) -> nn.Module:
        path = self._folder / f"{self._half}_{name}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            state = {key: value.contiguous() for key, value in train().state_dict().items()}
            save_file(state, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        network = self._main()
        network.load_state_dict(load_file(path))
        return network.eval()

    def _other(self) -> nn.Module:
        """From ImageNet's encoder and random decoders, on renderings: shares nothing with the main network."""
        torch.manual_seed(self._seed)
        network = copy.deepcopy(self._main())
        for module in network.decode_head.modules():  # type: ignore[union-attr]
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        load_imagenet_weights(network.backbone)  # type: ignore[arg-type]
        pairs = _pairs(*source_part(train=True), 200, self._seed)
        return _supervised(network, pairs, steps=80, rate=1e-3, seed=self._seed, fresh=True)

    def _labelled(self) -> nn.Module:
        """The main network after some steps on labelled frames of the half's day drive, none of which is judged."""
        drive = self.drives[0]
        labels = [DATA / "camvid" / "labels" / "train" / f"{path.stem}.png" for path in drive.adapt]
        pairs = _pairs(list(drive.adapt), labels, 40, self._seed)
        return _supervised(self._main(), pairs, steps=30, rate=5e-4, seed=self._seed)

    # Variants.

    def _normed(self, network: nn.Module, images: Sequence[UInt8Array], whole: bool = False) -> nn.Module:
        """Statistics of images, of the decoder alone or of all layers."""
        batches = [torch.stack([tensor(rgb) for rgb in images[start::4]]) for start in range(4)]
        reestimate_batchnorm(network, batches, plan=_PLAN, keep_encoder=not whole)  # type: ignore[arg-type]
        return network.eval()

    def _shaken(self, share: float) -> nn.Module:
        network, generator = self._main(), torch.Generator().manual_seed(self._seed)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 4:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter += share * parameter.std() * noise
        return network

    def _labelled_once(self, drive: Drive, how: str) -> nn.Module:
        """As `hrda adapt` trains: the instant network labels the drive's frames once, and learns them with its source.

        `alone` is without source, three times as fast and not half way back: it has learnt its own labels by heart.
        """
        start = self._normed(self._main(), _images(drive.adapt))

        def train() -> nn.Module:
            network = copy.deepcopy(start)
            parts, rate = [_own_labels(network, drive)], 3e-4
            if how == "beside source":
                parts, rate = [*parts, _pairs(*source_part(train=True), 200, self._seed)], 1e-4
            return _supervised(network, *parts, steps=150, rate=rate, seed=self._seed, whole=True)

        network = self._kept(f"once_{how.replace(' ', '_')}_{_plain(drive)}", train)
        if how == "beside source":
            learnt, half = network.state_dict(), start.state_dict()
            network.load_state_dict({k: v.lerp(half[k], 0.5) if v.ndim else v for k, v in learnt.items()})
        return self._normed(network, _images(drive.adapt))

    def _trained(self, drive: Drive, how: str, steps: int) -> nn.Module:
        return self._kept(
            f"{how}_{steps}_{_plain(drive)}", lambda: _self_trained(self._main(), drive, how, steps, self._seed)
        )


def _plain(drive: Drive) -> str:
    return drive.name.replace(" ", "_").replace(",", "")


def base_network(name: str) -> nn.Module:
    """Load a network of models/."""
    folder = ROOT / "models" / name
    if (folder / "manifest.yaml").is_file():
        return load_bundled(Bundle.open(folder))
    return load_trained(folder)


def tensor(rgb: UInt8Array) -> Tensor:
    """Normalise an image and pad it to the network's grid: (3, H, W)."""
    height, width = (-side % 64 for side in rgb.shape[:2])
    padded = cv2.copyMakeBorder(rgb, 0, height, 0, width, cv2.BORDER_REPLICATE)
    return torch.from_numpy(normalise(padded, _MEAN, _MEAN))


class _Later(Sequence[UInt8Array]):
    """Images that are read when they are used."""

    def __init__(self, paths: Sequence[Path], change: Callable[[UInt8Array], UInt8Array] = lambda rgb: rgb) -> None:
        self._paths, self._change = paths, change

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        if isinstance(key, slice):
            return [self[index] for index in range(*key.indices(len(self)))]
        return self._change(read(self._paths[key]))

    def blurred(self) -> _Later:
        return _Later(self._paths, lambda rgb: np.asarray(cv2.GaussianBlur(rgb, (0, 0), 4), np.uint8))


def _images(paths: Sequence[Path]) -> _Later:
    return _Later(evenly_spaced(list(paths), 16))


def _source() -> _Later:
    return _images(source_part(train=True)[0])


def _noise() -> list[UInt8Array]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (256, WIDTH, 3)).astype(np.uint8) for _ in range(16)]


def _head(network: nn.Module) -> nn.Conv2d:
    head = network.decode_head.head.conv_seg  # type: ignore[union-attr]
    assert isinstance(head, nn.Conv2d)
    return head


@torch.no_grad()
def _erased(network: nn.Module, name: str) -> nn.Module:
    head, index = _head(network), CITYSCAPES19.classes.index(name)
    assert head.bias is not None
    head.bias[index] = -1e4
    return network


@torch.no_grad()
def _classes_swapped(network: nn.Module, one: str, two: str) -> nn.Module:
    head, pair = _head(network), [CITYSCAPES19.classes.index(name) for name in (one, two)]
    for values in (head.weight, head.bias):
        assert values is not None
        values[pair] = values[pair[::-1]].clone()
    return network


@torch.no_grad()
def _colours_swapped(network: nn.Module) -> nn.Module:
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == 3
    first.weight.copy_(first.weight[:, [2, 1, 0]].clone())
    return network


# Training: small crops, few steps, one thread.

Pairs = list[tuple[UInt8Array, UInt8Array]]


def _pairs(images: list[Path], labels: list[Path], count: int, seed: int) -> Pairs:
    """Every half draws other images."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    found = []
    for index in chosen.tolist():
        rgb = read(images[index])
        found.append((rgb, resize_map(read_labels(labels[index]), *rgb.shape[:2])))
    return found


def _crop(rgb: UInt8Array, labels: UInt8Array, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    (height, width), (rows, columns) = _CROP, rgb.shape[:2]
    y, x = int(rng.integers(0, rows - height + 1)), int(rng.integers(0, columns - width + 1))
    rgb, labels = rgb[y : y + height, x : x + width], labels[y : y + height, x : x + width]
    if rng.random() < 0.5:
        rgb, labels = rgb[:, ::-1], labels[:, ::-1]
    gamma, scale = np.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0.7, 1.1, 3)
    light = np.clip(255 * (rgb / 255.0) ** gamma * scale, 0, 255).astype(np.uint8)
    image = cv2.copyMakeBorder(light, 0, -height % 64, 0, -width % 64, cv2.BORDER_REPLICATE)
    padded = cv2.copyMakeBorder(
        np.ascontiguousarray(labels), 0, -height % 64, 0, -width % 64, cv2.BORDER_CONSTANT, value=IGNORE_LABEL
    )
    return torch.from_numpy(normalise(image, _MEAN, _MEAN)), torch.from_numpy(padded.astype(np.int64))


def _batch(pairs: Pairs, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    crops = [_crop(*pairs[int(rng.integers(len(pairs)))], rng) for _ in range(size)]
    return torch.stack([image for image, _ in crops]), torch.stack([labels for _, labels in crops])


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    enlarged = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(enlarged, labels, ignore_index=IGNORE_LABEL)


def _decoder_alone(network: nn.Module) -> None:
    """Training the encoder too would take twice the time."""
    network.eval()
    for parameter in network.backbone.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(False)


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _supervised(
    network: nn.Module,
    *parts: Pairs,
    steps: int,
    rate: float,
    seed: int,
    fresh: bool = False,
    whole: bool = False,
) -> nn.Module:
    """Train on two crops of each part a step: the decoder, or the whole network with its encoder's norms at rest."""
    rng = np.random.default_rng(seed)
    if not whole:
        _decoder_alone(network)
    if fresh or whole:
        network.decode_head.train()  # type: ignore[operator, union-attr]
    optimiser = torch.optim.AdamW(_trainable(network), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    for _ in range(steps):
        images, labels = (torch.cat(both) for both in zip(*(_batch(part, rng, 2) for part in parts), strict=True))
        optimiser.zero_grad()
        _loss(network(images, (1, 1)), labels).backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def _own_labels(network: nn.Module, drive: Drive) -> Pairs:
    """The drive's frames with labels of the network in four views, of each class the surest two thirds."""
    found = []
    for path in drive.adapt:
        rgb = read(path)
        height, width = rgb.shape[:2]
        views = predict_probs(network, tensor(rgb)[None], _PLAN, scales=(1.0, 1.5), flip=True)
        top, labels = views[0, :, :height, :width].max(0)
        found.append((rgb, labels.numpy().astype(np.uint8), top.numpy()))
    values = [np.concatenate([top[labels == c] for _, labels, top in found]) for c in range(len(CITYSCAPES19))]
    sure = np.array([np.quantile(part, 1 / 3) if len(part) else 0.0 for part in values])
    return [(rgb, np.where(top >= sure[labels], labels, np.uint8(IGNORE_LABEL))) for rgb, labels, top in found]


def _self_trained(network: nn.Module, drive: Drive, how: str, steps: int, seed: int) -> nn.Module:
    """Self-training on unlabelled frames: `teacher` as DAFormer does it, `hard` on its own labels, or least entropy.

    The first is sound and short. The second has a rate that is too high, no source and no teacher; the third ends in
    few classes.
    """
    rng = np.random.default_rng(seed)
    frames: Pairs = [(rgb, np.zeros(rgb.shape[:2], np.uint8)) for rgb in map(read, drive.adapt)]
    source = _pairs(*source_part(train=True), 100, seed) if how == "teacher" else []
    teacher = copy.deepcopy(network).eval() if how == "teacher" else network
    _decoder_alone(network)
    optimiser = torch.optim.AdamW(_trainable(network), {"teacher": 3e-4, "hard": 1e-3, "entropy": 1e-3}[how])
    for _ in range(steps):
        images, _ = _batch(frames, rng, 2)
        with torch.no_grad():
            probability = F.interpolate(teacher(images, (1, 1)), images.shape[2:], mode="bilinear").softmax(1)
            top, pseudo = probability.max(1)
        optimiser.zero_grad()
        logits = network(images, (1, 1))
        if how == "entropy":
            loss = entropy_loss(logits)
        elif how == "hard":
            loss = _loss(logits, pseudo)
        else:
            loss = (top > 0.9).float().mean() * _loss(logits, pseudo) + _loss(
                network((batch := _batch(source, rng, 2))[0], (1, 1)), batch[1]
            )
        loss.backward()
        optimiser.step()
        if how == "teacher":
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), network.parameters(), strict=True):
                    slow.lerp_(fast, 0.03)
    return teacher.eval()


__all__ = ["FIT", "MAIN", "PACK", "REPORT", "Drive", "Model", "Zoo", "base_network", "drives", "read", "source_part"]
