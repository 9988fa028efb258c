"""How an agent is trained and evaluated in a run."""

import dataclasses

from arl.checks import Checked
from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Schedule
from arl.types import ArlError


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Checked):
    """How an agent is evaluated.

    Attributes:
      num_episodes: number of held-out episodes, all complete.
      greedy: whether decoding is greedy; otherwise tokens are sampled.
    """

    num_episodes: int = 2048
    greedy: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.num_episodes < 1:
            raise ArlError(f"EvaluationConfig.num_episodes is {self.num_episodes}; set it >= 1")


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
    """The config of a training.

    Attributes:
      rollout, learner, evaluation: see their classes.
      warm_start: updates of behaviour cloning from the expert, before those from rewards.
      warm_start_learning_rate: learning rate of these updates; their Adam epsilon is the default, not that of `learner`.
      checkpoint_every: updates between two checkpoints; another is saved at each evaluation.
      evaluate_every: updates between two evaluations on held-out episodes, at which transcripts are written too; 0 evaluates after each
        quarter of the run.
    """

    rollout: RolloutConfig = RolloutConfig()
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    evaluation: EvaluationConfig = EvaluationConfig()
    warm_start: int = 0
    warm_start_learning_rate: Schedule = Schedule(1e-3, 0.0, since=0.4)
    checkpoint_every: int = 50
    evaluate_every: int = 0

    @property
    def num_updates(self) -> int:
        """Updates of the run, warm start included."""
        return self.warm_start + self.learner.num_updates

    @property
    def evaluation_updates(self) -> tuple[int, ...]:
        """The numbers of updates after which the agent is evaluated, ascending; the first is 0, the last that of the whole run."""
        every = self.evaluate_every
        between = range(0, self.num_updates, every) if every else (quarter * self.num_updates // 4 for quarter in range(4))
        return (*sorted(set(between) - {self.num_updates}), self.num_updates)

    @property
    def warm_start_learner(self) -> LearnerConfig:
        """The learner config of the warm start: that of the run, with its own learning rate and Adam epsilon."""
        optimizer = {"learning_rate": self.warm_start_learning_rate, "adam_epsilon": LearnerConfig.adam_epsilon}
        return dataclasses.replace(self.learner, **optimizer)

    def __post_init__(self):
        super().__post_init__()
        if self.checkpoint_every < 1:
            raise ArlError(f"TrainConfig.checkpoint_every is {self.checkpoint_every}; set it >= 1")
        if self.warm_start < 0:
            raise ArlError(f"TrainConfig.warm_start is {self.warm_start}; set it >= 0")
        if self.evaluate_every < 0:
            raise ArlError(f"TrainConfig.evaluate_every is {self.evaluate_every}; set it >= 0")
        if min(self.warm_start_learning_rate.start, self.warm_start_learning_rate.end) < 0:
            raise ArlError("TrainConfig.warm_start_learning_rate is negative; set its start and end >= 0")
        if self.evaluation.num_episodes < 2:  # one episode can be watched, but has no spread
            raise ArlError(f"EvaluationConfig.num_episodes is {self.evaluation.num_episodes}; set it >= 2")
