"""The folder of a run: whose it is, also where the run is older than a field of the config."""

import json

import pytest

from arl.types import ArlError
from experiments import folder
from experiments.presets import get_preset

TOLD = folder.record(get_preset("bandit"), 3)


def test_a_run_from_before_a_field_existed_is_the_same_run(tmp_path):
    older = json.loads(json.dumps(TOLD))
    del older["learner"]["zero_variance_groups"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    folder.check(tmp_path, TOLD)


def test_another_value_or_seed_is_another_run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TOLD))
    for expected in (folder.record(get_preset("bandit"), 4), folder.record(get_preset("history"), 3)):
        with pytest.raises(ArlError, match="another config or seed"):
            folder.check(tmp_path, expected)
