"""The one error a user meets: a sentence that names the file, the field and the remedy."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upath import UPath

IN_THE_WAY = "move what is in the way, or name another place"
DENIED = "get permission, or name another place"
FULL = "free space and run it again"
REMEDIES = {
    errno.EACCES: DENIED, errno.EPERM: DENIED, errno.EROFS: "name a place on another disk", errno.ENOSPC: FULL,
    errno.EDQUOT: FULL, errno.EFBIG: "name a place that takes larger files", errno.EIO: "check the disk",
    errno.EEXIST: IN_THE_WAY, errno.ENOTDIR: IN_THE_WAY, errno.EISDIR: IN_THE_WAY,
    errno.ENAMETOOLONG: "shorten the name",
}  # fmt: skip
"""What a user can do about a file system that refuses."""
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "fsspec", "urllib3", "google", "gcsfs", "azure", "adlfs")
"""Packages of the clients of object stores; some of their errors are no `OSError`."""


class BadInput(ValueError):  # noqa: N818 - it is input that is bad, not the program
    """Input that cannot be used. The command line prints it alone and exits with status 2.

    Args:
        where: The file, or the file and field, that is at fault.
        problem: What is wrong, with the offending value.
        remedy: What the user can do about it, as an instruction.
    """

    def __init__(self, where: "str | Path | UPath", problem: str, remedy: str) -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{where}: {problem.rstrip('.')}; {remedy.rstrip('.')}.")

    def __reduce__(self) -> tuple[type["BadInput"], tuple[str, str, str]]:  # from a worker process
        return type(self), (self.where, self.problem, self.remedy)


class NoAnswer(BadInput):
    """A server that refuses or does not answer: nothing is known of what it holds, so no tile of it is broken."""


@contextmanager
def refusals_of_a_server(address: str) -> Iterator[None]:
    """Tell why a server gives nothing: no credentials, no such bucket, no such file, no line, no client installed.

    Only reading from that server belongs inside; a local disk that refuses would be told as the server.

    Raises:
        NoAnswer: In place of what fsspec and its clients raise; `BadInput` passes.
    """
    try:
        yield
    except BadInput:
        raise
    except ImportError as error:
        raise NoAnswer(
            address, str(error), "pip install 'stcln[s3]' for s3, or the client the address needs"
        ) from error
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in CLIENTS:
            raise
        problem, remedy = _refusal(error)
        raise NoAnswer(address, problem, remedy) from error


def _refusal(error: Exception) -> tuple[str, str]:
    why, name = " ".join(str(error).split()), type(error).__name__
    if isinstance(error, PermissionError) or "Credential" in name or "Profile" in name:
        return f"access denied, {why}", "set the key and secret of the server, see docs/data.md, On S3"
    if isinstance(error, FileNotFoundError):
        return f"not there, {why}", "correct the bucket and path, or AWS_ENDPOINT_URL"
    return f"the server does not answer, {why or name}", "check the line and AWS_ENDPOINT_URL, and run it again"


@contextmanager
def refusals_of_the_disk() -> Iterator[None]:
    """Tell what the file system refuses as bad input: no permission, no space, something in the way.

    Raises:
        BadInput: In place of such an `OSError`; any other passes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise BadInput(error.filename or "the disk", str(error.strerror), REMEDIES[error.errno]) from error
