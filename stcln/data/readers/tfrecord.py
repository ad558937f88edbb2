"""TFRecord files of tf.train.Example, read and written without TensorFlow.

Framing: uint64 length, masked crc32c of the length, payload, masked crc32c of the payload, all little-endian. The
payload is protobuf: Example{1: Features{1: map entry{1: key, 2: Feature}}}, Feature{1 bytes | 3 int64s}.
Both checksums are checked. What the features mean belongs to the readers.
"""

import gzip
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import google_crc32c
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from stcln.errors import BadInput

if TYPE_CHECKING:
    from upath import UPath

Feature = list[memoryview] | NDArray[np.int64]
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
AGAIN = "fetch the file again"
LARGEST = 1 << 28  # bytes of a record: a tile of 48 pixels with 366 dates has a sixth of it


def read(path: "Path | UPath") -> Iterator[bytes]:
    """Yield the payloads of a gzipped TFRecord file.

    Raises:
        BadInput: The file is missing, its gzip or a record is cut off, a checksum does not match, or a record is
            larger than any tile.
    """
    try:
        with path.open("rb") as file, igzip.open(file, "rb") as stream:
            while header := stream.read(12):
                (length,) = struct.unpack("<Q", _checked(path, header[:8], header[8:], 8, "length"))
                if length > LARGEST:
                    raise BadInput(path, f"a record has {length} bytes, more than {LARGEST}", AGAIN)
                payload = stream.read(length)
                yield _checked(path, payload, stream.read(4), length, "payload")
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", AGAIN) from None
    except (EOFError, gzip.BadGzipFile, IsalError) as error:  # type: ignore[misc]  # the stub has it an instance
        raise BadInput(path, f"broken gzip: {error}", AGAIN) from None


def write(path: Path, payloads: Sequence[bytes]) -> None:
    """Write payloads as a gzipped TFRecord file. The same payloads give the same bytes: no time, no name inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, cast(IO[bytes], raw), mtime=0) as stream:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            stream.write(length + _crc(length) + payload + _crc(payload))


def parse(path: "Path | UPath", payload: bytes) -> dict[str, Feature]:
    """Decode a tf.train.Example.

    Args:
        path: File the payload is from, for messages.
        payload: The serialised message.

    Returns:
        Feature by name: a list of views into the payload, or an int64 vector.

    Raises:
        BadInput: It is not an Example, or holds floats, which no supported layout has.
    """
    found: dict[str, Feature] = {}
    try:
        for features in _messages(memoryview(payload), 1):
            for entry in _messages(features, 1):
                parts = {number: value for number, value in _fields(entry) if isinstance(value, memoryview)}
                found[str(parts[1], "utf-8")] = _feature(parts.get(2, memoryview(b"")))
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise BadInput(path, f"not a tf.train.Example: {error}", AGAIN) from None
    return found


def encode(features: Mapping[str, bytes | memoryview | Sequence[int]]) -> bytes:
    """Encode a tf.train.Example; keys are sorted, so the same features give the same bytes.

    Args:
        features: By name, one bytes value or a sequence of integers.
    """
    entries = b""
    for key in sorted(features):
        value = features[key]
        if isinstance(value, bytes | memoryview):
            feature = _field(1, _field(1, value))
        else:
            feature = _field(3, _field(1, b"".join(_varint(int(number)) for number in value)))
        entries += _field(1, _field(1, key.encode()) + _field(2, feature))
    return _field(1, entries)


def _checked(path: "Path | UPath", data: bytes, crc: bytes, length: int, what: str) -> bytes:
    if len(data) < length or len(crc) < 4:
        raise BadInput(path, f"cut off inside a record's {what}", AGAIN)
    if crc != _crc(data):
        raise BadInput(path, f"checksum of a record's {what} does not match", AGAIN)
    return data


def _crc(data: bytes) -> bytes:
    """Masked crc32c, so that a checksum of data that hold checksums stays a good one."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _feature(message: memoryview) -> Feature:
    for number, value in _fields(message):
        if not isinstance(value, memoryview):
            raise ValueError(f"feature of wire type other than {BYTES}")
        if number == 1:
            return _messages(value, 1)
        if number == 3:
            return np.array(_integers(value), np.uint64).astype(np.int64)
        raise ValueError(f"feature of kind {number}, neither bytes nor integers")
    return []


def _integers(message: memoryview) -> list[int]:
    numbers: list[int] = []
    for _, value in _fields(message):
        if isinstance(value, int):
            numbers.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _read_varint(value, at)
            numbers.append(number)
    return numbers


def _messages(message: memoryview, wanted: int) -> list[memoryview]:
    return [value for number, value in _fields(message) if number == wanted and isinstance(value, memoryview)]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a protobuf message: number, and the value of a number or the bytes of anything longer."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
            yield tag >> 3, int.from_bytes(message[at : at + size], "little")
            at += size
        elif kind == BYTES:
            size, at = _read_varint(message, at)
            if at + size > len(message):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at


def _field(number: int, payload: bytes | memoryview) -> bytes:
    return b"".join((_varint(number << 3 | BYTES), _varint(len(payload)), payload))


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
