"""The golden weights that are made anew are those of the reference run, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from golden_weights import digest, draw_weights, golden_weights, weights_manifest


def test_every_drawn_tensor_has_the_recorded_hash() -> None:
    manifest = weights_manifest()
    drawn = draw_weights({name: shape for name, (shape, _, _) in manifest.items()})
    wrong = [name for name, (_, _, sha256) in manifest.items() if digest(drawn[name]) != sha256]
    assert len(manifest) == 250
    assert not wrong


def test_drawn_tensors_equal_the_reference_file(shared_dir: Path) -> None:
    from safetensors.numpy import load_file

    stored = load_file(shared_dir / "golden" / "hrda_mitb0_weights.safetensors")
    drawn = golden_weights()
    assert drawn.keys() == stored.keys()
    for name, values in stored.items():
        np.testing.assert_array_equal(
            drawn[name].numpy().reshape(values.shape), values.astype(drawn[name].numpy().dtype)
        )


def test_the_daformer_and_encoder_subsets_have_the_references_names() -> None:
    assert {name.split(".")[0] for name in golden_weights("daformer")} == {"backbone", "decode_head"}
    assert "conv_seg.weight" in {name.removeprefix("decode_head.") for name in golden_weights("daformer")}
    assert "patch_embed1.proj.weight" in golden_weights("encoder")
