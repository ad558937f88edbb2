"""TFRecord framing and tf.train.Example."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from stcln.data.readers import tfrecord
from stcln.errors import BadInput

MTLCC = "real/mtlcc/data_IJGI18/datasets/full/240"
FEATURES: dict[str, bytes | list[int]] = {"b/shape": [3, 0, 300, -1], "a/data": b"\x00\xff" * 300, "c/empty": []}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "1.tfrecord.gz"
    tfrecord.write(path, [tfrecord.encode(FEATURES)])
    return path


def test_what_is_written_is_read_back(record: Path) -> None:
    (payload,) = tfrecord.read(record)
    found = tfrecord.parse(record, payload)
    assert list(found) == ["a/data", "b/shape", "c/empty"]
    assert found["a/data"] == [FEATURES["a/data"]]
    assert np.array_equal(found["b/shape"], [3, 0, 300, -1])


def test_the_same_features_give_the_same_bytes_in_any_order(tmp_path: Path, record: Path) -> None:
    other = tmp_path / "elsewhere" / "2.tfrecord.gz"
    tfrecord.write(other, [tfrecord.encode(dict(reversed(FEATURES.items())))])
    assert other.read_bytes() == record.read_bytes()


def test_a_real_record_is_written_again_with_the_same_content(shared: Path, tmp_path: Path) -> None:
    (payload,) = tfrecord.read(shared / MTLCC / "data19/1901.tfrecord.gz")
    found = tfrecord.parse(Path("real"), payload)
    assert np.array_equal(found["x10/shape"], [48, 24, 24, 4])
    plain = {key: value[0] if isinstance(value, list) else value.tolist() for key, value in found.items()}
    again = tfrecord.parse(Path("again"), tfrecord.encode(plain))  # type: ignore[arg-type]
    assert all(np.array_equal(np.asarray(again[key]), np.asarray(found[key])) for key in found)


@pytest.mark.parametrize(("at", "what"), [(3, "length"), (40, "payload")])
def test_one_flipped_bit_is_found_by_the_checksum(record: Path, at: int, what: str) -> None:
    data = bytearray(gzip.decompress(record.read_bytes()))
    data[at] ^= 4
    record.write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(BadInput, match=f"1.tfrecord.gz: checksum of a record's {what} does not match"):
        list(tfrecord.read(record))


def test_a_truncated_gzip_is_refused(record: Path) -> None:
    record.write_bytes(record.read_bytes()[:-12])
    with pytest.raises(BadInput, match="broken gzip"):
        list(tfrecord.read(record))


def test_a_record_that_ends_early_is_refused(record: Path) -> None:
    record.write_bytes(gzip.compress(gzip.decompress(record.read_bytes())[:-7]))
    with pytest.raises(BadInput, match="cut off inside a record's payload"):
        list(tfrecord.read(record))


def test_a_record_that_claims_more_than_any_tile_has_is_not_unpacked(record: Path) -> None:
    """A bomb: a hundred kilobytes that become as many megabytes, with a good checksum of the length."""
    length = (tfrecord.LARGEST + 1).to_bytes(8, "little")
    record.write_bytes(gzip.compress(length + tfrecord._crc(length) + bytes(1 << 20)))
    with pytest.raises(BadInput, match=f"a record has {tfrecord.LARGEST + 1} bytes, more than {tfrecord.LARGEST}"):
        list(tfrecord.read(record))


def test_a_gzip_of_several_members_is_one_stream(tmp_path: Path, record: Path) -> None:
    data = gzip.decompress(record.read_bytes())
    record.write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]))
    assert len(list(tfrecord.read(record))) == 1


def test_a_feature_is_a_view_into_the_payload(record: Path) -> None:
    (payload,) = tfrecord.read(record)
    (view,) = tfrecord.parse(record, payload)["a/data"]
    assert isinstance(view, memoryview) and view.obj is payload


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent.tfrecord.gz: the file is missing; fetch the file again\."):
        list(tfrecord.read(tmp_path / "absent.tfrecord.gz"))


def test_a_payload_that_is_no_example_is_refused() -> None:
    with pytest.raises(BadInput, match=r"not a tf.train.Example"):
        tfrecord.parse(Path("x"), b"\x0a\xff\x01")
