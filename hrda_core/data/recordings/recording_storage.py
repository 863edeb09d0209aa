"""Reads the messages of one storage file (mcap, db3, bag). rosbags reads whole files; the rest is salvaged.

A file that does not open, or whose index says nothing, is walked through once to list it, which takes as long as
reading it. That a library refuses a file is no damage as long as the walk finds none.
"""

from __future__ import annotations

import errno
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

from hrda_core.data.recordings.database_limits import check_tables, limit_opening, opened
from hrda_core.data.recordings.recording_files import storage_kind, unpacked
from hrda_core.data.recordings.ros1_limits import check_entries, limit_index
from hrda_core.data.recordings.salvage import mcap_walk, ros1_walk, sqlite_walk
from hrda_core.data.recordings.salvage.findings import Connection, Findings, Found
from hrda_core.data.recordings.salvage.unpacking import MAX_UNPACKED, limit_rosbags, unpack
from hrda_core.errors import HrdaError, one_line, require
from hrda_core.plain_files import check_file

__all__ = [
    "StorageFile",
    "StoredMessage",
    "TopicInfo",
    "TopicKey",
    "first_messages",
    "list_storage",
    "open_reader",
    "read_open",
    "read_place",
    "read_storage",
]

_WALKS: Mapping[str, Callable[..., Iterator[Found]]] = {
    "mcap": mcap_walk.walk,
    "db3": sqlite_walk.walk,
    "bag": ros1_walk.walk,
}
# A message compressed for itself begins so; a serialised one cannot.
_ZSTD_START = b"\x28\xb5\x2f\xfd"
_UNREADABLE = frozenset(
    {errno.EIO, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM}
    | {errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO}
)
"""What is said of a file that is gone, of a disk that fails or was unplugged, and of a network folder without one."""
_NO_TIME_NS = 2**63  # MCAP stores times of 64 bits without a sign; ROS has no such time

TopicKey = tuple[str, str]
"""Topic and message type."""


@dataclass(frozen=True)
class TopicInfo:
    """A topic of recordings.

    Attributes:
        name, message_type: as recorded; types as ROS 2 spells them.
        count: number of messages, of a damaged file those that can be read; None where that is not known.
    """

    name: str
    message_type: str
    count: int | None


@dataclass(frozen=True)
class StorageFile:
    """A listed storage file.

    Attributes:
        path: path on disk.
        topics: topics that it holds.
        start_ns: time of its first message in the recording.
        written: number of messages of each topic that were recorded; None where that is not known.
        opens: whether rosbags lists and reads it, at least in part.
        damage: clauses about what is damaged, as far as listing tells.
        connections: connections by their number in the file.
    """

    path: Path
    topics: tuple[TopicInfo, ...]
    start_ns: int
    written: Mapping[TopicKey, int] | None
    opens: bool = True
    damage: tuple[str, ...] = ()
    connections: Mapping[int, Connection] = field(default_factory=dict)


class StoredMessage(NamedTuple):
    """A serialised message. `read_place` finds it again at `place`, or `open_reader` by its time if `place` is -1."""

    topic: str
    message_type: str
    is_ros1: bool
    log_ns: int
    raw: bytes
    place: int


def open_reader(path: Path) -> Any:
    """Return rosbags' open reader of one unpacked storage file, which the caller closes by `close()`.

    Raises:
        Exception: of rosbags, struct, SQLite and others where the file is damaged.
    """
    check_file(path)  # a pipe that took its place since it was found would be waited for
    kind = storage_kind(path)
    limit_rosbags()
    if kind == "db3":
        check_tables(path)
        limit_opening()
    reader = require("rosbags.rosbag1" if kind == "bag" else "rosbags.rosbag2", "bag").Reader(path)
    if kind == "bag":
        limit_index(reader)
    reader.open()
    storage = getattr(reader, "storage", None)  # ROS 1 has none
    opened(storage)
    try:
        _check_chunks(getattr(storage, "chunks", ()))  # SQLite has none
        if kind == "bag":
            check_entries(reader)
    except ValueError:
        reader.close()
        raise
    return reader


def _check_chunks(chunks: Iterable[Any]) -> None:
    """Refuse an index of MCAP by which rosbags would unpack too much at once: all chunks whose times overlap.

    Raises:
        ValueError: it names a chunk twice, or chunks of one time are larger together than one may be.
    """
    listed = list(chunks)
    if len({chunk.chunk_start_offset for chunk in listed}) < len(listed):
        raise ValueError("its index names a chunk twice")
    changes = [(chunk.message_start_time, chunk.uncompressed_size) for chunk in listed]
    changes += [(chunk.message_end_time + 1, -chunk.uncompressed_size) for chunk in listed]
    if max(accumulate(size for _, size in sorted(changes)), default=0) > MAX_UNPACKED:
        raise ValueError(f"chunks of one time unpack to more than {MAX_UNPACKED} bytes")


def list_storage(path: Path) -> StorageFile:
    """List topics, counts and start of a file, whatever its state. A file without a readable message has no topics.

    Raises:
        MissingPackageError: rosbags is not installed.
        OSError: it has to be unpacked and the disk is full.
    """
    try:
        return _list(path)
    except OSError as error:
        return StorageFile(path, (), 2**63 - 1, None, False, (_unreadable(path, error),))


def _unreadable(path: Path, error: OSError) -> str:
    """A clause on a file that cannot be read at all, or no further; other errors are raised again."""
    if error.errno not in _UNREADABLE:
        raise error
    return f"'{path.name}' cannot be read to its end ({error.strerror})"


def _list(path: Path) -> StorageFile:
    damage: list[str] = []
    with unpacked(path, damage) as storage:
        try:
            with closing(open_reader(storage)) as reader:
                whole = _list_whole(path, reader, damage)
                if sum(topic.count or 0 for topic in whole.topics) or storage_kind(path) == "db3":
                    return whole
            walked = _list_damaged(path, storage, damage)  # summaries, indexes and statistics are optional in MCAP
            return walked if walked.topics else whole
        except HrdaError:
            raise
        except Exception as error:
            if not storage.stat().st_size:
                return StorageFile(path, (), 2**63 - 1, None, False, (*damage, "the file is empty"))
            return _list_damaged(path, storage, damage, f"it does not open ({one_line(error)})")


def _list_whole(path: Path, reader: Any, damage: list[str]) -> StorageFile:
    counts: Counter[TopicKey] = Counter()
    for connection in reader.connections:
        counts[connection.topic, connection.msgtype] += connection.msgcount
    topics = tuple(TopicInfo(*key, count) for key, count in counts.items())
    is_ros1 = storage_kind(path) == "bag"
    connections = {entry.id: Connection(entry.topic, entry.msgtype, is_ros1) for entry in reader.connections}
    return StorageFile(path, topics, int(reader.start_time), counts, True, tuple(damage), connections)


def _list_damaged(path: Path, storage: Path, damage: list[str], refusal: str = "") -> StorageFile:
    """List a file by its walk. `refusal` is said only where the walk does not show that the file is whole."""
    findings, counts, start_ns = Findings(), Counter[int](), 2**63 - 1
    for found in _WALKS[storage_kind(storage)](storage, findings):
        counts[found.connection] += 1
        start_ns = min(start_ns, found.log_ns)
    kept: Counter[TopicKey] = Counter()
    written: Counter[TopicKey] = Counter()
    for number, (topic, kind, _) in findings.connections.items():
        kept[topic, kind] += counts[number]
        written[topic, kind] += (findings.written or {}).get(number, 0)
    unknown = sum(count for number, count in counts.items() if number not in findings.connections)
    if refusal and (unknown or not _is_whole(storage, findings, kept, written)):
        damage = [*damage, refusal]
    if unknown:
        damage.append(f"{unknown} messages lost the name of their topic")
    return StorageFile(
        path,
        tuple(TopicInfo(*key, count) for key, count in kept.items()) if sum(kept.values()) else (),
        start_ns,
        None if findings.written is None else written,
        False,
        (*damage, *findings.damage),
        dict(findings.connections),
    )


def _is_whole(storage: Path, findings: Findings, kept: Counter[TopicKey], written: Counter[TopicKey]) -> bool:
    """Whether a walk shows that nothing is damaged. That of SQLite's pages cannot: pages have no checksums."""
    if findings.damage or not sum(kept.values()):
        return False
    if findings.written is None:
        return storage_kind(storage) == "mcap"
    return all(kept[key] >= count for key, count in written.items())


def read_storage(file: StorageFile, wanted: Collection[TopicKey], damage: list[str]) -> Iterator[StoredMessage]:
    """Yield the messages of some topics in order of their time; of a damaged file in the order of the file.

    Args:
        file: file to read.
        wanted: topics with their types.
        damage: gets clauses about what is damaged.

    Raises:
        OSError: it has to be unpacked and the disk is full.
    """
    try:
        yield from _read(file, wanted, damage)
    except OSError as error:
        damage.append(_unreadable(file.path, error))


def _read(file: StorageFile, wanted: Collection[TopicKey], damage: list[str]) -> Iterator[StoredMessage]:
    with unpacked(file.path, []) as storage:
        damage += file.damage
        if not file.topics:
            return
        if not file.opens:
            yield from _salvaged(storage, Findings(dict(file.connections)), wanted, damage)
            return
        given: dict[str, array[int]] = defaultdict(lambda: array("q"))
        try:
            with closing(open_reader(storage)) as reader:
                for message in read_open(reader, storage, wanted, damage):
                    given[message.topic].append(message.log_ns)
                    yield message
            missing = sum((file.written or {}).get(key, 0) for key in wanted) - sum(map(len, given.values()))
            if missing <= 0:
                return
            reason = f"{missing} messages of its index are not there"
        except HrdaError:
            raise
        except Exception as error:  # rosbags lets struct, zstd, SQLite and file errors through as they are
            reason = one_line(error)
            missing = sum((file.written or {}).get(key, 0) for key in wanted) - sum(map(len, given.values()))
        findings, before = Findings(dict(file.connections)), {topic: Counter(times) for topic, times in given.items()}
        for message in _salvaged(storage, findings, wanted, damage):
            if before.get(message.topic, Counter())[message.log_ns]:
                before[message.topic][message.log_ns] -= 1
            else:
                missing -= 1
                yield message
        if missing > 0 or findings.damage or file.written is None:
            damage += [reason, *findings.damage]


def first_messages(file: StorageFile, wanted: Collection[TopicKey]) -> list[StoredMessage]:
    """Return the first message of each topic, where one can be read; a whole file is not read through for it."""
    if not wanted:
        return []
    found: dict[TopicKey, StoredMessage] = {}
    try:
        _find_first(file, wanted, found)
    except OSError as error:
        _unreadable(file.path, error)  # said when the file is read
    return list(found.values())


def _find_first(file: StorageFile, wanted: Collection[TopicKey], found: dict[TopicKey, StoredMessage]) -> None:
    """As `first_messages`; `found` gets them."""
    with unpacked(file.path, []) as storage:
        try:
            if file.opens:
                with closing(open_reader(storage)) as reader:
                    for key, message in _first_by_index(reader, storage, wanted):
                        found.setdefault(key, message)
                return
        except HrdaError:
            raise
        except Exception:  # what is damaged is said when the file is read
            found.clear()
        for message in _salvaged(storage, Findings(dict(file.connections)), wanted, []):
            found.setdefault((message.topic, message.message_type), message)
            if len(found) == len(wanted):
                break


def _first_by_index(
    reader: Any, storage: Path, wanted: Collection[TopicKey]
) -> Iterator[tuple[TopicKey, StoredMessage]]:
    is_ros1, keys = storage_kind(storage) == "bag", frozenset(wanted)
    for connection in reader.connections:
        key = connection.topic, connection.msgtype
        if key not in keys:
            continue
        for _, time, raw in islice(reader.messages([connection]), 1):
            for message in _plain(StoredMessage(*key, is_ros1, time, raw, -1), []):
                yield key, message


def read_open(
    reader: Any, storage: Path, wanted: Collection[TopicKey], damage: list[str], log_ns: int | None = None
) -> Iterator[StoredMessage]:
    """Yield the messages of some topics by time with the reader of `open_reader`.

    With `log_ns` only those of that time are read.
    """
    is_ros1 = storage_kind(storage) == "bag"
    chosen = [entry for entry in reader.connections if (entry.topic, entry.msgtype) in wanted]
    if not chosen:  # would mean all
        return
    stop = None if log_ns is None else log_ns + 1
    for connection, time, raw in reader.messages(chosen, start=log_ns, stop=stop):
        yield from _plain(StoredMessage(connection.topic, connection.msgtype, is_ros1, time, raw, -1), damage)


def read_place(file: StorageFile, storage: Path, wanted: Collection[TopicKey], place: int) -> Iterator[StoredMessage]:
    """Yield the messages of some topics at a place (`StoredMessage.place`) of a file that is unpacked at `storage`."""
    return _salvaged(storage, Findings(dict(file.connections)), wanted, [], place)


def _salvaged(
    storage: Path, findings: Findings, wanted: Collection[TopicKey], damage: list[str], place: int | None = None
) -> Iterator[StoredMessage]:
    """As `read_storage`, past all damage; the connections are known."""
    # A damaged file may describe a connection twice, and otherwise the second time: the listed description holds.
    listed = {number: entry for number, entry in findings.connections.items() if entry[:2] in wanted}
    for found in _WALKS[storage_kind(storage)](storage, findings, listed, place):
        entry = listed[found.connection]
        yield from _plain(StoredMessage(*entry, found.log_ns, found.raw, found.place), damage)


def _plain(message: StoredMessage, damage: list[str]) -> Iterator[StoredMessage]:
    """A message without its own compression; nothing where it does not unpack, or where its time is none."""
    if not 0 <= message.log_ns < _NO_TIME_NS:
        damage.append(f"a message has the time {message.log_ns} ns, which no clock shows")
        return
    if not message.raw.startswith(_ZSTD_START):
        yield message
        return
    try:
        yield message._replace(raw=unpack("zstd", message.raw))
    except Exception as error:
        damage.append(f"the message at {message.log_ns / 1e9:.9f} s does not unpack ({one_line(error)})")
