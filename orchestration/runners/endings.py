"""How a container ended, and what refused to start it, as a sentence; and whether it is worth another try."""

from dataclasses import dataclass

from docker.errors import APIError, ImageNotFound, NotFound

KILLED, STOPPED = 137, (130, 143)
NO_PROGRAM = (125, 126, 127)


@dataclass(frozen=True)
class Ending:
    """The end of a container that was no success.

    Attributes:
        status: The exit status of its first process.
        out_of_memory: Whether the kernel ended it for its memory.
        memory: Its limit.
    """

    status: int
    out_of_memory: bool
    memory: str | None

    @property
    def again(self) -> bool:
        """Whether the place failed and not the step."""
        return self.status in STOPPED or (self.status == KILLED and not self.out_of_memory)

    def sentence(self, stage: str, image: str) -> str:
        """What happened, and what the user can do."""
        limit = f"the {self.memory} that `limits` gives it" if self.memory else "this machine has"
        if self.out_of_memory:
            what = f"it needs more memory than {limit}; raise it, or lower the batch"
        elif self.status == KILLED:  # podman does not say everywhere that it was for memory
            what = f"its container was killed, from outside or because it needs more memory than {limit}"
        elif self.status in STOPPED:
            what = "it was stopped from outside"
        elif self.status in NO_PROGRAM:
            what = f"image {image} cannot start it; build the image again"
        else:
            what = "its last lines say why"
        return f"{stage}: {what} (exit status {self.status})."


def refusal(error: Exception, image: str) -> tuple[str, bool]:
    """Why no container could be had, and whether to try again."""
    if isinstance(error, ImageNotFound | NotFound) or (isinstance(error, APIError) and "pull" in str(error)):
        return (
            f"image {image}: it is not here and cannot be pulled ({_short(error)}); build it with `make images`.",
            False,
        )
    if isinstance(error, APIError) and not error.is_server_error():
        return f"image {image}: the daemon refuses the container ({_short(error)}); mend the deployment.", False
    if isinstance(error, APIError):
        return f"the container daemon failed ({_short(error)}); its log says why.", True
    return f"no container daemon answers ({_short(error)}); start it, or correct DOCKER_HOST.", True


def _short(error: Exception) -> str:
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())[:300]
