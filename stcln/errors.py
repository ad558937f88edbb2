"""The one error a user meets: a sentence that names the file, the field and the remedy."""

from pathlib import Path


class BadInput(ValueError):  # noqa: N818 - it is input that is bad, not the program
    """Input that cannot be used. The command line prints it alone and exits with status 2.

    Args:
        where: The file, or the file and field, that is at fault.
        problem: What is wrong, with the offending value.
        remedy: What the user can do about it, as an instruction.
    """

    def __init__(self, where: str | Path, problem: str, remedy: str) -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{where}: {problem.rstrip('.')}; {remedy.rstrip('.')}.")
