"""Language models: pure functions of their parameters."""

from arl.models.cache import num_slots
from arl.models.config import PRESET_NAMES, ModelConfig, preset
from arl.models.language_model import LanguageModel, make_language_model

__all__ = ["PRESET_NAMES", "LanguageModel", "ModelConfig", "make_language_model", "num_slots", "preset"]
