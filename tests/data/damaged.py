"""Damage for files, drawn from a seed."""

import random


def damage(body: bytes, rng: random.Random) -> bytes:
    """Cut, flip, overwrite, double or take out some bytes; ends are hit more often, since directories lie there."""
    at = rng.choice([rng.randrange(len(body)), len(body) - 1 - rng.randrange(min(900, len(body)))])
    length = rng.choice([1, 1, 2, 4, 40])
    match rng.randrange(5):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]
        case 2:
            return body[:at] + rng.choice([b"\0", b"\xff", rng.randbytes(1)]) * length + body[at + length :]
        case 3:
            return body[:at] + body[at : at + length] + body[at:]
    return body[:at] + body[at + length :]
