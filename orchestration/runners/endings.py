"""How a container or pod ended, as a sentence; and whether it is worth another try."""

from dataclasses import dataclass

KILLED, STOPPED = 137, (130, 143)
NO_PROGRAM = (125, 126, 127)


@dataclass(frozen=True)
class Ending:
    """The end of a container that was no success.

    Attributes:
        status: The exit status of its first process.
        out_of_memory: Whether the kernel ended it for its memory.
        memory: Its limit.
        outside: What ended it from outside, where that is known: `Evicted: ...`.
        out_of_disk: Whether its node ended it for what it wrote.
    """

    status: int
    out_of_memory: bool
    memory: str | None
    outside: str = ""
    out_of_disk: bool = False

    @property
    def again(self) -> bool:
        """Whether the place failed and not the step."""
        if self.out_of_disk:
            return False
        return bool(self.outside) or self.status in STOPPED or (self.status == KILLED and not self.out_of_memory)

    def sentence(self, stage: str, image: str) -> str:
        """What happened, and what the user can do."""
        limit = f"the {self.memory} that `limits` gives it" if self.memory else "this machine has"
        if self.out_of_disk:
            what = f"it needs more disk than its pod has; raise `disk` in its `limits` ({self.outside})"
        elif self.outside:
            what = f"it was ended from outside: {self.outside}"
        elif self.out_of_memory:
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
