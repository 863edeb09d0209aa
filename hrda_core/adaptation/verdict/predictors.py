"""The candidate bundles as functions that are judged: the deployed graphs, not the networks that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from hrda_core.adaptation.verdict.measures import Candidate, Predict
from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.image_files import UInt8Array
from hrda_core.deploy.network import plan_as_run
from hrda_core.inference import Prediction, Predictor
from hrda_core.inference.bundle import Bundle
from hrda_core.resizing import resize_map
from hrda_core.trainer.loading import load_network
from hrda_core.windows.class_bands import predict_classes

__all__ = ["as_candidates"]


def as_candidates(bundles: Mapping[str, Bundle], run: Path | None, threads: int) -> list[Candidate]:
    """Make a candidate of each bundle; the adapted one is compared with the student of its run too."""
    found = []
    for name, bundle in bundles.items():
        second = "context" if "context" in bundle.graphs and bundle.default_plan != "context" else None
        student = _student(run, bundle) if name == "adapted" and run is not None else None
        found.append(
            Candidate(
                name,
                Predictor(bundle, threads=threads),
                None if second is None else Predictor(bundle, plan=second, threads=threads),
                student,
            )
        )
    return found


def _student(run: Path, bundle: Bundle) -> Predict:
    network = load_network(run, "student")
    plan = plan_as_run(bundle, network)

    @torch.no_grad()
    def predict(rgb: UInt8Array) -> Prediction:
        image = torch.from_numpy(normalise(bundle.scale.apply(rgb), bundle.mean, bundle.std))[None]
        found, probability = predict_classes(network, image, plan)
        labels = np.asarray(found[0].numpy(), np.uint8)
        confidence = np.asarray((255 * probability[0] + 0.5).to(torch.uint8).numpy(), np.uint8)
        return Prediction(resize_map(labels, *rgb.shape[:2]), resize_map(confidence, *rgb.shape[:2]))

    return predict
