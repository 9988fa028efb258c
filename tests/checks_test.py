"""What a caller gives is of the types that its annotations say, and any other value is answered in one sentence."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

import arl
from arl import agents, envs, models
from arl.agents import Act, Attempts, ScaleRewards, Think, TokenCost
from arl.checks import check_fields
from arl.training import LearnerConfig, Rule, Schedule
from tests import tiny


@dataclasses.dataclass(frozen=True)
class Theirs:
    """A config of a user, with types that are not known here and a default that does not fit."""

    count: int = 1
    pairs: tuple[tuple[int, int], ...] = ()
    sizes: tuple[int, str] = (1, "a")
    rate: float | None = None
    by_name: dict[str, float] = dataclasses.field(default_factory=dict)
    inner: Rule = Rule()
    anything: Any = None
    array: jax.Array | None = None
    odd: float = None  # pyright: ignore[reportAssignmentType]


@pytest.mark.parametrize(
    "fits",
    [
        dict(count=np.int32(3), rate=np.float32(0.5), odd=2),
        dict(pairs=[(1, 2)], sizes=(2, "b"), rate=1, by_name={"a": 1}),
        dict(anything=3, array="not looked at", rate=None, inner=Rule(weight=2)),
    ],
)
def test_values_of_their_types_pass(fits):
    check_fields(Theirs(**fits))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (dict(count=1.0), "Theirs.count is 1.0; set it to a whole number"),
        (dict(count=True), "Theirs.count is True; set it to a whole number"),
        (dict(pairs=8), "Theirs.pairs is 8; set it to a tuple of pairs of whole numbers"),
        (dict(pairs=((1,),)), "Theirs.pairs is ((1,),); set it to a tuple of pairs of whole numbers"),
        (dict(sizes=("a", 1)), "Theirs.sizes is ('a', 1); set it to a tuple of a whole number, a string"),
        (dict(rate="a"), "Theirs.rate is 'a'; set it to a number or None"),
        (dict(by_name={"a": "b"}), "Theirs.by_name.a is 'b'; set it to a number"),
        (dict(by_name=()), "Theirs.by_name is (); set it to a dict of numbers by name"),
        (dict(inner={}), "Theirs.inner is {}; set it to a Rule()"),
    ],
)
def test_other_values_are_named_with_what_to_set(wrong, says):
    with pytest.raises(arl.ArlError) as caught:
        check_fields(Theirs(**wrong))
    assert str(caught.value) == says


TASK = tiny.make(tiny.make_walk(), Act()).task


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Act(step_cost="a"), "Act.step_cost is 'a'; set it to a number"),
        (lambda: Act(name=3), "Act.name is 3; set it to a string"),
        (lambda: Attempts(2.0), "Attempts.num_attempts is 2.0; set it to a whole number"),
        (lambda: Think("8"), "Think.budget is '8'; set it to a whole number"),
        (lambda: TokenCost("a"), "TokenCost.goal is 'a'; set it to a number"),
        (lambda: ScaleRewards("a"), "ScaleRewards.outcome is 'a'; set it to a number"),
        (lambda: envs.Corridor(4.5), "Corridor.length is 4.5; set it to a whole number"),
        (lambda: envs.FrozenLake(map=3), "FrozenLake.map is 3; set it to a string"),
        (lambda: arl.TrainConfig(rollout=3), "TrainConfig.rollout is 3; set it to a RolloutConfig()"),
        (lambda: arl.TrainConfig(learner={}), "TrainConfig.learner is {}; set it to a LearnerConfig()"),
        (lambda: LearnerConfig(learning_rate=0.1), "LearnerConfig.learning_rate is 0.1; set it to a Schedule()"),
        (lambda: LearnerConfig(rules=[]), "LearnerConfig.rules is []; set it to a dict of Rule by name"),
        (lambda: LearnerConfig(rules={"act": 1}), "LearnerConfig.rules.act is 1; set it to a Rule()"),
        (lambda: LearnerConfig(normalize="no"), "LearnerConfig.normalize is 'no'; set it to True or False"),
        (lambda: Rule(gae_lambda="a"), "Rule.gae_lambda is 'a'; set it to a number or None"),
        (lambda: Schedule(float("nan")), "a schedule from nan to 0.0 has no end"),
        (lambda: Schedule(0.0, float("inf")), "set Schedule.start and Schedule.end to finite numbers"),
        (lambda: arl.RolloutConfig(widths=8), "RolloutConfig.widths is 8; set it to a tuple of pairs of whole numbers"),
        (lambda: arl.RolloutConfig(decoding=3), "RolloutConfig.decoding is 3; set it to a Decoding()"),
        (lambda: arl.Decoding(temperature=float("nan")), "set Decoding.temperature >= 0"),
        (lambda: arl.EvaluationConfig(num_episodes="8"), "EvaluationConfig.num_episodes is '8'; set it to a whole number"),
        (lambda: models.preset("0.1M", "a"), "ModelConfig.vocab_size is 'a'; set it to a whole number"),
        (lambda: models.preset("0.1M", 512, depth=3), "ModelConfig has no field 'depth'"),
        (lambda: arl.make_policy("0.1M"), "the model is '0.1M'; give a ModelConfig, such as models.preset"),
        (lambda: tiny.model().init(0), "the key is 0; give a random key, such as jax.random.key(1)"),
        (lambda: tiny.model().init(jax.random.PRNGKey(0)), "give a random key, such as jax.random.key(1)"),
        (lambda: arl.check(TASK, num_episodes=8.5), "num_episodes is 8.5; set it to a whole number"),
        (lambda: arl.live(tiny.agent("act"), curriculum=3), "the curriculum is 3; give a dict"),
    ],
)
def test_wrong_types_are_refused_when_they_are_given(make, says):
    with pytest.raises(arl.ArlError) as caught:
        make()
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["gpt2", None])
@pytest.mark.parametrize("config", [part() for part in vars(envs).values() if hasattr(part, "make")], ids=lambda x: type(x).__name__)
def test_what_is_no_tokenizer_is_refused(config, wrong):
    with pytest.raises(arl.ArlError, match=f"the tokenizer is {wrong!r}; give a fast tokenizer, such as arl.load_tokenizer"):
        config.make(wrong)


@dataclasses.dataclass(frozen=True)
class Unasked(agents.Layer):
    """A layer of a user whose own `__post_init__` does not call that of `Layer`."""

    count: int = 1

    def __post_init__(self):
        pass


def test_layers_that_do_not_check_themselves_are_checked_with_their_agent():
    with pytest.raises(arl.ArlError, match="Unasked.count is 'a'; set it to a whole number"):
        arl.make_agent(TASK, [Act(), Unasked("a")])
