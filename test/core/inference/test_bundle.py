"""Bundles: everything is checked before anything is loaded."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
import yaml
from tiny_bundle import write_tiny_bundle

from hrda_core.errors import BackendError, BundleError
from hrda_core.inference import Predictor
from hrda_core.inference.bundle import Bundle, change_bundle, write_manifest


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def _change_manifest(bundle: Path, **changes: object) -> None:
    path = bundle / "manifest.yaml"
    values = {**yaml.safe_load(path.read_text()), **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))


def test_a_whole_bundle_opens(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.name == "tiny"
    assert opened.graphs["tiles"].choice.grid == (2, 2)
    assert opened.default_plan == "tiles"
    assert len(opened.label_space) == 19


@pytest.mark.parametrize("name", ["model.onnx", "context.onnx"])
def test_one_changed_byte_is_found_and_the_file_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"sha256 of file '{name}'"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "context.onnx"])
def test_a_cut_off_file_is_found_and_the_sizes_named(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-1])
    with pytest.raises(BundleError, match=rf"'{name}' has \d+ bytes, the manifest says \d+"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "context.onnx"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"'{name}' is missing"):
        Bundle.open(bundle)


def test_no_folder_no_manifest_and_garbage_are_told_apart(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder"):
        Bundle.open(tmp_path / "absent")
    with pytest.raises(BundleError, match="is not a folder") as caught:
        Bundle.open(100_000 * "n")
    assert len(str(caught.value)) < 1000
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"has no manifest\.yaml"):
        Bundle.open(tmp_path / "empty")
    (bundle / "manifest.yaml").write_text("{[")
    with pytest.raises(BundleError, match="not readable"):
        Bundle.open(bundle)
    (bundle / "manifest.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="not readable"):
        Bundle.open(bundle)
    (bundle / "manifest.yaml").write_text("just a sentence")
    with pytest.raises(BundleError, match="format_version"):
        Bundle.open(bundle)


@pytest.mark.parametrize("version", [0, 2, "1", 1.5])
def test_another_format_version_names_both_versions(bundle: Path, version: object) -> None:
    _change_manifest(bundle, format_version=version)
    with pytest.raises(BundleError, match=f"format version {version!r}, this release reads 1"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "key",
    ["name", "preset", "label_space", "normalisation", "input", "context_scale", "default_plan", "graphs", "files"],
)
def test_each_missing_key_is_an_error(bundle: Path, key: str) -> None:
    _change_manifest(bundle, **{key: None})
    with pytest.raises(BundleError, match="manifest"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"default_plan": "nested"},
        {"graphs": {"tiles": {"file": "other.onnx"}}},
        {"graphs": ["tiles"]},
        {"input": {"multiple_of": "many", "long_side": 0}},
        {"normalisation": {"mean": [1, 2], "std": [1, 1, 1]}},
        {"files": {"model.onnx": 7}},
        {"files": {"model.onnx": {"bytes": 3}}},
        {"files": {"model.onnx": {"bytes": float("inf"), "sha256": float("nan")}}},
        {"files": {"a\0b": {"bytes": 3, "sha256": ""}}},
        {"files": {3: {"bytes": 3, "sha256": ""}}},
        {"input": {"multiple_of": float("inf"), "long_side": 0}},
        {"input": {"multiple_of": 10**9, "long_side": 0}},
        {"input": {"multiple_of": 0, "long_side": 0}},
        {"input": {"multiple_of": 64, "long_side": float("inf")}},
        {"context_scale": float("nan")},
        {"normalisation": {"mean": [1, 2, float("nan")], "std": [1, 1, 1]}},
        {"normalisation": {"mean": [1, 2, 3], "std": [1, 0, 1]}},
        {"label_space": {"name": "x", "classes": ["a", "b"], "palette": [[0, 0, 10**400], [0, 0, 1]]}},
        {"static_graphs": [{"plan": "tiles", "file": "model.onnx", "size": [10**7, 10**7]}]},
        {"graphs": {"tiles": {"file": "model.onnx", "answer": {"labels": "00", "confidence": "xx"}}}},
        {"graphs": {"tiles": {"file": "model.onnx", "answer": "none"}}},
        {"default_plan": ["tiles"]},
        {"name": "a\x1b[2J\nb"},
        {"name": 60_000 * "n"},
        {"preset": "a\nb"},
    ],
)
def test_f5_a_garbled_value_is_a_bundle_error(bundle: Path, changes: dict[str, object]) -> None:
    _change_manifest(bundle, **changes)
    with pytest.raises(BundleError):
        Bundle.open(bundle)


def test_f5_ten_lines_of_aliases_are_refused_at_once(bundle: Path) -> None:
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 11)]
    text = (bundle / "manifest.yaml").read_text()
    (bundle / "manifest.yaml").write_text("\n".join(["a0: &a0 [x]", *lines, text]))
    begin = time.process_time()
    with pytest.raises(
        BundleError, match=r"manifest\.yaml is not readable \(line \d+, at 'a\d': it holds more than 10000"
    ):
        Bundle.open(bundle)
    assert time.process_time() - begin < 1


def test_f5_a_key_that_is_given_twice_is_refused(bundle: Path) -> None:
    with (bundle / "manifest.yaml").open("a") as file:
        file.write("preset: other\n")
    with pytest.raises(BundleError, match="gives 'preset' twice"):
        Bundle.open(bundle)


def test_a_graph_of_a_plan_that_is_gone_is_left_out_and_asking_for_it_gets_a_sentence(tmp_path: Path) -> None:
    tiles = {"plan": "tiles", "file": "model.onnx", "grid": [2, 2], "size": [64, 64]}
    rotate = {**tiles, "plan": "rotate", "keep": 1, "memory": [4, 19, 8, 8]}
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "old", static_graphs=[rotate, tiles]))
    assert [graph.plan for graph in bundle.static_graphs] == ["tiles"]
    with pytest.raises(BackendError, match=r"'rotate' of earlier releases is gone, .* use 'topk'"):
        Predictor(bundle, plan="rotate")


@pytest.mark.parametrize("name", ["../secret", "sub/../../secret", "/etc/hostname", ""])
def test_f12_a_file_outside_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_text("x")
    _change_manifest(bundle, files={name: {"bytes": 1, "sha256": "0"}})
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 4000 + "b"])
def test_f12_a_file_whose_name_no_disk_takes_is_missing_and_named_in_short(bundle: Path, name: str) -> None:
    _change_manifest(bundle, files={name: {"bytes": 1, "sha256": "0"}})
    with pytest.raises(BundleError, match="is missing") as raised:
        Bundle.open(bundle)
    assert len(str(raised.value)) < 1000


def test_a_bundle_of_links_opens_as_colcon_installs_it(bundle: Path, tmp_path: Path) -> None:
    linked = tmp_path / "install" / "share" / "linked"
    linked.mkdir(parents=True)
    for path in bundle.iterdir():
        (linked / path.name).symlink_to(path)
    assert Bundle.open(linked).name == Bundle.open(bundle).name
    (linked / "model.onnx").unlink()
    (tmp_path / "other").write_bytes(bytes((bundle / "model.onnx").stat().st_size))
    (linked / "model.onnx").symlink_to(tmp_path / "other")
    with pytest.raises(BundleError, match=r"sha256 of file 'model\.onnx' does not match"):
        Bundle.open(linked)


def test_hashes_can_be_left_out_but_sizes_cannot(bundle: Path) -> None:
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[-1] ^= 1
    (bundle / "model.onnx").write_bytes(content)
    assert Bundle.open(bundle, verify=False).name == "tiny"
    (bundle / "model.onnx").write_bytes(content[:-1])
    with pytest.raises(BundleError, match=rf"has {len(content) - 1} bytes, the manifest says {len(content)}"):
        Bundle.open(bundle, verify=False)


def test_t10_the_manifest_is_replaced_whole(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "b")
    before = (folder / "manifest.yaml").read_bytes()
    (tmp_path / "before").hardlink_to(folder / "manifest.yaml")
    write_manifest(folder, {"name": "other"})
    assert (folder / "manifest.yaml").read_bytes() != before
    assert (tmp_path / "before").read_bytes() == before, "it was written in place: a kill would leave half of it"
    assert sorted(path.name for path in folder.iterdir()) == ["context.onnx", "manifest.yaml", "model.onnx"]


def test_t10_a_bundle_opens_while_others_change_it_and_no_change_is_lost(bundle: Path) -> None:
    def score(names: range) -> None:
        for name in names:
            change_bundle(
                bundle,
                lambda now, name=name: (
                    {**now.manifest, "scores": {**now.manifest.get("scores", {}), name: 1}},
                    {"MODEL_CARD.md": str(name).encode()},
                ),
            )

    threads = [threading.Thread(target=score, args=(range(start, start + 15),)) for start in (0, 100)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert Bundle.open(bundle).name == "tiny"
    opened = Bundle.open(bundle)
    assert len(opened.manifest["scores"]) == 30
    assert "MODEL_CARD.md" in opened.manifest["files"]
    assert sorted(path.name for path in bundle.iterdir()) == [
        "MODEL_CARD.md", "context.onnx", "manifest.yaml", "model.onnx",
    ]  # fmt: skip
