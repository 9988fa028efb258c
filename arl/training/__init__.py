"""From streams to updates: credit, loss, the learner, and what surrounds it."""

from arl.training.config import LearnerConfig, Schedule, setting_at
from arl.training.credit import ESTIMATORS, Credit
from arl.training.learner import Learner, TrainState, make_learner

__all__ = ["ESTIMATORS", "Credit", "Learner", "LearnerConfig", "Schedule", "TrainState", "make_learner", "setting_at"]
