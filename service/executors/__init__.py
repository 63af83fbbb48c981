"""Train packs of runs: in this process, or in Ray actors."""
