"""Somebody who materialises: `person.py WORKSPACE ASSET|PARTITION ...`, each in a Dagster run of its own."""

import sys
import warnings
from pathlib import Path

import dagster as dg
from toy_workspace import Toy

warnings.simplefilter("ignore")
toy = Toy(Path(sys.argv[1]))
with dg.DagsterInstance.from_config(str(toy.root / ".dagster")) as instance:
    for what in sys.argv[2:]:
        asset, _, partition = what.partition("|")
        if not toy.one(instance, asset, partition).success:
            sys.exit(f"{what} failed")
