"""Fixtures of the tests on a real S3 server."""

from on_s3 import uploaded  # noqa: F401 - a fixture
