"""Networks of the DAFormer and HRDA papers as plain `nn.Module`s: `create_model("hrda_lite", num_classes=19)`."""

from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.hrda import HRDA, ContextOutput, TrainOutput
from hrda_core.models.presets import PRESETS, create_model, list_presets
from hrda_core.models.timm_encoder import TimmEncoder

__all__ = [
    "HRDA",
    "PRESETS",
    "ContextOutput",
    "DAFormerHead",
    "TimmEncoder",
    "TrainOutput",
    "create_model",
    "list_presets",
]
