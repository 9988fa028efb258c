"""Rollouts: lanes that read and write, decoding, and the scheduling of calls."""

from arl.rollout.check import check_size
from arl.rollout.config import RolloutConfig, check_rollout, resolve_lengths
from arl.rollout.decoding import Decoding, masked_log_probs
from arl.rollout.lanes import Lane
from arl.rollout.loop import Usage, roll_out, start_lanes
from arl.rollout.writers import Proposal, Request, Writer, expert_writer

__all__ = [
    "Decoding",
    "Lane",
    "Proposal",
    "Request",
    "RolloutConfig",
    "Usage",
    "Writer",
    "check_rollout",
    "check_size",
    "expert_writer",
    "masked_log_probs",
    "resolve_lengths",
    "roll_out",
    "start_lanes",
]
