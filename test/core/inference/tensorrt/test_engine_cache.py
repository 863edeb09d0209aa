"""Engines on disk: every way in which one must not be loaded, with real files. The plans are bytes, not engines."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hrda_core.errors import BackendError
from hrda_core.inference.tensorrt import engine_cache
from hrda_core.inference.tensorrt.engine_cache import EngineCache
from hrda_core.inference.tensorrt.engine_key import engine_key

FACTS = {
    "bundle": "lite",
    "graph": "model.onnx",
    "gpu": "Orin",
    "compute_capability": "8.7",
    "tensorrt": "10.3.0",
    "cuda_driver_major": "12",
    "platform": "linux-aarch64",
    "onnx_sha256": "aa",
}
PLAN, GOLDEN = bytes(range(256)) * 40, b"golden"
KEY = engine_key(FACTS)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    """A cache with one whole engine."""
    cache = EngineCache(tmp_path / "engines")
    cache.get_or_build(FACTS, lambda: PLAN, lambda plan: GOLDEN)
    return cache


def _never() -> bytes:
    raise AssertionError("it was built although it is there")


def test_an_engine_comes_back_as_it_was_built(cache: EngineCache) -> None:
    found = cache.find(FACTS)
    assert found is not None
    assert (found.plan, found.golden, found.path) == (PLAN, GOLDEN, cache.folder / f"{KEY}.plan")
    assert found.manifest["facts"] == FACTS
    assert cache.get_or_build(FACTS, _never).plan == PLAN


def test_where_nothing_was_built_nothing_is_found(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    assert cache.find(FACTS) is None
    assert cache.other_engine(FACTS) is None
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    ("fact", "value", "sentence"),
    [
        ("gpu", "NVIDIA L4", "was built for GPU 'Orin', here it is 'NVIDIA L4'"),
        ("tensorrt", "10.7.0", "was built for TensorRT '10.3.0', here it is '10.7.0'"),
        ("cuda_driver_major", "13", "was built for CUDA driver '12', here it is '13'"),
        ("platform", "linux-x86_64", "was built for platform 'linux-aarch64', here it is 'linux-x86_64'"),
        ("onnx_sha256", "bb", "was built for ONNX graph with sha256 'aa', here it is 'bb'"),
    ],
)
def test_an_engine_for_something_else_is_not_found_and_the_difference_is_told(
    cache: EngineCache, fact: str, value: str, sentence: str
) -> None:
    here = {**FACTS, fact: value}
    assert cache.find(here) is None
    assert sentence in str(cache.other_engine(here))
    # Not under the right name either.
    for suffix in (".plan", ".golden", ".json"):
        shutil.copy(cache.folder / f"{KEY}{suffix}", cache.folder / f"{engine_key(here)}{suffix}")
    with pytest.raises(BackendError, match="was built for"):
        cache.find(here)


def test_engines_of_another_bundle_explain_nothing(cache: EngineCache) -> None:
    assert cache.other_engine({**FACTS, "bundle": "large", "gpu": "NVIDIA L4"}) is None


def test_the_engine_that_differs_least_is_the_one_that_is_told(cache: EngineCache) -> None:
    cache.get_or_build({**FACTS, "gpu": "NVIDIA L4", "compute_capability": "8.9"}, lambda: PLAN)
    assert "TensorRT '10.3.0'" in str(cache.other_engine({**FACTS, "tensorrt": "11.4.0"}))


def _truncate_plan(folder: Path) -> None:
    (folder / f"{KEY}.plan").write_bytes(PLAN[:100])


def _change_plan(folder: Path) -> None:
    (folder / f"{KEY}.plan").write_bytes(b"x" + PLAN[1:])


def _remove_plan(folder: Path) -> None:
    (folder / f"{KEY}.plan").unlink()


def _change_golden(folder: Path) -> None:
    (folder / f"{KEY}.golden").write_bytes(b"xolden")


def _edit_manifest(folder: Path) -> None:
    path = folder / f"{KEY}.json"
    manifest = json.loads(path.read_text())
    manifest["built"]["seconds"] = 1
    manifest["facts"]["gpu"] = "Thor"
    path.write_text(json.dumps(manifest))


def _break_manifest(folder: Path) -> None:
    (folder / f"{KEY}.json").write_text('{"format": 1, "facts"')


def _list_as_manifest(folder: Path) -> None:
    (folder / f"{KEY}.json").write_text("[1, 2]")


def _world_writable_folder(folder: Path) -> None:
    folder.chmod(0o777)


def _group_writable_folder(folder: Path) -> None:
    folder.chmod(0o775)


def _world_writable_plan(folder: Path) -> None:
    (folder / f"{KEY}.plan").chmod(0o666)


def _linked_plan(folder: Path) -> None:
    outside = folder.parent / "outside.plan"
    (folder / f"{KEY}.plan").rename(outside)
    (folder / f"{KEY}.plan").symlink_to(outside)


def _linked_folder(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def _pipe_as_plan(folder: Path) -> None:
    (folder / f"{KEY}.plan").unlink()
    os.mkfifo(folder / f"{KEY}.plan", 0o644)


DAMAGE = [
    (_truncate_plan, r"has 100 bytes, its manifest says 10240"),
    (_change_plan, r"the sha256 of .*\.plan' is not the one"),
    (_remove_plan, r"\.plan' is missing"),
    (_change_golden, r"the sha256 of .*\.golden' is not the one"),
    (_edit_manifest, r"was edited, damaged"),
    (_break_manifest, r"was edited, damaged"),
    (_list_as_manifest, r"was edited, damaged"),
    (_world_writable_folder, r"engines' can be written by its group or by everyone \(mode 0777\)"),
    (_group_writable_folder, r"\(mode 0775\)"),
    (_world_writable_plan, r"\.plan' can be written .* \(mode 0666\)"),
    (_linked_plan, r"\.plan' is a symbolic link"),
    (_linked_folder, r"engines' is a symbolic link"),
    (_pipe_as_plan, r"is not a file"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE, ids=[damage.__name__[1:] for damage, _ in DAMAGE])
def test_p5_f4_a_damaged_or_open_engine_is_refused_with_the_reason(
    cache: EngineCache, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(cache.folder)
    with pytest.raises(BackendError, match=sentence):
        cache.find(FACTS)


@pytest.mark.parametrize("damage", [damage for damage, _ in DAMAGE if "folder" not in damage.__name__])
def test_a_damaged_engine_is_told_and_built_again(cache: EngineCache, damage: Callable[[Path], None]) -> None:
    damage(cache.folder)
    said: list[str] = []
    found = cache.get_or_build(FACTS, lambda: PLAN[::-1], lambda plan: GOLDEN, say=said.append)
    assert found.plan == PLAN[::-1]
    assert len(said) == 1
    assert said[0].endswith("building it now")


@pytest.mark.parametrize("damage", [_world_writable_folder, _group_writable_folder, _linked_folder])
def test_p5_f4_nothing_is_built_into_a_folder_that_others_can_write(
    cache: EngineCache, damage: Callable[[Path], None]
) -> None:
    damage(cache.folder)
    with pytest.raises(BackendError, match="executable code"):
        cache.get_or_build({**FACTS, "gpu": "other"}, _never)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("name", ["", f"{KEY}.plan", f"{KEY}.json", f"{KEY}.golden"])
def test_p5_f4_files_of_another_user_are_refused(cache: EngineCache, name: str) -> None:
    os.chown(cache.folder / name, 12345, 12345)
    with pytest.raises(BackendError, match="belongs to user 12345, expected this user"):
        cache.find(FACTS)


def test_f4_the_umask_does_not_open_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache = EngineCache(tmp_path / "engines")
        cache.get_or_build(FACTS, lambda: PLAN)
    finally:
        os.umask(before)
    assert cache.find(FACTS) is not None


def test_an_engine_that_fails_its_check_is_not_kept(tmp_path: Path) -> None:
    def refuse(plan: bytes) -> bytes:
        raise BackendError("other labels")

    cache = EngineCache(tmp_path / "engines")
    with pytest.raises(BackendError, match="other labels"):
        cache.get_or_build(FACTS, lambda: PLAN, refuse)
    assert not list(cache.folder.iterdir())


def test_a_discarded_engine_is_gone_whole(cache: EngineCache) -> None:
    cache.discard(FACTS)
    assert not list(cache.folder.iterdir())


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("")
    with pytest.raises(BackendError, match="cannot make the folder of engines"):
        EngineCache(tmp_path / "engines").get_or_build(FACTS, lambda: PLAN)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files makes the write of the plan fail in the middle."""
    cache = EngineCache(tmp_path / "engines")
    limits, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PLAN) // 2, limits[1]))
    try:
        with pytest.raises(BackendError, match=r"plan' cannot be written .* nothing was written: make space"):
            cache.get_or_build(FACTS, lambda: PLAN, lambda plan: GOLDEN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, action)
    assert not list(cache.folder.iterdir())


ON_A_FULL_DISK = """
import sys
from pathlib import Path
from hrda_core.errors import BackendError
from hrda_core.inference.tensorrt import engine_cache
from hrda_core.inference.tensorrt.engine_cache import EngineCache
cache = EngineCache(Path(sys.argv[1]) / "engines")
small, large = {"graph": "small"}, {"graph": "large"}
cache.get_or_build(small, lambda: bytes(1000))
try:
    cache.get_or_build(large, lambda: bytes(1 << 20), lambda plan: b"")
except BackendError as error:
    print(error)
print(cache.find(small) is not None, cache.find(large), len(list(cache.folder.iterdir())))
"""


def test_c4_a_full_disk_is_told_and_leaves_nothing_half_written(repository: Path, tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=200k none "$1" || exit 77; exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, ON_A_FULL_DISK]
    if shutil.which("unshare") is None:
        pytest.skip("no command unshare here to make a small disk with")
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"this machine does not let us make a small disk ({done.stderr.strip()})")
    sentence, state = done.stdout.strip().splitlines()
    assert "No space left on device" in sentence
    assert "nothing was written: make space there, or set HRDA_CACHE" in sentence
    assert state == "True None 3"  # the small engine's files


def test_p5_f4_what_is_loaded_is_what_was_checked_though_the_file_changes_in_between(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    read_trusted = engine_cache.read_trusted

    def read_and_change(folder: Path, name: str) -> bytes:
        data = read_trusted(folder, name)
        read.append(name)
        (folder / name).write_bytes(b"evil")
        return data

    monkeypatch.setattr(engine_cache, "read_trusted", read_and_change)
    found = cache.find(FACTS)
    assert found is not None
    assert (found.plan, found.golden) == (PLAN, GOLDEN)
    assert sorted(read) == sorted(f"{KEY}{suffix}" for suffix in (".json", ".plan", ".golden")), "each is read once"


def test_p5_f4_no_back_end_reads_the_file_of_an_engine_again(repository: Path) -> None:
    folder = repository / "hrda_core" / "inference"
    text = {file: file.read_text(encoding="utf-8") for file in folder.rglob("*.py")}
    loading = {file.name for file, source in text.items() if "deserialize_cuda_engine(" in source}
    assert loading, "this is the call that gives code to the GPU"
    for file, source in text.items():
        if file.name in loading:
            assert "read_bytes" not in source
            assert not re.search(r"\bopen\(", source)
