"""Finds out from the numbers of H.264 pictures that one is missing to which others refer.

libavcodec puts a copy of the last picture in the place of a missing one, without a word. Rec. ITU-T H.264, sections
7.3.2.1.1 (sequence parameters), 7.3.2.2 (picture parameters), 7.3.3 (slice header) and 7.4.3 (frame_num).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["FrameNumbers"]

_WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_LONGEST_HEADER = 1024
"""Bytes of a unit that are looked at: parameters with scaling lists have some hundred."""


@dataclass(frozen=True)
class _Sequence:
    """What of the sequence parameters counts here."""

    bits: int
    separate_planes: bool
    gaps_allowed: bool


class FrameNumbers:
    """Follows the units of a stream."""

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of: dict[int, int] = {}
        self._before: int | None = None

    def is_gap(self, units: Sequence[bytes]) -> bool:
        """Take the NAL units of one picture, without start codes; return whether a picture before it is missing.

        What cannot be parsed is no gap.
        """
        for unit in units:
            kind, reference = unit[0] & 31, unit[0] >> 5 & 3
            try:
                if kind == 7:
                    self._learn_sequence(_Bits(unit[1:_LONGEST_HEADER]))
                elif kind == 8:
                    bits = _Bits(unit[1:_LONGEST_HEADER])
                    picture = bits.golomb()
                    self._sequence_of[picture] = bits.golomb()
                elif kind in (1, 5):
                    return self._follows(_Bits(unit[1:64]), is_key=kind == 5, is_reference=reference > 0)
            except (IndexError, KeyError):
                continue
        return False

    def restart(self) -> None:
        """Forget the last number: any may follow."""
        self._before = None

    def _follows(self, bits: _Bits, *, is_key: bool, is_reference: bool) -> bool:
        bits.golomb()  # first_mb_in_slice
        bits.golomb()  # slice_type
        sequence = self._sequences[self._sequence_of[bits.golomb()]]
        if sequence.separate_planes:
            bits.take(2)
        number, before = bits.take(sequence.bits), self._before
        if is_reference or before is None:
            self._before = number
        if is_key or before is None or sequence.gaps_allowed:
            return False
        return number not in (before, (before + 1) % (1 << sequence.bits))

    def _learn_sequence(self, bits: _Bits) -> None:
        profile = bits.take(8)
        bits.take(16)
        number, chroma, separate = bits.golomb(), 1, False
        if profile in _WITH_CHROMA_FORMAT:
            chroma = bits.golomb()
            separate = chroma == 3 and bool(bits.take(1))
            bits.golomb(), bits.golomb(), bits.take(1)
            if bits.take(1):
                for index in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        _skip_scaling_list(bits, 16 if index < 6 else 64)
        length = bits.golomb() + 4
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.take(1)
            bits.golomb(), bits.golomb()
            for _ in range(bits.golomb()):
                bits.golomb()
        bits.golomb()
        self._sequences[number] = _Sequence(length, separate, bool(bits.take(1)))


class _Bits:
    """Reads bits of a unit's content.

    Raises:
        IndexError: there are no more.
    """

    def __init__(self, data: bytes) -> None:
        plain = data.replace(b"\0\0\3", b"\0\0")  # a 3 stands where zeros would look like a start code
        self._value, self._left = int.from_bytes(plain, "big"), 8 * len(plain)

    def take(self, count: int) -> int:
        if count > self._left:
            raise IndexError("the unit ends here")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        """Unsigned Exp-Golomb code; a signed one has the same length."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.golomb()
            following = (last + (code + 1 >> 1) * (1 if code & 1 else -1)) % 256
        last = following or last
