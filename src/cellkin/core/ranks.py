"""Which of several processes this is, where several train together."""

from __future__ import annotations

import os


def process_rank() -> int:
    """0 for the process that talks and writes; above 0 for its companions.

    Read from what the launchers set: `RANK` (torchrun), `SLURM_PROCID` of a job step that srun
    started, or `NODE_RANK` and `LOCAL_RANK` (cellkin's own launcher).
    """
    env = os.environ
    if "RANK" in env:
        return int(env["RANK"])
    if "LOCAL_RANK" not in env and "SLURM_STEP_NUM_TASKS" in env:
        return int(env.get("SLURM_PROCID", "0"))
    return int(env.get("NODE_RANK", "0")) + int(env.get("LOCAL_RANK", "0"))
