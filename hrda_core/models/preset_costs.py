"""Size and cost of each preset, as `hrda models` lists them. A test counts again and compares.

The figures come from `hrda models --count true --json FILE`, computed on the meta device for 19 classes. Operations are
those of one image of 1080 x 1920 under the window plan `tiles` for HRDA and `whole` for other networks; a multiply-add
is 2, and convolutions and matrix products alone count. Memory is what `hrda train --check` estimates for self-training
with two crops of 1024 x 1024 in single precision (`hrda_core/trainer/gpu_estimate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["PRESET_COSTS", "TUNED_COSTS", "PresetCost"]


class PresetCost(NamedTuple):
    """What a network costs.

    Attributes:
        parameters: all of them.
        trained_parameters: those that learn.
        training_gb: GB of a GPU's memory in training, counted and not measured.
        gflop: operations of one image, in 1e9.
    """

    parameters: int
    trained_parameters: int
    training_gb: float
    gflop: float


PRESET_COSTS: Mapping[str, PresetCost] = {
    "daformer_aspp_mitb5": PresetCost(91_412_947, 91_412_947, 21.4, 4739.2),
    "daformer_conv1_mitb5": PresetCost(81_973_715, 81_973_715, 19.2, 2293.1),
    "daformer_isa_mitb5": PresetCost(82_501_587, 82_501_587, 23.4, 2711.2),
    "daformer_mitb0": PresetCost(6_900_595, 6_900_595, 10.0, 1058.6),
    "daformer_mitb1": PresetCost(16_863_699, 16_863_699, 11.8, 1289.3),
    "daformer_mitb2": PresetCost(27_908_563, 27_908_563, 14.6, 1641.5),
    "daformer_mitb3": PresetCost(47_784_403, 47_784_403, 17.9, 2130.0),
    "daformer_mitb4": PresetCost(64_554_963, 64_554_963, 21.9, 2676.2),
    "daformer_mitb5": PresetCost(85_155_283, 85_155_283, 24.8, 3115.6),
    "daformer_sepaspp_bottleneck_mitb5": PresetCost(84_606_163, 84_606_163, 22.8, 3007.8),
    "danet_mitb5": PresetCost(91_220_309, 91_220_309, 25.5, 4092.3),
    "danet_r101": PresetCost(66_452_469, 66_452_469, 28.0, 5617.9),
    "deeplabv3plus_mitb5": PresetCost(95_142_115, 95_142_115, 21.3, 3196.9),
    "deeplabv3plus_r101": PresetCost(60_205_955, 60_205_955, 24.1, 4014.2),
    "dlv2_mitb5": PresetCost(81_618_150, 81_618_150, 18.1, 2226.9),
    "dlv2_r101": PresetCost(43_219_846, 43_219_846, 20.4, 2869.3),
    "dlv2full_r101": PresetCost(43_920_300, 43_920_300, 20.4, 2914.7),
    "hrda_dg_mitb5": PresetCost(85_685_990, 85_685_990, 12.6, 2542.8),
    "hrda_dinov2_b": PresetCost(94_034_150, 94_034_150, 11.6, 3553.8),
    "hrda_dinov2_l": PresetCost(314_246_950, 314_246_950, 24.0, 8994.4),
    "hrda_dinov2_s": PresetCost(26_979_206, 26_979_206, 7.8, 1895.6),
    "hrda_dlv2_r101": PresetCost(43_920_300, 43_920_300, 11.5, 3624.6),
    "hrda_lite": PresetCost(3_263_910, 3_263_910, 3.3, 126.9),
    "hrda_mitb0": PresetCost(7_300_230, 7_300_230, 6.2, 1220.0),
    "hrda_mitb1": PresetCost(17_394_406, 17_394_406, 7.2, 1379.8),
    "hrda_mitb2": PresetCost(28_439_270, 28_439_270, 8.8, 1591.7),
    "hrda_mitb3": PresetCost(48_315_110, 48_315_110, 10.8, 1941.4),
    "hrda_mitb4": PresetCost(65_085_670, 65_085_670, 13.0, 2295.9),
    "hrda_mitb5": PresetCost(85_685_990, 85_685_990, 14.8, 2628.6),
    "isanet_mitb5": PresetCost(86_176_467, 86_176_467, 19.7, 2551.7),
    "isanet_r101": PresetCost(54_330_739, 54_330_739, 21.8, 3618.6),
    "segformer_mitb5": PresetCost(84_610_406, 84_610_406, 22.6, 2855.6),
    "segformer_r101": PresetCost(47_849_478, 47_849_478, 24.7, 3668.5),
    "upernet_mitb5": PresetCost(111_087_315, 111_087_315, 23.0, 5530.7),
    "upernet_r101": PresetCost(83_036_531, 83_036_531, 13.6, 4056.2),
}
"""Preset -> its cost; all weights learn."""

TUNED_COSTS: Mapping[tuple[str, str], PresetCost] = {
    ("hrda_dinov2_s", "frozen"): PresetCost(26_979_206, 4_923_782, 5.7, 1895.6),
    ("hrda_dinov2_s", "lora"): PresetCost(27_274_118, 5_218_694, 6.6, 1901.6),
    ("hrda_dinov2_s", "rein"): PresetCost(27_367_814, 5_312_390, 6.7, 1953.0),
    ("hrda_dinov2_b", "frozen"): PresetCost(94_034_150, 7_455_974, 6.4, 3553.8),
    ("hrda_dinov2_b", "lora"): PresetCost(94_623_974, 8_045_798, 8.4, 3565.8),
    ("hrda_dinov2_b", "rein"): PresetCost(95_381_990, 8_803_814, 8.5, 3745.7),
    ("hrda_dinov2_l", "frozen"): PresetCost(314_246_950, 9_881_382, 8.6, 8994.4),
    ("hrda_dinov2_l", "lora"): PresetCost(315_819_814, 11_454_246, 13.7, 9026.5),
    ("hrda_dinov2_l", "rein"): PresetCost(316_777_766, 12_412_198, 14.1, 9643.4),
}
"""Preset of a plain ViT and `tuning` -> its cost."""
