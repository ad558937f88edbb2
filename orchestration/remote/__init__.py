"""Results that travel by DVC's remote and run-cache, where steps see no disk of Dagster's.

`order` takes the texts of a workspace to the step, `known` finds what stands from texts and the remote alone, on both
sides; `place` is the step's side and imports no Dagster, `ledger` is Dagster's.
"""
