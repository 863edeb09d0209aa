"""The Mix Transformer encoder: names, sizes, regularisation, export, and images that are none."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_weights, weights_manifest
from torch import Tensor, nn

from hrda_core.errors import ImageError, RecipeError
from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.hrda import HRDA
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.models.segmenter import Segmenter


@pytest.fixture(scope="module")
def encoder() -> MixTransformer:
    network = MixTransformer("b0", drop_path=0.5)
    network.load_state_dict(golden_weights("encoder"))
    return network.eval()


def _image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _hrda(variant: str) -> HRDA:
    backbone = MixTransformer(variant)
    attention = DAFormerHead(backbone.channels, 19, fusion="conv1")
    return HRDA(backbone, DAFormerHead(backbone.channels, 19), attention)


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("b0", 3_319_392),
        ("b1", 13_151_424),
        ("b2", 24_196_288),
        ("b3", 44_072_128),
        ("b4", 60_842_688),
        ("b5", 81_443_008),
    ],
)
def test_each_variant_has_the_papers_parameter_count(variant: str, count: int) -> None:
    with torch.device("meta"):
        assert _count(MixTransformer(variant)) == count


def test_the_papers_networks_have_the_papers_parameter_counts() -> None:
    with torch.device("meta"):
        assert _count(_hrda("b5")) == 85_685_990
        assert _count(_hrda("b0")) == 7_300_230
        backbone = MixTransformer("b5")
        assert _count(Segmenter(backbone, DAFormerHead(backbone.channels, 19))) == 85_155_283


def test_names_and_shapes_are_those_of_the_released_b5_checkpoints() -> None:
    with torch.device("meta"):
        network = _hrda("b5")
    lines = "\n".join(f"{name} {list(value.shape)}" for name, value in sorted(network.state_dict().items()))
    # Made from `hrda_segmentor` of ../shared/golden/manifest_mit_b5.json; the next test compares name by name.
    assert (
        hashlib.sha256(lines.encode()).hexdigest() == "30cc72ceb258f2888120a1f001caa209d8d011292c2230efc1a905b05f6a88cd"
    )


@pytest.mark.parametrize("entry", ["mit_b5_backbone_file", "hrda_segmentor", "daformer_segmentor"])
def test_names_and_shapes_equal_the_manifest(shared_dir: Path, entry: str) -> None:
    import json

    manifest = json.loads((shared_dir / "golden" / "manifest_mit_b5.json").read_text("utf-8"))[entry]["entries"]
    with torch.device("meta"):
        backbone = MixTransformer("b5")
        network = {
            "mit_b5_backbone_file": lambda: backbone,
            "hrda_segmentor": lambda: _hrda("b5"),
            "daformer_segmentor": lambda: Segmenter(backbone, DAFormerHead(backbone.channels, 19)),
        }[entry]()
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == {
        name: shape for name, (shape, _) in manifest.items()
    }


def test_names_and_shapes_of_b0_equal_the_golden_weights() -> None:
    own = {name: list(value.shape) for name, value in _hrda("b0").state_dict().items()}
    assert own == {name: shape for name, (shape, _, _) in weights_manifest().items()}


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (7, 3), (28, 28), (29, 30), (90, 134), (64, 96)])
def test_any_image_size_gives_finite_contiguous_maps_of_the_convolutions_size(
    encoder: MixTransformer, size: tuple[int, int]
) -> None:
    with torch.inference_mode():
        maps = encoder(_image(1, 3, *size))
    for features, channels, stride in zip(maps, encoder.channels, (4, 8, 16, 32), strict=True):
        assert features.shape == (1, channels, *(math.ceil(side / stride) for side in size))
        assert features.is_contiguous()
        assert features.isfinite().all()


def test_a_batch_gives_what_its_images_give_alone(encoder: MixTransformer) -> None:
    batch = _image(3, 3, 64, 96)
    with torch.inference_mode():
        together = encoder(batch)
        alone = [encoder(batch[index : index + 1]) for index in range(3)]
    for level, features in enumerate(together):
        torch.testing.assert_close(features, torch.cat([maps[level] for maps in alone]), rtol=1e-5, atol=1e-5)


def test_a_batch_of_none_gives_empty_maps(encoder: MixTransformer) -> None:
    assert [tuple(features.shape) for features in encoder(torch.zeros(0, 3, 64, 32))] == [
        (0, 32, 16, 8),
        (0, 64, 8, 4),
        (0, 160, 4, 2),
        (0, 256, 2, 1),
    ]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.zeros(3, 64, 64), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 4, 64, 64), r"\(1, 4, 64, 64\)"),
        (torch.zeros(1, 3, 0, 64), r"\(1, 3, 0, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.float64), r"\.to\(torch.float32\)"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(encoder: MixTransformer, image: Tensor, says: str) -> None:
    with pytest.raises(ImageError, match=says) as refusal:
        encoder(image)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("name", "nearest"), [("b6", "b5"), ("B3", "b3"), ("mit_b2", "b2"), ("swin", "known: b0")])
def test_an_unknown_variant_proposes_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(RecipeError, match=nearest):
        MixTransformer(name)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_drop_path_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(RecipeError, match="drop_path"):
        MixTransformer("b0", drop_path=rate)


def test_drop_path_rises_linearly_from_0_over_all_blocks() -> None:
    with torch.device("meta"):
        network = MixTransformer("b5")
    rates = [module.drop_path for module in network.modules() if hasattr(module, "drop_path")]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 3 + 6 + 40 + 3), atol=1e-12)


def test_drop_path_drops_whole_samples_and_scales_the_others_in_training_only(encoder: MixTransformer) -> None:
    block = encoder.get_submodule("block4.1")  # rate 0.5
    branch = torch.ones(400, 3, 2)
    torch.manual_seed(0)
    assert torch.equal(block._drop(branch), branch)
    block.train()
    try:
        dropped = block._drop(branch)
    finally:
        block.eval()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped.flatten(1).std(dim=1) == 0).all()
    assert 0.4 < float((dropped[:, 0, 0] == 0).float().mean()) < 0.6


def test_checkpointed_blocks_give_the_same_gradients_drop_path_included() -> None:
    gradients = []
    for checkpoint_blocks in (False, True):
        network = MixTransformer("b0", drop_path=0.5, checkpoint_blocks=checkpoint_blocks)
        network.load_state_dict(golden_weights("encoder"))
        torch.manual_seed(3)
        sum(features.square().mean() for features in network.train()(_image(3, 3, 32, 32))).backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-6, atol=1e-8, msg=name)


def test_checkpointing_keeps_fewer_bytes_for_the_backward_pass() -> None:
    kept = []
    for checkpoint_blocks in (False, True):
        network = MixTransformer("b0", checkpoint_blocks=checkpoint_blocks)
        tensors: dict[int, int] = {}

        def remember(tensor: Tensor, tensors: dict[int, int] = tensors) -> Tensor:
            tensors[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            maps = network(_image(1, 3, 64, 64))
        kept.append(sum(tensors.values()) - 4 * _count(network))
        del maps
    assert kept[1] < kept[0] / 3


def test_weights_start_as_the_specification_says() -> None:
    torch.manual_seed(0)
    network = MixTransformer("b0")
    linear = network.get_parameter("block4.1.mlp.fc1.weight").detach()
    assert float(linear.std()) == pytest.approx(0.02, rel=0.02)
    depthwise = network.get_parameter("block4.1.mlp.dwconv.dwconv.weight").detach()
    assert float(depthwise.std()) == pytest.approx(math.sqrt(2 / 9), rel=0.03)
    patch_embed = network.get_parameter("patch_embed4.proj.weight").detach()
    assert float(patch_embed.std()) == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.03)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), name


def test_the_traced_graph_serves_any_size_and_batch(encoder: MixTransformer) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    names = ["image", "f1", "f2", "f3", "f4"]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a branch on sizes would be frozen into the graph with a TracerWarning
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            encoder,
            (_image(1, 3, 64, 96),),
            buffer,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in names},
            opset_version=17,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 96), (2, 3, 90, 134), (1, 3, 29, 65)):
        image = _image(*shape)
        with torch.inference_mode():
            expected = encoder(image)
        for own, other in zip(expected, session.run(None, {"image": image.numpy()}), strict=True):
            np.testing.assert_allclose(other, own.numpy(), rtol=1e-4, atol=2e-5)
