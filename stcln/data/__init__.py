"""From an archive to season stores: readers (one a format), the simulator, the store, lengths, splits, the loader."""
