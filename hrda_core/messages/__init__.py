"""Camera messages to RGB arrays, by duck typing: one decoder for the node and for recordings. numpy and OpenCV only."""

from hrda_core.messages.compressed import decode_compressed
from hrda_core.messages.raw import ENCODINGS, decode_image

__all__ = ["ENCODINGS", "decode_compressed", "decode_image"]
