"""Language models as pure functions over their parameters."""

from arl.models.cache import num_slots
from arl.models.config import PRESET_NAMES, ModelConfig, preset
from arl.models.language_model import make_language_model

__all__ = ["PRESET_NAMES", "ModelConfig", "make_language_model", "num_slots", "preset"]
