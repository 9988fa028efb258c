"""Lanes that read and write: decoding, scheduling and the loop."""

from arl.rollout.decoding import Decoding, masked_log_probs
from arl.rollout.lanes import Lane
from arl.rollout.loop import RolloutConfig, Usage, check_rollout, roll_out, start_lanes

__all__ = ["Decoding", "Lane", "RolloutConfig", "Usage", "check_rollout", "masked_log_probs", "roll_out", "start_lanes"]
