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
