"""Training: credit assignment, losses, the learner, warm starts, evaluation and checkpoints."""

from arl.training.backend import backend_fault
from arl.training.checkpoint import CheckpointError, Checkpoints
from arl.training.config import LearnerConfig, Rule, Schedule, curriculum_at
from arl.training.credit import ESTIMATORS, Credit, is_decision, is_own_decision, returns_of
from arl.training.epoch import make_optimizer
from arl.training.layout import Layout
from arl.training.learner import Experience, Learner, TrainState, make_learner
from arl.training.parallel import jit_update, make_mesh, pmap_update, replicate, shard_map_update, unreplicate
from arl.training.run import Callback, MetricsFile, TrainingError, read_metrics, run, stop_on_signals
from arl.training.warm_start import cloning_config, expert_rollout, in_turn, make_warm_start

__all__ = [
    "ESTIMATORS",
    "Callback",
    "CheckpointError",
    "Checkpoints",
    "Credit",
    "Experience",
    "Layout",
    "Learner",
    "LearnerConfig",
    "MetricsFile",
    "Rule",
    "Schedule",
    "TrainState",
    "TrainingError",
    "backend_fault",
    "cloning_config",
    "expert_rollout",
    "in_turn",
    "is_decision",
    "is_own_decision",
    "make_learner",
    "make_optimizer",
    "make_warm_start",
    "read_metrics",
    "returns_of",
    "jit_update",
    "make_mesh",
    "pmap_update",
    "replicate",
    "run",
    "curriculum_at",
    "shard_map_update",
    "unreplicate",
    "stop_on_signals",
]
