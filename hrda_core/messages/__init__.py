"""Turns camera messages into RGB arrays, for the node and for recordings alike.

Any object with the fields of the message will do, so no ROS is needed, only numpy and OpenCV.
"""

from hrda_core.messages.compressed import decode_compressed
from hrda_core.messages.raw import ENCODINGS, decode_image, decode_plane

__all__ = ["ENCODINGS", "decode_compressed", "decode_image", "decode_plane"]
