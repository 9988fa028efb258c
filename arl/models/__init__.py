"""Language models: pure functions of their variables."""

from arl.models.cache import num_slots
from arl.models.config import PRESET_NAMES, ModelConfig, RotaryScaling, preset
from arl.models.export_pretrained import export_pretrained
from arl.models.import_pretrained import load_pretrained, read_config
from arl.models.policy import Policy, Variables, make_policy

__all__ = [
    "PRESET_NAMES",
    "ModelConfig",
    "Policy",
    "RotaryScaling",
    "Variables",
    "export_pretrained",
    "load_pretrained",
    "make_policy",
    "num_slots",
    "preset",
    "read_config",
]
