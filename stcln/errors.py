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

    status = 2

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
        if not isinstance(error, OSError) and not _of_a_client(error):
            raise
        raise no_answer(address, error) from error


def no_answer(address: str, error: BaseException) -> NoAnswer:
    """The sentence for what a server's client raised."""
    why, name = " ".join(str(error).split()), type(error).__name__
    if isinstance(error, PermissionError) or "Credential" in name or "Profile" in name:
        remedy = "set the key and secret of the server, see docs/data.md, On S3"
        return NoAnswer(address, f"access denied, {why}", remedy)
    if isinstance(error, FileNotFoundError):
        return NoAnswer(address, f"not there, {why}", "correct the bucket and path, or AWS_ENDPOINT_URL")
    problem = f"the server does not answer, {why or name}"
    return NoAnswer(address, problem, "check the line and AWS_ENDPOINT_URL, and run it again")


def beneath(error: BaseException) -> BaseException | None:
    """The error of a server's client that an error was made of, unless the server said that a file is missing."""
    below = error.__cause__ or error.__context__
    if below is None or isinstance(below, FileNotFoundError):
        return None
    return below if _of_a_client(below) else beneath(below)


def _of_a_client(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in CLIENTS


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
