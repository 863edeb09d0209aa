"""Size and cost of each preset, as `hrda models` lists them. A test counts again and compares.

The figures come from `hrda models --count true --json FILE`, computed on the meta device for 19 classes, one image of
1080 x 1920, and the window plan `tiles` for HRDA and `whole` for other networks. A multiply-add is 2 operations;
convolutions and matrix products alone count.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PRESET_COSTS"]

PRESET_COSTS: Mapping[str, tuple[int, float]] = {
    "daformer_aspp_mitb5": (91_412_947, 4739.2),
    "daformer_conv1_mitb5": (81_973_715, 2293.1),
    "daformer_isa_mitb5": (82_501_587, 2711.2),
    "daformer_mitb0": (6_900_595, 1058.6),
    "daformer_mitb1": (16_863_699, 1289.3),
    "daformer_mitb2": (27_908_563, 1641.5),
    "daformer_mitb3": (47_784_403, 2130.0),
    "daformer_mitb4": (64_554_963, 2676.2),
    "daformer_mitb5": (85_155_283, 3115.6),
    "daformer_sepaspp_bottleneck_mitb5": (84_606_163, 3007.8),
    "danet_mitb5": (91_220_309, 4092.3),
    "danet_r101": (66_452_469, 5617.9),
    "deeplabv3plus_mitb5": (95_142_115, 3196.9),
    "deeplabv3plus_r101": (60_205_955, 4014.2),
    "dlv2_mitb5": (81_618_150, 2226.9),
    "dlv2_r101": (43_219_846, 2869.3),
    "dlv2full_r101": (43_920_300, 2914.7),
    "hrda_dg_mitb5": (85_685_990, 2542.8),
    "hrda_dinov2_b": (94_034_150, 3553.8),
    "hrda_dinov2_l": (314_246_950, 8994.4),
    "hrda_dinov2_s": (26_979_206, 1895.6),
    "hrda_dlv2_r101": (43_920_300, 3624.6),
    "hrda_lite": (3_263_910, 126.9),
    "hrda_mitb0": (7_300_230, 1220.0),
    "hrda_mitb1": (17_394_406, 1379.8),
    "hrda_mitb2": (28_439_270, 1591.7),
    "hrda_mitb3": (48_315_110, 1941.4),
    "hrda_mitb4": (65_085_670, 2295.9),
    "hrda_mitb5": (85_685_990, 2628.6),
    "isanet_mitb5": (86_176_467, 2551.7),
    "isanet_r101": (54_330_739, 3618.6),
    "segformer_mitb5": (84_610_406, 2855.6),
    "segformer_r101": (47_849_478, 3668.5),
    "upernet_mitb5": (111_087_315, 5530.7),
    "upernet_r101": (83_036_531, 4056.2),
}
"""Preset -> (parameters, GFLOP)."""
