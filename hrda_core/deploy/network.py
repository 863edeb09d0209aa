"""Builds the PyTorch network of a bundle, for training, comparing and exporting it. Needs torch."""

from __future__ import annotations

import hashlib

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from hrda_core.errors import BundleError, first_misfit, one_line
from hrda_core.inference.bundle import Bundle
from hrda_core.models import create_model
from hrda_core.models.finite_weights import check_finite
from hrda_core.models.hrda import HRDA
from hrda_core.plain_files import open_file
from hrda_core.window_plan import PlanChoice

__all__ = ["WEIGHTS_FILE", "load_network", "plan_as_run"]

WEIGHTS_FILE = "model.safetensors"


def load_network(bundle: Bundle) -> nn.Module:
    """Build the bundle's network and fill it with its weights, in eval mode, single precision.

    Raises:
        BundleError: the bundle has no weights, or they are damaged, not finite, do not fit the network that the
            manifest describes, or are others than when the bundle was opened.
        RecipeError: the manifest names a preset or override that this release does not know.
    """
    if WEIGHTS_FILE not in bundle.manifest["files"]:
        raise BundleError(f"model bundle '{bundle.path}' has no {WEIGHTS_FILE}; it can be run but not trained")
    model = create_model(bundle.preset, len(bundle.label_space), **bundle.manifest.get("overrides", {}))
    where = f"model bundle '{bundle.path}': {WEIGHTS_FILE}"
    try:
        weights = load(_checked(bundle, where))
        model.load_state_dict(weights)
    except SafetensorError as error:
        raise BundleError(f"{where} is damaged ({one_line(error)}); copy the bundle again") from error
    except RuntimeError as error:
        raise BundleError(f"{where} does not fit preset '{bundle.preset}' ({first_misfit(error)})") from error
    check_finite(weights, f"{where} has", "do not use this model", BundleError)
    return model.eval()


def _checked(bundle: Bundle, where: str) -> bytes:
    """The weights that the bundle had when it was opened.

    They are read, not mapped: a file that is cut off meanwhile would end the process (SIGBUS).
    """
    with open_file(bundle.file(WEIGHTS_FILE)) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != bundle.manifest["files"][WEIGHTS_FILE]["sha256"]:
        raise BundleError(f"{where} was changed since the bundle was opened; start again when nothing writes there")
    return content


def plan_as_run(bundle: Bundle, network: nn.Module) -> PlanChoice:
    """Return how a bundle's network sees images of any size where both of its scales run.

    Statistics and labels that are made in PyTorch depend on it: a grid of other tiles has borders at other places.

    Returns:
        the plan of the bundle's graph `tiles` with its grid for HRDA, one tile where it has no such graph; the whole
        image for single-scale networks.
    """
    if not isinstance(network, HRDA):
        return PlanChoice("whole")
    tiles = bundle.graphs.get("tiles")
    return PlanChoice("tiles", bundle.tile_grid, tiles.choice.overlap if tiles else 0)
