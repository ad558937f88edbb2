"""Fixtures of the tests on a real S3 server."""

from on_s3 import simulated, uploaded  # noqa: F401 - fixtures
