"""The options of an adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hrda_core.adaptation.efforts import EFFORTS, Effort, Labels
from hrda_core.camera_areas import CameraAreas
from hrda_core.data.packs.pack_folders import NO_SOURCE
from hrda_core.data.recordings.worker_choice import WorkerChoice
from hrda_core.errors import RecipeError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS, check_limit
from hrda_core.messages.value_range import range_of
from hrda_core.whole_files import file_sha256

if TYPE_CHECKING:
    from hrda_core.data.frame_selection.frame_selection import SelectionConfig
    from hrda_core.inference.bundle import Bundle
    from hrda_core.trainer.recipe import RuntimeConfig

__all__ = ["CHOICES", "Request"]

CHOICES = ("verdict", "given", "instant", "adapted")
"""Who chooses the model: the judgement, or the user."""


@dataclass(frozen=True)
class Request:
    """The adaptation to carry out. Its attributes are the options of `hrda adapt`, and their help.

    Attributes:
        bag: recordings: rosbag2 folders, .mcap, .db3, ROS 1 .bag
        model: bundle to start from, or its name ('hrda models'); it is never changed
        out: bundle folder for the chosen model; a bundle there is replaced
        topic: camera topics; default: the only one
        source: pack of hrda pack-source, or LAYOUT:ROOT, or a folder of images/ and labels/; default: streets, the pack
            that comes with hrda_ros, if the model has its classes; none = its own surest labels are all there is
        label_space: label space file that brings the source to the model's classes, from its ids, or from the class
            names of a pack
        work: working folder; default: OUT.work
        effort: instant, quick, normal or full; default: quick
        labels: once = the instant candidate labels whole frames once; teacher = HRDA's self-training, a moving average
            of the network labels crops anew in each step; default: as the effort says
        mic: masked image consistency, beside a teacher; default: as the effort says
        frames: largest number of frames to adapt on; 0 = as the effort says
        value_range: of cameras of 16-bit pixels, the values that become black and white, such as 0 4095; default: the
            smallest of 8, 10, 12, 14 and 16 bits that holds the values
        camera_areas: file that says which pixels of each camera's pictures count, the same as for the node; frames are
            cut to the largest rectangle of them
        max_megapixels: pictures whose header states more million pixels are not decoded
        workers: processes that read recordings side by side; the chosen frames are the same, whatever their number
        dask: address of a dask.distributed scheduler whose workers read the recordings instead
        held_out: share of the recording, at its end, that is held out for judging
        choose: verdict, or by hand: given, instant, adapted
        ask: let a person decide between the given model and the candidate after the verdict, on a page of this machine
            ('hrda compare')
        no_open: only print the address of that page
        eval_images: labelled images of the target, for the report alone
        eval_labels: label PNGs of those images
        imagenet: ImageNet weights of the encoder, for the feature distance beside a teacher
        device: where the network is trained
        precision: number format of the training's computation
        threads: CPU threads; 0 = PyTorch's choice
        seed: seed of all randomness
        command: the command line, for the report
    """

    bag: tuple[Path, ...]
    model: Path
    out: Path
    topic: tuple[str, ...] = ()
    source: str | None = None
    label_space: Path | None = None
    work: Path | None = None
    effort: Effort = EFFORTS["quick"]
    labels: Labels | None = None
    mic: bool | None = None
    frames: int = 0
    value_range: tuple[int, int] | None = None
    camera_areas: Path | None = None
    max_megapixels: int = MAX_MEGAPIXELS
    workers: int = 1
    dask: str = ""
    held_out: float = 0.25
    choose: str = "verdict"
    ask: bool = False
    no_open: bool = False
    eval_images: Path | None = None
    eval_labels: Path | None = None
    imagenet: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: int = 0
    seed: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        range_of(self.value_range)  # a mistake shall not wait for the recordings to be read
        check_limit(self.max_megapixels)
        WorkerChoice(self.workers, self.dask)
        if self.choose not in CHOICES:
            raise RecipeError(f"--choose is one of {', '.join(CHOICES)}, not '{self.choose}'")
        if self.ask and self.choose != "verdict":
            raise RecipeError(f"--ask lets a person choose, --choose {self.choose} has chosen already; leave one out")
        if not 0 < self.held_out <= 0.5:
            raise RecipeError(f"--held_out is a share above 0 and up to 0.5, not {self.held_out}")
        if self.frames < 0:
            raise RecipeError(f"--frames is 0 (as the effort says) or more, not {self.frames}")
        if (self.eval_labels is None) != (self.eval_images is None):
            raise RecipeError("give both --eval_images and --eval_labels, or neither")
        if self.label_space is not None and self.source == NO_SOURCE:
            raise RecipeError("--label_space belongs to labelled images, and --source none has none; leave one out")
        if self.choose == "adapted" and not self.effort.iterations:
            raise RecipeError("--choose adapted needs an effort that trains; effort instant does not")
        self._check_training()
        if self.out.resolve() == self.model.resolve():
            raise RecipeError(
                f"--out '{self.out}' is the given model; give another folder, the given one is never lost"
            )

    def _check_training(self) -> None:
        """Refuse options of a training that does not take place: they would change nothing, unseen."""
        for name, given in (("--labels", self.labels), ("--mic", self.mic), ("--imagenet", self.imagenet)):
            if given and not self.effort.iterations:
                raise RecipeError(f"{name} belongs to an effort that trains; effort instant does not: leave it out")
            if given and name != "--labels" and self.labelled_by == "once":
                raise RecipeError(f"{name} belongs to training beside a teacher; add --labels teacher, or leave it out")

    @property
    def work_folder(self) -> Path:
        """The working folder, which is OUT.work if none is given."""
        return self.work or self.out.with_name(self.out.name + ".work")

    @property
    def with_mic(self) -> bool:
        """Whether masked image consistency is on."""
        return self.labelled_by == "teacher" and (self.effort.mic if self.mic is None else self.mic)

    @property
    def labelled_by(self) -> Labels:
        """Where the labels of the recording's frames come from."""
        return self.labels or self.effort.labels

    @property
    def runtime(self) -> RuntimeConfig:
        """The runtime section of the training recipe."""
        from hrda_core.trainer.recipe import RuntimeConfig  # here and not above: it needs torch, and --help does not

        return RuntimeConfig(device=self.device, precision=self.precision, threads=self.threads)

    @property
    def areas(self) -> CameraAreas | None:
        """What of the pictures counts; None = all of it.

        Raises:
            DataError: see `CameraAreas.read`.
        """
        return None if self.camera_areas is None else CameraAreas.read(self.camera_areas)

    @property
    def readers(self) -> WorkerChoice:
        """What reads the recordings."""
        return WorkerChoice(self.workers, self.dask)

    @property
    def selection(self) -> SelectionConfig:
        """Return the options of the frame selection."""
        from hrda_core.data.frame_selection.frame_selection import SelectionConfig

        return SelectionConfig(budget=self.frames or self.effort.frames, held_out=self.held_out)

    def identity(self, given: Bundle) -> dict[str, Any]:
        """Return the options on which the results depend."""
        return {
            "bags": [str(bag.resolve()) for bag in self.bag],
            "topics": list(self.topic),
            "model": str(self.model.resolve()),
            "model_files": {name: record["sha256"] for name, record in given.manifest["files"].items()},
            "classes": list(given.label_space.classes),
            "label_space": "" if self.label_space is None else file_sha256(self.label_space),
            "source": self.source and str(Path(self.source).resolve() if Path(self.source).exists() else self.source),
            "effort": self.effort.name,
            "labels": self.labelled_by,
            "mic": self.with_mic,
            "frames": self.frames or self.effort.frames,
            "held_out": self.held_out,
            "imagenet": str(self.imagenet or ""),
            "seed": self.seed,
            **({"value_range": list(self.value_range)} if self.value_range else {}),
            **({"camera_areas": self.areas.digest} if self.areas else {}),
            **({"max_megapixels": self.max_megapixels} if self.max_megapixels != MAX_MEGAPIXELS else {}),
        }
