"""Language models: pure functions of their variables."""

from arl.models.cache import num_slots
from arl.models.config import PRESET_NAMES, ModelConfig, preset
from arl.models.policy import Policy, Variables, make_policy

__all__ = ["PRESET_NAMES", "ModelConfig", "Policy", "Variables", "make_policy", "num_slots", "preset"]
