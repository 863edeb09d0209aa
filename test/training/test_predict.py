"""`hrda predict` on images and videos, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from safetensors.torch import save_file
from tiny_bundle import expected_confidence, expected_labels, write_tiny_bundle
from tiny_network import TINY

from hrda_core.data.datasets.servers import SERVERS
from hrda_core.errors import HrdaError
from hrda_core.inference import Predictor
from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_core.models import create_model
from hrda_training.predict import main
from hrda_training.run_predictor import RunPredictor

SIZE = (40, 56)
COLORS = CITYSCAPES19.color_table()


def _picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)


def _write_image(path: Path, number: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = _picture(number)
    cv2.imwrite(str(path), rgb[..., ::-1])
    return rgb


def _predict(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json", str(tmp_path / "result.json")]) == 0
    values: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return values


def _read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, path
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_images_become_masks_and_pictures_under_their_names(tmp_path: Path, tiny_bundle: Path) -> None:
    rgb = _write_image(tmp_path / "in/city/a.png", 1)
    _write_image(tmp_path / "in/b.png", 2)
    out = tmp_path / "out"
    outputs = "overlay,labels,color,confidence"
    result = _predict(tmp_path, tmp_path / "in", "--model", tiny_bundle, "--out", out, "--outputs", outputs)
    assert (result["kind"], result["written"], result["unreadable"]) == ("images", 2, 0)
    labels = expected_labels(rgb)
    np.testing.assert_array_equal(_read(out / "labels/city/a.png"), labels)
    np.testing.assert_array_equal(_read(out / "confidence/city/a.png"), expected_confidence(rgb))
    np.testing.assert_array_equal(_read(out / "color/city/a.png"), COLORS[labels])
    overlay = cv2.imencode(".jpg", cv2.addWeighted(rgb, 0.5, COLORS[labels], 0.5, 0)[..., ::-1])[1]
    assert (out / "overlay/city/a.jpg").read_bytes() == overlay.tobytes()
    assert json.loads((out / "classes.json").read_text())["classes"][0]["name"] == "road"
    assert _files(out) == sorted(
        ["classes.json", "predict.json"]
        + [f"{kind}/{name}.png" for kind in ("labels", "color", "confidence") for name in ("b", "city/a")]
        + ["overlay/b.jpg", "overlay/city/a.jpg"]
    )
    assert not (tmp_path / "out.part").exists()


def test_the_marker_says_which_model_made_the_masks(tmp_path: Path, tiny_bundle: Path) -> None:
    _write_image(tmp_path / "a.png", 1)
    main([str(tmp_path / "a.png"), "--model", str(tiny_bundle), "--out", str(tmp_path / "out"), "--plan", "context"])
    about = json.loads((tmp_path / "out/predict.json").read_text())
    assert (about["model"], about["plan"], len(about["sha256"])) == ("tiny", "context", 64)
    np.testing.assert_array_equal(_read(tmp_path / "out/labels/a.png"), expected_labels(_picture(1), "context"))


def test_long_side_is_passed_on(tmp_path: Path, tiny_bundle: Path) -> None:
    rgb = _write_image(tmp_path / "a.png", 1)
    main([str(tmp_path / "a.png"), "--model", str(tiny_bundle), "--out", str(tmp_path / "out"), "--long_side", "28"])
    expected = Predictor(tiny_bundle, long_side=28)(rgb).labels
    assert not np.array_equal(expected, expected_labels(rgb))
    np.testing.assert_array_equal(_read(tmp_path / "out/labels/a.png"), expected)


@pytest.mark.parametrize("options", [(), ("--value_range", "0", "4095")])
def test_images_of_twelve_bits_give_the_masks_of_those_of_eight(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    (tmp_path / "in").mkdir()
    rgb = _picture(1)
    cv2.imwrite(str(tmp_path / "in" / "a.png"), (rgb[..., ::-1].astype(np.uint16) << 4) + 15)
    (tmp_path / "in" / "b.heic").write_bytes(b"?")
    result = _predict(tmp_path, tmp_path / "in", "--model", tiny_bundle, "--out", tmp_path / "out", *options)
    np.testing.assert_array_equal(_read(tmp_path / "out/labels/a.png"), expected_labels(rgb))
    assert result["remarks"][0].startswith("left out: 1 .heic")
    assert result["remarks"][1] == "16-bit pixels: 0..4095 become 0..255"
    assert "16-bit pixels" in capsys.readouterr().out
    dark = ["--model", tiny_bundle, "--out", tmp_path / "dark", "--value_range", "0", "65535"]
    assert "near black" in _predict(tmp_path, tmp_path / "in", *dark)["remarks"][1]
    with pytest.raises(HrdaError, match="makes no sense"):
        main([*map(str, [tmp_path / "in", *dark]), "--value_range", "9", "9"])


def test_pixels_that_do_not_count_get_class_255_and_confidence_0(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb = _write_image(tmp_path / "in/a.png", 1)
    cv2.imwrite(str(tmp_path / "in/wide.png"), np.zeros((8, 400, 3), np.uint8))
    (tmp_path / "areas.yaml").write_text(f"/front/image_raw: {{size: [{SIZE[1]}, {SIZE[0]}], region: hood.png}}")
    counts = np.zeros(SIZE, np.uint8)
    counts[: SIZE[0] // 2] = 255
    cv2.imwrite(str(tmp_path / "hood.png"), counts)
    out, options = tmp_path / "out", ["--camera_areas", tmp_path / "areas.yaml", "--outputs", "labels,confidence,color"]
    result = _predict(tmp_path, tmp_path / "in", "--model", tiny_bundle, "--out", out, *options)
    expected = np.where(counts > 0, expected_labels(rgb), 255)
    np.testing.assert_array_equal(_read(out / "labels/a.png"), expected)
    np.testing.assert_array_equal(_read(out / "confidence/a.png"), np.where(counts > 0, expected_confidence(rgb), 0))
    assert not _read(out / "color/a.png")[SIZE[0] // 2 :].any()
    assert (result["written"], result["unreadable"]) == (1, 1)
    assert "the camera's area is for" in result["unreadable_first"][0]["reason"]
    assert len(json.loads((out / "predict.json").read_text())["camera_areas"]) == 64


def test_pixels_of_a_video_that_do_not_count_get_class_255(tmp_path: Path, tiny_bundle: Path) -> None:
    video = _write_video(tmp_path / "drive.avi", 2)
    (tmp_path / "areas.yaml").write_text(
        f"/front: {{size: [{SIZE[1]}, {SIZE[0]}], region: [[0, 0], [{SIZE[1]}, 0], [{SIZE[1]}, 4], [0, 4]]}}"
    )
    options = ["--camera_areas", tmp_path / "areas.yaml", "--outputs", "labels"]
    _predict(tmp_path, video, "--model", tiny_bundle, "--out", tmp_path / "out", *options)
    for number in range(2):
        labels = _read(tmp_path / f"out/labels/frame_{number:06d}.png")
        assert (labels[5:] == 255).all()
        assert (labels[:5] != 255).all()


def test_images_that_only_a_suffix_tells_apart_keep_it(tmp_path: Path, tiny_bundle: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        _write_image(tmp_path / "in" / name, 1)
    out = tmp_path / "out"
    _predict(tmp_path, tmp_path / "in", "--model", tiny_bundle, "--out", out, "--outputs", "labels")
    assert _files(out / "labels") == ["a.jpg.png", "a.png.png", "b.png"]


def test_an_image_that_does_not_decode_is_named_and_left_out(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_image(tmp_path / "in/a.png", 1)
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    result = _predict(tmp_path, tmp_path / "in", "--model", tiny_bundle, "--out", out)
    assert (result["frames"], result["written"], result["unreadable"]) == (2, 1, 1)
    assert "broken.png" in result["unreadable_first"][0]["name"]
    assert "broken.png" in capsys.readouterr().out
    assert _files(out / "labels") == ["a.png"]


def test_where_nothing_can_be_read_nothing_is_written(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    with pytest.raises(HrdaError, match=r"none of 1 frames.*broken\.png"):
        main([str(tmp_path / "in"), "--model", str(tiny_bundle), "--out", str(tmp_path / "out")])
    assert not list(tmp_path.glob("out*"))


def test_a_result_below_its_input_is_no_input_the_next_time(tmp_path: Path, tiny_bundle: Path) -> None:
    _write_image(tmp_path / "in/a.png", 1)
    for _ in range(2):
        assert _predict(tmp_path, tmp_path / "in", "--model", tiny_bundle, "--out", tmp_path / "in/out")["written"] == 1


def test_an_earlier_result_is_replaced_and_other_folders_are_not(tmp_path: Path, tiny_bundle: Path) -> None:
    out = tmp_path / "out"
    for name in ("a", "b"):
        _write_image(tmp_path / name / f"{name}.png", 1)
        _predict(tmp_path, tmp_path / name, "--model", tiny_bundle, "--out", out)
    assert _files(out / "labels") == ["b.png"]
    with pytest.raises(HrdaError, match="no earlier result"):
        main([str(tmp_path / "a"), "--model", str(tiny_bundle), "--out", str(tmp_path / "b")])
    assert _files(tmp_path / "b") == ["b.png"]


def _interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """Ctrl-C in the middle of inference `count + 1`; returns a list that grows with every inference."""
    real, calls = Predictor.__call__, [0]

    def predict(self: Predictor, rgb: np.ndarray) -> Any:
        if len(calls) > count:
            raise KeyboardInterrupt
        calls.append(1)
        return real(self, rgb)

    monkeypatch.setattr(Predictor, "__call__", predict)
    return calls


def test_an_interrupted_call_leaves_the_earlier_result_and_is_resumed(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_image(tmp_path / "old/old.png", 9)
    for number in range(5):
        _write_image(tmp_path / f"in/{number}.png", number)
    command = [tmp_path / "in", "--model", tiny_bundle, "--out", tmp_path / "out"]
    _predict(tmp_path, tmp_path / "old", *command[1:])
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            main([str(word) for word in command])
    assert _files(tmp_path / "out/labels") == ["old.png"]
    result = _predict(tmp_path, *command, "--resume")
    assert (result["skipped"], result["written"]) == (3, 2)
    assert _files(tmp_path / "out/labels") == [f"{number}.png" for number in range(5)]
    assert not (tmp_path / "out.part").exists()


def test_work_that_was_begun_with_an_option_more_is_not_resumed(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        _write_image(tmp_path / f"in/{number}.png", number)
    command = [str(tmp_path / "in"), "--model", str(tiny_bundle), "--out", str(tmp_path / "out")]
    (tmp_path / "areas.yaml").write_text(f"/front: {{size: [{SIZE[1]}, {SIZE[0]}]}}")
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            main([*command, "--camera_areas", str(tmp_path / "areas.yaml")])
    with pytest.raises(HrdaError, match="begun with another camera_areas"):
        main([*command, "--resume"])


def test_work_that_was_begun_otherwise_is_not_resumed(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        _write_image(tmp_path / f"in/{number}.png", number)
    command = [str(tmp_path / "in"), "--model", str(tiny_bundle), "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            main(command)
    with pytest.raises(HrdaError, match="begun with another plan"):
        main([*command, "--resume", "--plan", "context"])
    (tmp_path / "areas.yaml").write_text(f"/front: {{size: [{SIZE[1]}, {SIZE[0]}]}}")
    with pytest.raises(HrdaError, match="begun with another camera_areas"):
        main([*command, "--resume", "--camera_areas", str(tmp_path / "areas.yaml")])
    assert (tmp_path / "out.part").is_dir()
    assert _predict(tmp_path, *command, "--plan", "context")["written"] == 3


def _write_video(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, SIZE[::-1])
    assert writer.isOpened()
    for number in range(frames):
        writer.write(_picture(number))
    writer.release()
    return path


def test_a_video_becomes_masks_of_every_frame_and_an_overlay_video(tmp_path: Path, tiny_bundle: Path) -> None:
    video, out = _write_video(tmp_path / "drive.avi", 4), tmp_path / "out"
    result = _predict(tmp_path, video, "--model", tiny_bundle, "--out", out)
    assert (result["kind"], result["written"], result["remarks"]) == ("videos", 4, [])
    assert _files(out / "labels") == [f"frame_{number:06d}.png" for number in range(4)]
    frame = cv2.VideoCapture(str(video)).read()[1]
    np.testing.assert_array_equal(_read(out / "labels/frame_000000.png"), expected_labels(frame[..., ::-1]))
    overlay = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert overlay.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    count = 0
    while overlay.read()[0]:
        count += 1
    assert count == 4


def test_several_videos_get_a_folder_each(tmp_path: Path, tiny_bundle: Path) -> None:
    videos = [_write_video(tmp_path / f"{name}.avi", 2) for name in ("a", "b")]
    out = tmp_path / "out"
    result = _predict(tmp_path, *videos, "--model", tiny_bundle, "--out", out, "--outputs", "labels")
    assert result["written"] == 4
    assert _files(out / "labels") == [f"{name}/frame_{number:06d}.png" for name in "ab" for number in range(2)]
    assert not list(out.rglob("*.mp4"))


def test_a_cut_video_gives_its_first_frames_and_a_remark(tmp_path: Path, tiny_bundle: Path) -> None:
    video = _write_video(tmp_path / "drive.avi", 8)
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    result = _predict(tmp_path, video, "--model", tiny_bundle, "--out", tmp_path / "out", "--outputs", "labels")
    assert 1 <= result["written"] < 8
    assert f"gave {result['written']} of the 8 frames" in result["remarks"][0]


def test_a_training_run_segments_with_the_network_that_is_asked_for(tmp_path: Path) -> None:
    import torch

    run = tmp_path / "run"
    run.mkdir()
    recipe = {"name": "tiny", "source": {"name": "made"}, "model": {"preset": "hrda_lite", "overrides": TINY}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    torch.manual_seed(0)
    save_file(dict(create_model("hrda_lite", **TINY).state_dict()), run / "model.safetensors")
    rgb = _write_image(tmp_path / "a.png", 1)
    result = _predict(tmp_path, tmp_path / "a.png", "--model", run, "--out", tmp_path / "out", "--outputs", "labels")
    assert (result["model"], result["plan"]) == ("tiny (student)", "overlap")
    np.testing.assert_array_equal(_read(tmp_path / "out/labels/a.png"), RunPredictor(run, device="auto")(rgb))
    with pytest.raises(HrdaError, match="no confidence"):
        main([str(tmp_path / "a.png"), "--model", str(run), "--out", str(tmp_path / "o"), "--outputs", "confidence"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absent.png"], "absent.png.*does not exist"),
        (["note.txt"], "no input by its name"),
        (["empty"], "neither images"),
        (["in", "drive.avi"], "mixture of images and videos"),
        (["in", "--outputs", "labels,mask"], "mask.*labels,color"),
        (["in", "--overlay_alpha", "1.5"], "0 to 1"),
        (["in", "--long_side", "-2"], "--long_side"),
        (["in", "--topic", "/image"], "--topic"),
        (["in", "--copy_camera"], "--copy_camera"),
        (["drive.avi", "--resume"], "--resume"),
        (["in", "--network", "teacher"], "--network"),
        (["in", "--model", "absent"], "absent"),
        (["in", "--plan", "nested"], "nested"),
        (["in", "--camera_areas", "absent.yaml"], "absent.yaml"),
        (["in", "--camera_areas", "two.yaml"], "two.yaml.*for 2 cameras.*one camera"),
        (["in", "--camera_areas", "two.yaml", "--for", "acdc"], "leave --camera_areas out"),
        (["in", "--out", "in"], "is or holds the input"),
        (["in/a.png", "--out", "in"], "is or holds the input"),
        (["in/a.png", "other/a.png"], "same name"),
        (["in", "--out", "note.txt"], "note.txt.*no earlier result"),
        (["in", "--out", "note.txt/out"], "cannot be written"),
    ],
)
def test_a_mistake_is_a_sentence_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    _write_image(tmp_path / "in/a.png", 1)
    _write_image(tmp_path / "other/a.png", 1)
    _write_video(tmp_path / "drive.avi", 1)
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "two.yaml").write_text("/front: {size: [4, 4]}\n/rear: {size: [4, 4]}\n")
    monkeypatch.chdir(tmp_path)
    before = _files(tmp_path)
    defaults = [
        word for option, value in (("--model", "bundle"), ("--out", "out")) if option not in arguments
        for word in (option, value)
    ]  # fmt: skip
    with pytest.raises(HrdaError, match=sentence):
        main([*arguments, *defaults])
    assert _files(tmp_path) == before


def _write_test_images(root: Path, layout: str) -> list[str]:
    """Two test images and one of another split, where a data set as downloaded has them; their own file names."""
    folder, ending, *names = {
        "cityscapes": ("leftImg8bit/{}/berlin", "leftImg8bit", "berlin_000000_000019", "berlin_000001_000019"),
        "acdc": ("rgb_anon/fog/{}/GOPR0475", "rgb_anon", "GOPR0475_frame_000041", "GOPR0475_frame_000247"),
        "dark_zurich": ("rgb_anon/{}/night/GOPR0364", "rgb_anon", "GOPR0364_frame_000001", "GP010364_frame_000009"),
    }[layout]
    names = [f"{name}_{ending}" for name in names]
    for number, name in enumerate(names):
        _write_image(root / folder.format("test") / f"{name}.png", number)
    _write_image(root / folder.format("train") / f"{names[0]}.png", 5)
    return names


@pytest.mark.parametrize("whole", [True, False])
def test_masks_for_the_server_of_cityscapes_have_its_names_and_the_ids_of_its_label_files(
    tmp_path: Path, tiny_bundle: Path, whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_test_images(tmp_path / "data", "cityscapes")
    given, out = tmp_path / "data" if whole else tmp_path / "data/leftImg8bit/test", tmp_path / "out"
    result = _predict(tmp_path, given, "--model", tiny_bundle, "--out", out, "--for", "cityscapes")
    assert result["written"] == 2
    names = ["berlin_000000_000019_labelIds.png", "berlin_000001_000019_labelIds.png"]
    assert _files(out) == ["classes.json", *(f"labelIds/{name}" for name in names), "predict.json"]
    # Road is 7, sidewalk 8, building 11, ..., car 26: what the label files of Cityscapes hold.
    ids = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], np.uint8)
    np.testing.assert_array_equal(_read(out / "labelIds" / names[1]), ids[expected_labels(_picture(1))])
    assert f"cd {out} && zip -qr cityscapes.zip labelIds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("server", "folders"),
    [("acdc", ["labelTrainIds"]), ("dark_zurich", ["confidence", "labelTrainIds", "labelTrainIds_invalid"])],
)
def test_masks_for_the_servers_of_the_night_are_train_ids_under_the_names_of_the_images(
    tmp_path: Path, tiny_bundle: Path, server: str, folders: list[str]
) -> None:
    names = _write_test_images(tmp_path / "data", server)
    out = tmp_path / "out"
    _predict(tmp_path, tmp_path / "data", "--model", tiny_bundle, "--out", out, "--for", server)
    pictures = [f"{folder}/{name}.png" for folder in folders for name in names]
    assert _files(out) == sorted(["classes.json", "predict.json", *pictures])
    for number, name in enumerate(names):
        expected = {"confidence": expected_confidence(_picture(number))}
        for folder in folders:
            mask = expected.get(folder, expected_labels(_picture(number)))
            np.testing.assert_array_equal(_read(out / folder / f"{name}.png"), mask)


def test_a_model_whose_classes_are_in_another_order_gives_the_ids_of_the_server(tmp_path: Path) -> None:
    space = LabelSpace("few", ("sky", "road", "car"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    assert SERVERS["cityscapes"].ids(space)[:3].tolist() == [23, 7, 26]
    assert SERVERS["acdc"].ids(space)[:3].tolist() == [10, 0, 13]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["in", "--for", "acdcs"], "did you mean 'acdc'"),
        (["in", "--for", "acdc", "--outputs", "labels"], "leave --outputs out"),
        (["in", "--for", "acdc"], "names like GOPR0475_frame_000041_rgb_anon.png"),
        (["drive.mp4", "--for", "acdc"], "the input is videos"),
        (["data", "--for", "cityscapes", "--model", "farm"], "but the model has soil"),
    ],
)
def test_what_no_server_would_take_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    _write_image(tmp_path / "in/a.png", 1)
    (tmp_path / "drive.mp4").write_bytes(b"")
    _write_test_images(tmp_path / "data", "cityscapes")
    space = LabelSpace("farm", ("soil", "sky"), ((0, 0, 0), (1, 1, 1)))
    write_tiny_bundle(tmp_path / "farm", label_space=space.to_dict())
    write_tiny_bundle(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in arguments else ["--model", "tiny"]
    with pytest.raises(HrdaError, match=sentence):
        main([*arguments, *model, "--out", "out"])
    assert not list(tmp_path.glob("out*"))
