"""Where model bundles lie: yours in one home, those that came with the package where it is installed.

    models_home()              $HRDA_MODELS, else $XDG_DATA_HOME/hrda/models, else ~/.local/share/hrda/models
    find_model("hrda_lite")    a bare name: in the home first, then among the installed bundles
    changeable(folder, say)    the folder itself, or its copy in the home where it came with the package

A bundle that came with the package is never changed in its place: the next build or update would lose or break it.
"""

from __future__ import annotations

import errno
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from hrda_core.errors import BundleError
from hrda_core.folder_locks import locked
from hrda_core.inference.bundle import MANIFEST_NAME, SAMPLES_FOLDER, Bundle
from hrda_core.inference.say import Say, silent
from hrda_core.plain_files import copy_file
from hrda_core.share_folders import is_package, shipped_folders
from hrda_core.whole_files import remove_unfinished, replaced_folder

__all__ = [
    "DEFAULT_MODEL",
    "FoundModel",
    "changeable",
    "copy_bundle",
    "default_model",
    "find_model",
    "installed_folders",
    "is_shipped",
    "launch_line",
    "models_home",
]

DEFAULT_MODEL = "hrda_lite"
"""The bundle that comes with the package."""

_FOLDER = "models"
_ANOTHER_HOME = "set HRDA_MODELS to a folder that you can write"


@dataclass(frozen=True)
class FoundModel:
    """What a name or path of a model means here.

    Attributes:
        path: the folder; whether a bundle is there is seen when it is opened.
        remark: which of the places a bare name was found in, one line for the user; empty for a path.
    """

    path: Path
    remark: str = ""


def models_home() -> Path | None:
    """The folder of the user's own bundles: `$HRDA_MODELS`, else `$XDG_DATA_HOME/hrda/models`, else
    `~/.local/share/hrda/models`. It need not exist. None for a user without a home folder, as in some containers."""
    if own := os.environ.get("HRDA_MODELS"):
        return Path(os.path.abspath(os.path.expanduser(own)))
    base = os.environ.get("XDG_DATA_HOME", "")
    # Relative paths are not valid there by the specification.
    data = base if os.path.isabs(base) else os.path.expanduser("~/.local/share")
    return Path(data) / "hrda" / _FOLDER if os.path.isabs(data) else None


def installed_folders() -> tuple[Path, ...]:
    """The folders that hold installed bundles, see `shipped_folders`."""
    return shipped_folders(_FOLDER)


def default_model() -> Path:
    """Folder of the bundle that comes with the package.

    Raises:
        BundleError: it is nowhere.
    """
    folders = installed_folders()
    for folder in folders:
        if os.path.isdir(folder / DEFAULT_MODEL):
            return folder / DEFAULT_MODEL
    places = f"none of {', '.join(map(str, folders))}" if folders else "no folder of this package"
    raise BundleError(
        f"no model was named and the default bundle '{DEFAULT_MODEL}' is in {places}; "
        f"name the folder of a bundle, or install the package again"
    )


def find_model(given: str) -> FoundModel:
    """The folder that a model's name or path means.

    Args:
        given: a path if it has a `/`; else a name, which is looked up in the home of the user's models, then among
            the installed ones, then in the working folder.
    """
    if os.sep in given or given in ("", ".", "..", "~"):
        return FoundModel(Path(os.path.expanduser(given)))
    home = models_home()
    places = [*([(home, "yours")] if home else []), *((folder, "installed") for folder in installed_folders())]
    found = [(folder / given, whose) for folder, whose in places if os.path.isfile(folder / given / MANIFEST_NAME)]
    if not found:
        return FoundModel(Path(given))
    (path, whose), *others = found
    remark = f"model '{given}' is '{path}' ({whose})"
    if others:
        remark += f"; there is also '{others[0][0]}' ({others[0][1]})"
    if os.path.isfile(Path(given) / MANIFEST_NAME) and Path(given).resolve() != path.resolve():
        remark += f"; for the one in this folder write ./{given}"
    return FoundModel(path, remark)


def is_shipped(folder: Path) -> bool:
    """Whether a bundle came with the package: in the share folder of an install, or by its name in a source tree.

    What lies in the home of the user's models is the user's, also where that is the `models` of a source tree.
    """
    home = models_home()
    homes = () if home is None else (home, home.resolve())
    for place in (Path(os.path.abspath(folder)), folder.resolve()):
        if place.parent in homes:
            return False
        package = place.parent.parent
        if place.parent.name != _FOLDER or not is_package(package):
            continue
        if place.name == DEFAULT_MODEL or not (package / "setup.py").is_file():
            return True
    return False


def changeable(folder: Path, say: Say = silent, *, copy: bool = True) -> Path:
    """The bundle to change in the place of a given one: itself, or its copy in the home of the user's models.

    A copy is made of bundles that came with the package or that cannot be written. One that is there already, of the
    same network, is gone on with. Processes that ask at once make one copy.

    Args:
        folder: a bundle.
        say: is told of the copy.
        copy: False = make none: where there is none yet, it is the given bundle.

    Raises:
        BundleError: the given bundle or the copy is damaged; the copy cannot be written; another model has its name.
    """
    if not is_shipped(folder) and os.access(folder, os.W_OK):
        return folder
    why = f"'{folder}' {'came with hrda_ros' if is_shipped(folder) else 'cannot be written'}"
    home = models_home()
    if home is None:
        if copy:
            raise BundleError(f"{why}, and this user has no home folder for a copy; {_ANOTHER_HOME}")
        return folder
    place = home / os.path.basename(os.path.abspath(folder))
    if not copy and not os.path.exists(place):  # a home that may not be read holds no copy
        return folder
    if place.resolve() == folder.resolve():
        raise BundleError(f"{why}; make it writable, or {_ANOTHER_HOME}")
    given = Bundle.open(folder)
    _make_home(home, why)
    with locked(home, f"copying a model into '{home}'", say, error=BundleError):
        if place.exists():
            remove_unfinished(place)  # of a copy whose process was killed in its last step
            _check_same(Bundle.open(place), given)
            say(f"{why} and stays as it is; its copy is used: '{place}'")
        else:
            copy_bundle(given, place)
            say(f"{why} and stays as it is; a copy of it was made: '{place}'")
    return place


def copy_bundle(bundle: Bundle, out: Path) -> None:
    """Copy what a bundle's manifest lists, and its samples; links are followed, and the copy can be written.

    Raises:
        BundleError: `out` holds something else, or cannot be written, or the bundle changes meanwhile.
    """
    samples = [path for path in (bundle.path / SAMPLES_FOLDER).rglob("*") if path.is_file()]
    names = [*bundle.manifest["files"], MANIFEST_NAME, *(str(path.relative_to(bundle.path)) for path in samples)]
    with replaced_folder(out, MANIFEST_NAME, error=BundleError) as part:
        for name in names:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            copy_file(bundle.file(name), part / name)  # without its mode: installs may be read-only
        Bundle.open(part)


def launch_line(bundle: Path, *options: str) -> str:
    """The command that runs a bundle on a robot, ready to be copied into a shell."""
    model = f"model:={os.path.abspath(bundle)}"
    return shlex.join(["ros2", "launch", "hrda_ros", "segment.launch.py", model, *options])


def _make_home(home: Path, why: str) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not os.access(home, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(
            f"{why}, and the folder for its copy, '{home}', cannot be written ({reason}); {_ANOTHER_HOME}"
        ) from error


def _check_same(copy: Bundle, given: Bundle) -> None:
    """Refuse another network of the same name; graphs of one size, scores and cards may differ."""
    names = {graph.file for graph in given.graphs.values()} | {"model.safetensors"}
    ours, theirs = copy.manifest["files"], given.manifest["files"]
    if any(ours.get(name) != theirs.get(name) for name in names):
        raise BundleError(
            f"'{copy.path}' holds another model than '{given.path}' (of another release, or one of yours); "
            f"move it away, or {_ANOTHER_HOME}"
        )
