"""How sure an agent is of its answers, in words and by a head; and help that it buys when it is unsure."""

import functools

from arl.agents import Act, AskForHelp, Confidence, Layer
from arl.envs import Witnesses
from experiments.config import Config, ModelSizeConfig
from experiments.presets.recipes import learning, whole_episodes

PRICE = 0.1  # of help: never to ask earns 0.912, always 0.900, and to ask whenever it is worth it 0.957


def introspecting(*layers: Layer) -> Config:
    """The answer to a question on which six witnesses disagree; a million questions, so that most of those held out are new."""
    return Config(
        environment=Witnesses(),
        agent=(Act(), *layers),
        model=ModelSizeConfig("0.1M", confidence_head=True),
        rollout=whole_episodes(),
        learner=learning(150, 320, entropy=0.01, confidence_weight=1.0),
    )


def confidence(score: str = "quadratic") -> Config:
    """After each answer the agent states how sure it is of it."""
    return introspecting(Confidence(score=score))


def ask_for_help(price: float = PRICE) -> Config:
    """Before each answer the agent may buy the right one."""
    return introspecting(AskForHelp(price))


PRESETS = {
    "confidence": confidence,
    "confidence_log_score": functools.partial(confidence, "log"),
    "ask_for_help": ask_for_help,
}
ROWS = {"introspection": ("confidence", "confidence_log_score")}
