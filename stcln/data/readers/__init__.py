"""Readers, one a layout of archive: each yields the `Tile`s of a season. What is done with them is `prepare`'s."""
