"""Schedules, and what a learner's config refuses."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arl.training import LearnerConfig, Rule, Schedule, curriculum_at
from arl.training import config as configs

share = st.floats(0, 1, width=32)


@pytest.mark.parametrize(
    ("schedule", "progress", "value"),
    [
        (Schedule(1.0, 0.0), 0.25, 0.75),
        (Schedule(1.0, 0.0, until=0.5), 0.25, 0.5),
        (Schedule(1.0, 0.0, until=0.5), 0.9, 0.0),
        (Schedule(1.0, 3.0, since=0.5), 0.5, 1.0),
        (Schedule(1.0, 3.0, since=0.5), 0.75, 2.0),
        (Schedule(1.0, 1.0, warmup=0.1), 0.05, 0.5),
        (Schedule(1.0, 1.0, warmup=0.1), 0.0, 0.0),
        (Schedule(1.0, 0.0, warmup=0.5), 0.25, 0.375),
        (Schedule(2.0, 5.0), 7.0, 5.0),
    ],
)
def test_schedule_is_a_straight_line_between_its_ends(schedule, progress, value):
    assert schedule(progress) == pytest.approx(value)
    assert jax.jit(schedule)(progress) == pytest.approx(value)


@given(st.floats(-5, 5), st.floats(-5, 5), share, share, st.tuples(share, share).filter(lambda x: x[0] + 0.01 < x[1]))
def test_schedule_moves_one_way_between_its_ends(start, end, a, b, span):
    schedule = Schedule(start, end, since=span[0], until=span[1])
    first, second = float(schedule(min(a, b))), float(schedule(max(a, b)))
    slack = 1e-4
    assert min(start, end) - slack <= first <= max(start, end) + slack
    assert (second - first) * np.sign(end - start) >= -slack
    assert float(schedule(0.0)) == pytest.approx(start, abs=slack) and float(schedule(1.0)) == pytest.approx(end, abs=slack)


@pytest.mark.parametrize("options", [dict(until=0.0), dict(since=0.6, until=0.5), dict(until=1.5), dict(since=-0.1), dict(warmup=2.0)])
def test_schedules_that_do_not_fit_in_a_run_are_refused(options):
    with pytest.raises(ValueError, match="0 <= since < until <= 1"):
        Schedule(1.0, 0.0, **options)


def test_curricula_are_nested_by_their_dotted_names():
    schedules = {"attempts.keep": Schedule(1.0, 0.0), "attempts.price": Schedule(2.0, 2.0), "outer.inner.rate": Schedule(0.0, 4.0)}
    curriculum = curriculum_at(schedules, 0.25)
    assert jax.tree.map(float, curriculum) == {"attempts": {"keep": 0.75, "price": 2.0}, "outer": {"inner": {"rate": 1.0}}}
    assert curriculum_at({}, 0.5) == {}


def test_the_default_is_possible_and_made_of_plain_values():
    configs.check_config(LearnerConfig())
    assert json.loads(json.dumps(dataclasses.asdict(LearnerConfig())))["learning_rate"]["start"] == 1e-3


IMPOSSIBLE = [
    *[
        (dict(**{name: 0}), f"LearnerConfig.{name} is 0; set it >= 1")
        for name in ("num_updates", "num_lanes", "group_size", "num_blocks", "num_epochs")
    ],
    *[
        (dict(**{name: -1}), f"LearnerConfig.{name} is -1; set it >= 1")
        for name in ("num_minibatches", "microbatch_size", "constant_tokens")
    ],
    (dict(group_size=6), "set LearnerConfig.num_lanes to a multiple of the group size"),
    (dict(num_lanes=250), "set LearnerConfig.num_lanes to a multiple of 256"),
    (dict(num_minibatches=3), "set LearnerConfig.num_lanes to a multiple of 192"),
    (dict(num_blocks=48), "set LearnerConfig.microbatch_size to a multiple of LearnerConfig.num_blocks"),
    (dict(rules={"acts": Rule()}), "names 'acts', which is no kind of segment"),
    (dict(rules={"action": 0.5}), "rules.action is 0.5; set it to a Rule()"),
    (dict(rules={"action": Rule(span="turn")}), "set it to one of episode, attempt, kind"),
    (dict(rules={"action": Rule(gae_lambda=1.5)}), "rules.action.gae_lambda is 1.5; set it between 0 and 1"),
    (dict(rules={"action": Rule(weight=-1.0)}), "rules.action.weight is -1.0; set it to a number >= 0"),
    (dict(value_rule="action"), "has none of that name"),
    (dict(normalize=False, normalize_by_kind=True), "set LearnerConfig.normalize=True, or normalize_by_kind=False"),
    (dict(rules={"action": Rule(span="kind")}, value_rule="action"), "targets for its own segments alone"),
    *[
        (dict(**{name: "none"}), f"LearnerConfig.{name} is 'none'; set it to one of")
        for name in ("gae_lambda_counts", "policy_loss", "ratio", "aggregation", "zero_variance_groups", "kl_estimator")
    ],
]


@pytest.mark.parametrize(("options", "words"), IMPOSSIBLE, ids=lambda x: x if isinstance(x, str) else "")
def test_impossible_values_are_answered_in_one_sentence(options, words):
    with pytest.raises(ValueError) as caught:
        configs.check_config(dataclasses.replace(LearnerConfig(), **options))
    assert words in str(caught.value) and "\n" not in str(caught.value)
