"""The PyTorch back end on the CPU against ONNX Runtime. Its code for GPUs cannot run here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from network_bundle import write_network_bundle

from hrda_core.deploy.network import load_network
from hrda_core.deploy.torch_backend import TorchBackend
from hrda_core.errors import BackendError
from hrda_core.inference import Bundle, predict_logits
from hrda_core.inference.backends import open_backend
from hrda_core.inference.bundle import GraphSpec
from hrda_core.window_plan import PlanChoice

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 128, 192, 3), np.uint8)

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_network_bundle(tmp_path_factory.mktemp("torch") / "small"))


def on_cpu(bundle: Bundle, graph: GraphSpec, precision: str = "fp32") -> TorchBackend:
    return TorchBackend(bundle, graph, threads=1, device="cpu", precision=precision)


@pytest.mark.parametrize(("precision", "equal", "off"), [("fp32", 0.999, 0.5), ("bf16", 0.97, 4.0)])
@pytest.mark.parametrize("plan", ["tiles", "context"])
def test_masks_are_those_of_onnx_runtime(bundle: Bundle, plan: str, precision: str, equal: float, off: float) -> None:
    graph = bundle.graphs[plan]
    labels, confidence = open_backend("onnx", bundle, graph, threads=1)(IMAGE)
    backend = on_cpu(bundle, graph, precision)
    found_labels, found_confidence = backend(IMAGE)
    assert (found_labels.dtype, found_labels.shape) == (np.uint8, labels.shape)
    assert (found_labels == labels).mean() >= equal
    assert np.abs(found_confidence.astype(int) - confidence.astype(int)).mean() <= off
    assert str(backend.info) == f"torch {torch.__version__} CPU, 1 thread, {precision}"


def test_bf16_really_computes_in_bf16(bundle: Bundle) -> None:
    graph = bundle.graphs["tiles"]
    exact, rounded = (on_cpu(bundle, graph, precision)(IMAGE)[1] for precision in ("fp32", "bf16"))
    assert (exact != rounded).any()


def test_a_plan_without_a_file_runs_as_predict_logits_does(bundle: Bundle) -> None:
    image = IMAGE[:, :100, :150]
    labels, confidence = on_cpu(bundle, GraphSpec(PlanChoice("nested"), ""))(image)
    normalised = (torch.from_numpy(image).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    probability, expected = predict_logits(load_network(bundle), normalised, "nested").softmax(1).max(1)
    assert (labels == expected.numpy()).mean() >= 0.999
    assert np.abs(confidence - 255 * probability.numpy()).mean() < 1


def test_graphs_of_one_size_run_too(bundle: Bundle) -> None:
    whole = GraphSpec(PlanChoice("tiles", (2, 2)), "f", size=(128, 192))
    reference = on_cpu(bundle, bundle.graphs["tiles"])(IMAGE)[0]
    assert (on_cpu(bundle, whole)(IMAGE)[0] == reference).mean() >= 0.999
    all_kept, one_kept = (replace(whole, choice=PlanChoice("topk", (2, 2), keep=keep)) for keep in (4, 1))
    assert (on_cpu(bundle, all_kept)(IMAGE)[0] == reference).mean() >= 0.999
    assert (on_cpu(bundle, one_kept)(IMAGE)[0] != reference).any()
    overlap = on_cpu(bundle, replace(whole, choice=PlanChoice("overlap")))
    assert overlap(IMAGE)[0].shape == (1, 128, 192)


def test_a_read_only_image_is_taken(bundle: Bundle) -> None:
    image = IMAGE.copy()
    image.flags.writeable = False
    assert on_cpu(bundle, bundle.graphs["context"])(image)[0].shape == (1, 128, 192)


def test_the_number_of_threads_of_the_process_is_given_back(bundle: Bundle) -> None:
    before = torch.get_num_threads()
    TorchBackend(bundle, bundle.graphs["context"], threads=before + 1, device="cpu")(IMAGE)
    assert torch.get_num_threads() == before


def test_the_choice_by_name_leads_here(bundle: Bundle) -> None:
    backend = open_backend("torch", bundle, bundle.graphs["context"], threads=1)
    assert backend.info.kind == "torch"
    backend.close()
    with pytest.raises(BackendError, match="was closed"):
        backend(IMAGE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "tpu"}, "device 'tpu' is not known"),
        ({"device": "cpu", "precision": "fp16"}, "runs on CPU in fp32 or bf16 here, not in 'fp16'"),
        ({"device": "cpu", "precision": "int8"}, "not in 'int8'"),
        pytest.param({"device": "cuda"}, "sees no NVIDIA GPU", marks=no_gpu),
    ],
)
def test_what_cannot_run_is_one_sentence(bundle: Bundle, changes: dict[str, str], reason: str) -> None:
    with pytest.raises(BackendError, match=reason):
        TorchBackend(bundle, bundle.graphs["tiles"], **changes)  # type: ignore[arg-type]


def test_an_image_that_does_not_fit_is_one_sentence(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"failed on an image of shape \(1, 1, 1, 3\)"):
        on_cpu(bundle, bundle.graphs["tiles"])(IMAGE[:, :1, :1])


def test_topk_needs_a_graph_of_one_size(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="needs a graph of one image size"):
        on_cpu(bundle, GraphSpec(PlanChoice("topk", (2, 2), keep=2), "f"))
