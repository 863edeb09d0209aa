"""A TensorRT compiler takes our graphs: parsed, typed, shaped and compiled by the project's own builder, with no GPU.

A refusal fails with the compiler's words. A compiler that cannot be had, does not load, crashes or hangs is a skip that
the summary lists, never a pass. What this proves and what not: docs/results/proof_without_gpu.md.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from tensorrt_rtx import Compiled, RefusedError, compile_graph
from tensorrt_wheels import UnavailableError

pytest.importorskip("torch")
from tensorrt_graphs import REFUSED, deploy_graph, shipped_bundle, write_refused
from tensorrt_parser_rules import broken_rules

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]

TIME_LIMIT_S = 120

GRAPHS = {
    "shipped model, tiles, fp32": ("hrda_lite", "tiles", "fp32", {"size": (512, 640)}),
    "shipped model, tiles, fp16": ("hrda_lite", "tiles", "fp16", {"size": (512, 640)}),
    "shipped model, tiles, int8": ("hrda_lite", "tiles", "int8", {}),
    "shipped model, topk of tiles that overlap, fp16": ("hrda_lite", "topk", "fp16", {"keep": 2, "overlap": 32}),
    "transformer, tiles, fp16": ("hrda_mitb0", "tiles", "fp16", {}),
}
"""Preset, window plan, precision and options of the plan."""


def compiled(path: Path, size: tuple[int, int] | None = None) -> Compiled:
    """Compile, or skip where there is no compiler. A refusal goes on as the error that it is."""
    try:
        return compile_graph(path, size=size, time_limit_s=TIME_LIMIT_S)
    except UnavailableError as error:
        pytest.skip(f"no verdict from TensorRT: {error}")


@pytest.mark.parametrize("plan", ["tiles", "context"])
def test_the_shipped_graphs_of_any_size_compile_for_one_size(plan):
    bundle = shipped_bundle()
    done = compiled(bundle.file(bundle.graphs[plan].file), size=(512, 640))
    assert done.plan_bytes > 10_000_000  # the engine carries the weights: 3.2 million values and more


@pytest.fixture(scope="module", params=GRAPHS)
def exported(request) -> onnx.ModelProto:
    preset, plan, precision, options = GRAPHS[request.param]
    return deploy_graph(preset, plan, precision, **options)


def test_exported_graphs_compile(exported, tmp_path):
    onnx.save(exported, tmp_path / "graph.onnx")
    weights = sum(len(tensor.raw_data) for tensor in exported.graph.initializer)
    assert compiled(tmp_path / "graph.onnx").plan_bytes > weights / 2


def test_exported_graphs_keep_to_what_the_parser_of_jetpack_6_documents(exported):
    assert broken_rules(exported) == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_tensorrt_does_not_take_is_refused(name, tmp_path):
    with pytest.raises(RefusedError, match=r"cannot (read graph|build an engine of)"):
        compiled(write_refused(name, tmp_path))


def test_the_command_reports_each_graph_and_its_status_tells_of_refusals(repository, tmp_path):
    bad, good = write_refused("bytes_transposed_before_the_cast", tmp_path), shipped_bundle().file("context.onnx")
    command = [sys.executable, str(repository / "tools" / "compile_with_tensorrt_rtx.py"), "--size", "128x256"]
    done = subprocess.run([*command, str(bad), str(good)], capture_output=True, text=True, timeout=300)
    if done.returncode == 2:
        pytest.skip(f"no verdict from TensorRT: {done.stderr.strip()}")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith(f"refused   {bad}: ")
    assert second.startswith(f"compiled  {good}: ")
