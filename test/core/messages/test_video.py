"""Pictures of a video: which packet each belongs to, and that a damaged stream gives no damaged picture."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from made_video import KEY_EVERY, Packet, packets, street_at

from hrda_core.messages.video import VideoDecoder, video_codec


def decode(codec: str, stream: Sequence[Packet]) -> tuple[dict[int, np.ndarray], VideoDecoder[int]]:
    """Pictures by the number that came with their packet, in the order in which they came."""
    decoder: VideoDecoder[int] = VideoDecoder(codec)
    found = [pair for packet in stream for pair in decoder.feed(packet.data, packet.number)]
    found += decoder.flush()
    assert len({number for number, _ in found}) == len(found)
    return {number: picture.to_ndarray(format="rgb24") for number, picture in found}, decoder


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_picture_belongs_to_its_packet_also_with_b_frames(codec: str, b_frames: int) -> None:
    stream = packets(codec, b_frames=b_frames)
    order = [packet.number for packet in stream]
    assert (order == sorted(order)) == (b_frames == 0)

    pictures, decoder = decode(codec, stream)

    assert list(pictures) == list(range(30)), "in the order in which they are shown, the delayed last ones too"
    for number, picture in pictures.items():
        errors = [np.abs(picture.astype(int) - street_at(other)).mean() for other in range(30)]
        assert int(np.argmin(errors)) == number
    assert (decoder.early, decoder.lost) == (0, 0)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_stream_that_is_cut_into_other_messages_gives_the_same_pictures(codec: str) -> None:
    stream = packets(codec)
    units = []
    for packet in stream:
        starts = [match.start() for match in re.finditer(b"\0\0\1", packet.data)]
        ends = [*starts[1:], len(packet.data)]
        units += [Packet(packet.number, packet.data[a:b]) for a, b in zip(starts, ends, strict=True)]
    assert len(units) > len(stream)
    joined = [Packet(a.number, a.data + b.data) for a, b in zip(stream[::2], stream[1::2], strict=True)]

    whole, _ = decode(codec, stream)
    for number, picture in decode(codec, units)[0].items():
        np.testing.assert_array_equal(picture, whole[number])
    assert len(decode(codec, units)[0]) == len(whole)
    decoder: VideoDecoder[int] = VideoDecoder(codec)
    both = [pair for packet in joined for pair in decoder.feed(packet.data, packet.number)]
    assert len(both + list(decoder.flush())) == len(whole)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_pictures_begin_with_the_first_key_frame(codec: str) -> None:
    stream = packets(codec)
    later = next(index for index, packet in enumerate(stream) if packet.number == KEY_EVERY)

    pictures, decoder = decode(codec, stream[4:])

    assert list(pictures) == list(range(KEY_EVERY, 30))
    assert (decoder.early, decoder.lost) == (later - 4, 0)


@pytest.mark.parametrize("harm", ["missing", "cut", "noise"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_no_picture_that_refers_to_a_damaged_or_missing_one_comes_out(codec: str, harm: str) -> None:
    stream = packets(codec, b_frames=0)
    whole, _ = decode(codec, stream)
    index = KEY_EVERY + 3
    hurt = {
        "missing": [],
        "cut": [stream[index]._replace(data=stream[index].data[: len(stream[index].data) // 2])],
        "noise": [stream[index]._replace(data=bytes(range(200)))],
    }[harm]

    pictures, decoder = decode(codec, [*stream[:index], *hurt, *stream[index + 1 :]])

    assert list(pictures) == [*range(index), *range(2 * KEY_EVERY, 30)]
    for number, picture in pictures.items():
        np.testing.assert_array_equal(picture, whole[number])
    assert decoder.lost == 2 * KEY_EVERY - index - (harm != "cut")
    assert decoder.early == 0


def test_an_encoder_that_takes_a_rule_lightly_is_decoded_all_the_same() -> None:
    # Supplemental information that promises more bytes than there are.
    light = b"\0\0\0\1\x06\x05\xff\xff\xff\x10abc"
    stream = [packet._replace(data=light + packet.data) for packet in packets("h264", b_frames=0)]

    pictures, decoder = decode("h264", stream)

    assert list(pictures) == list(range(30))
    assert decoder.lost == 0


@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"\0\0\1\x65", bytes(100), b"\0\0\1\x67\xff" + bytes(5)])
def test_what_is_no_stream_gives_nothing_and_ends_nothing(data: bytes) -> None:
    for codec in ("h264", "hevc"):
        assert decode(codec, [Packet(0, data), Packet(1, data)])[0] == {}


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264", "h264"),
        ("H265", "hevc"),
        ("hevc;yuv420p;bgr8;bgr8", "hevc"),
        ("libx264", "h264"),
        ("hevc_nvenc", "hevc"),
        ("jpeg", ""),
        ("bgr8; jpeg compressed bgr8", ""),
        ("av1", ""),
        ("", ""),
    ],
)
def test_the_codec_is_known_by_the_names_that_messages_have(name: str, codec: str) -> None:
    assert video_codec(name) == codec
