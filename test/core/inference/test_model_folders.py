"""Where models lie: the user's home, the installed ones, bare names, and copies of what came with the package."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from hrda_core import share_folders, whole_files
from hrda_core.errors import BundleError
from hrda_core.inference import Bundle, model_folders
from hrda_core.inference.bundle import change_bundle
from hrda_core.inference.model_folders import (
    changeable,
    default_model,
    find_model,
    installed_folders,
    is_shipped,
    launch_line,
    models_home,
)

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of installed models of a sourced workspace; nothing else is installed."""
    package = tmp_path / "install" / "hrda_ros" / "share" / "hrda_ros"
    (package / "models").mkdir(parents=True)
    (package / "package.xml").write_text("<package><name>hrda_ros</name></package>")
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(["/opt/ros/none", str(tmp_path / "install" / "hrda_ros")]))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no_python"))
    return package / "models"


@pytest.fixture
def shipped(share: Path) -> Path:
    bundle = write_tiny_bundle(share / "tiny")
    (bundle / "samples").mkdir()
    (bundle / "samples" / "street.png").write_bytes(b"a picture")
    (bundle / "engines").mkdir()
    (bundle / "engines" / "key.plan").write_bytes(b"of this machine")
    return bundle


def test_the_home_is_what_the_variables_say_else_below_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/Jürgen")
    monkeypatch.setenv("HRDA_MODELS", "~/models")
    assert models_home() == Path("/home/Jürgen/models")
    monkeypatch.delenv("HRDA_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert models_home() == Path("/data/hrda/models")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # not valid by the specification
    assert models_home() == Path("/home/Jürgen/.local/share/hrda/models")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    assert models_home() is None


def test_a_name_means_yours_first_then_the_installed_one_then_a_folder_here(
    home: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_bundle(tmp_path / "tiny")
    found = find_model("tiny")
    assert found.path == shipped
    assert found.remark == f"model 'tiny' is '{shipped}' (installed); for the one in this folder write ./tiny"
    mine = write_tiny_bundle(home / "tiny")
    found = find_model("tiny")
    assert found.path == mine
    assert found.remark.startswith(f"model 'tiny' is '{mine}' (yours); there is also '{shipped}' (installed); ")
    assert find_model("elsewhere").path == Path("elsewhere")


@pytest.mark.parametrize("given", ["./tiny", "models/tiny", ".", "..", "/tiny", ""])
def test_a_path_means_itself(given: str, home: Path) -> None:
    write_tiny_bundle(home / "tiny")
    assert find_model(given) == model_folders.FoundModel(Path(given))


def test_the_default_is_the_sourced_workspace_s_else_that_of_the_source_tree(share: Path, repository: Path) -> None:
    assert default_model() == repository / "models" / "hrda_lite"
    write_tiny_bundle(share / "hrda_lite")
    assert default_model() == share / "hrda_lite"
    assert installed_folders() == (share, repository / "models")
    (share.parent / "package.xml").unlink()
    (share.parent / "package.xml").symlink_to(repository / "package.xml")  # colcon build --symlink-install
    assert installed_folders() == (share,)


def test_without_a_model_anywhere_the_sentence_says_what_to_do(
    share: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(share_folders, "__file__", str(tmp_path / "a" / "b.py"))
    with pytest.raises(BundleError, match="name the folder of a bundle"):
        default_model()


def test_what_came_with_the_package_is_known_by_its_place(
    shipped: Path, home: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_shipped(shipped)
    assert is_shipped(repository / "models" / "hrda_lite")
    assert not is_shipped(repository / "models" / "mine")  # of somebody who works in the source tree
    assert not is_shipped(home / "tiny")
    assert not is_shipped(Path("/tiny"))
    (tmp_path / "link").symlink_to(shipped)
    assert is_shipped(tmp_path / "link")
    monkeypatch.setenv("HRDA_MODELS", str(shipped.parent))
    assert not is_shipped(shipped)


def test_a_bundle_of_the_user_is_changed_where_it_is(tiny_bundle: Path, home: Path) -> None:
    assert changeable(tiny_bundle) == tiny_bundle
    assert not home.exists()


def test_a_shipped_bundle_is_copied_once_and_its_copy_changed(shipped: Path, home: Path) -> None:
    said: list[str] = []
    before = {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()}
    assert changeable(shipped, said.append, copy=False) == shipped
    assert not home.exists()
    copy = changeable(shipped, said.append)
    assert copy == home / "tiny"
    assert said == [f"'{shipped}' came with hrda_ros and stays as it is; a copy of it was made: '{copy}'"]
    assert sorted(path.name for path in copy.iterdir()) == ["context.onnx", "manifest.yaml", "model.onnx", "samples"]
    change_bundle(copy, lambda now: (now.manifest, {"graphs/one_size.onnx": b"x"}))
    assert changeable(shipped, said.append) == changeable(shipped, copy=False) == copy
    assert said[1] == f"'{shipped}' came with hrda_ros and stays as it is; its copy is used: '{copy}'"
    assert (copy / "graphs" / "one_size.onnx").is_file()
    assert [path.name for path in home.iterdir()] == ["tiny"]
    assert {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()} == before


def test_a_copy_of_an_install_with_links_and_without_write_permission_can_be_written(
    share: Path, tmp_path: Path, home: Path
) -> None:
    source = write_tiny_bundle(tmp_path / "source")
    (share / "tiny").mkdir()
    for path in source.iterdir():
        path.chmod(0o444)
        (share / "tiny" / path.name).symlink_to(path)
    (share / "tiny").chmod(0o555)
    copy = changeable(share / "tiny")
    (share / "tiny").chmod(0o755)
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    assert all(path.stat().st_mode & 0o200 for path in [copy, *copy.rglob("*")])


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_read_only_bundle_is_copied_too(tmp_path: Path, home: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    bundle.chmod(0o555)
    try:
        said: list[str] = []
        assert changeable(bundle, said.append) == home / "tiny"
        assert "cannot be written and stays as it is" in said[0]
    finally:
        bundle.chmod(0o755)


def test_another_model_of_the_name_is_refused_and_stays(shipped: Path, home: Path) -> None:
    other = write_tiny_bundle(home / "tiny")
    change_bundle(other, lambda now: (now.manifest, {"model.onnx": b"another network"}))
    with pytest.raises(BundleError, match=r"holds another model than .* move it away"):
        changeable(shipped)
    assert (other / "model.onnx").read_bytes() == b"another network"


def test_a_damaged_copy_is_named(shipped: Path, home: Path) -> None:
    copy = changeable(shipped)
    (copy / "context.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"home/tiny'.*context\.onnx"):
        changeable(shipped)


def test_a_home_that_cannot_be_made_or_written_gets_a_sentence(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(BundleError, match=r"cannot be written \(Not a directory\); set HRDA_MODELS to a folder"):
        changeable(shipped)
    (tmp_path / "closed").mkdir()
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path / "closed"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "closed")
    with pytest.raises(BundleError, match=r"closed', cannot be written \(Permission denied\); set HRDA_MODELS"):
        changeable(shipped)
    monkeypatch.setattr(model_folders, "models_home", lambda: None)
    with pytest.raises(BundleError, match="this user has no home folder for a copy; set HRDA_MODELS"):
        changeable(shipped)
    assert changeable(shipped, copy=False) == shipped


def test_c4_a_full_disk_leaves_no_half_copy(shipped: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0

    def copy_file(source: Path, target: Path) -> None:
        nonlocal copied
        copied += 1
        if copied == 3:
            raise OSError(28, "No space left on device")
        target.write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(model_folders, "copy_file", copy_file)
    with pytest.raises(BundleError, match=r"'.*home/tiny' cannot be written \(No space left on device\)"):
        changeable(shipped)
    assert list(home.iterdir()) == []


def test_two_that_copy_at_once_make_one_copy(shipped: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go_on = threading.Event(), threading.Event()
    take_place = whole_files._take_place

    def slow(work: Path, out: Path, old: Path) -> None:
        inside.set()
        assert go_on.wait(60)
        take_place(work, out, old)

    monkeypatch.setattr(whole_files, "_take_place", slow)
    first = threading.Thread(target=changeable, args=(shipped,))
    first.start()
    assert inside.wait(60)
    code = "import sys; from pathlib import Path; from hrda_core.inference.model_folders import changeable;"
    code += "changeable(Path(sys.argv[1]), lambda line: print(line, flush=True))"
    second = subprocess.Popen([sys.executable, "-c", code, str(shipped)], stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert f"process {os.getpid()} is copying a model into '{home}'; waiting for it" in second.stdout.readline()
    go_on.set()
    first.join()
    assert second.wait(60) == 0
    assert "its copy is used" in second.stdout.readline()
    second.stdout.close()
    Bundle.open(home / "tiny")


def test_the_launch_line_can_be_pasted() -> None:
    line = launch_line(Path("/home/Jürgen/my models/night"), "plan:=topk")
    assert line == "ros2 launch hrda_ros segment.launch.py 'model:=/home/Jürgen/my models/night' plan:=topk"
