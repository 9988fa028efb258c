"""The config of a rollout: lengths, widths and decoding, and the checks of it."""

import dataclasses

from arl.checks import Checked
from arl.rollout.decoding import MOST_KEPT, Decoding, num_kept
from arl.rollout.writers import UNITS
from arl.types import ArlError, Interaction

SLOT_UNIT = 8  # slots of the cache are a multiple of this, the size of a vector register; stages of a long cache of four times this
MOST_TURNS = 2**16 - 1  # a trajectory counts turns, attempts and episodes in 16 bits
CONTEXTS = 4  # length of a trajectory with restarts, in contexts; its beginning reads half a context again, on average


@dataclasses.dataclass(frozen=True)
class RolloutConfig(Checked):
    """How lanes are rolled out.

    Attributes:
      trajectory_length: `T`, tokens that a lane reads in a trajectory; 0 for the length that suits the interaction, see `resolve_lengths`.
      context_length: tokens of the longest context; 0 for that of the interaction.
      widths: pairs `(divisor, width)`, the shapes of calls besides "all lanes, one token"; see `schedule.make_shapes`.
      overhead: fixed cost of a call, in computed tokens.
      restarts: whether a lane begins another episode when one ends; otherwise it stops, and the rest of its trajectory is wasted. Restarts
        pay where episodes differ in length. Groups cannot restart: they compare episodes that begin together.
      decoding: how a token is chosen.
      expert_fraction: fraction of episodes or segments that the interaction's experts write in the policy's place; see `expert_writer`. The
        schedule "expert.fraction" takes its place. At 1, without it, all episodes begin anew in every update. Log-probs are those of the
        tokens under the policy, whoever wrote them.
      expert_unit: "episode" or "segment", what is drawn to be written by the experts.
    """

    trajectory_length: int = 0
    context_length: int = 0
    widths: tuple[tuple[int, int], ...] = ((1, 8),)
    overhead: float = 64.0
    restarts: bool = False
    decoding: Decoding = Decoding()
    expert_fraction: float = 0.0
    expert_unit: str = "episode"

    @property
    def widest(self) -> int:
        """Tokens per lane of the widest call."""
        return max([1, *(width for _, width in self.widths)])

    @property
    def num_slots(self) -> int:
        """Slots of the cache per lane: the longest context and the widest call, rounded up to whole vector registers."""
        return -(-(self.context_length + self.widest) // SLOT_UNIT) * SLOT_UNIT

    @property
    def stages(self) -> tuple[int, ...]:
        """Slots of the cache at each stage of its growth: a call attends to all slots, used or not. A long cache has up to four stages."""
        num_stages = max(1, min(4, self.num_slots // 64))
        step = -(-self.num_slots // (num_stages * 4 * SLOT_UNIT)) * 4 * SLOT_UNIT
        return (*range(step, self.num_slots, step), self.num_slots)


def resolve_lengths(config: RolloutConfig, interaction: Interaction) -> RolloutConfig:
    """Returns the config with lengths of 0 replaced by those that suit an interaction.

    A context is as long as `size.context`. A trajectory holds a whole episode; with restarts it holds at most four contexts, because an
    episode goes on in the next trajectory and few are as long as the longest.

    Args:
      config: the config to fill in.
      interaction: the agent in its environment.

    Returns:
      The config, without lengths of 0.
    """
    context = config.context_length or interaction.size.context
    whole = interaction.size.episode + 1
    return dataclasses.replace(
        config,
        trajectory_length=config.trajectory_length or (min(whole, CONTEXTS * context) if config.restarts else whole),
        context_length=context,
    )


def check_rollout(interaction: Interaction, config: RolloutConfig, vocabulary_size: int) -> None:
    """Refuses a config under which lanes cannot be rolled out.

    Args:
      interaction: the agent in its environment.
      config: the config to check.
      vocabulary_size: `V`, tokens of the model's vocabulary.

    Raises:
      ArlError: if a length, the vocabulary or the decoding does not suit the interaction.
    """
    config, size = resolve_lengths(config, interaction), interaction.size
    if not 0 <= config.overhead < float("inf"):
        raise ArlError(f"RolloutConfig.overhead is {config.overhead}; set it to a number >= 0")
    if config.context_length < size.context:
        raise ArlError(
            f"context of {config.context_length} tokens cannot hold {size.turns} turns ({size.context} tokens at the longest); "
            f"set RolloutConfig.context_length >= {size.context}"
        )
    if size.turns > MOST_TURNS or (config.restarts and config.trajectory_length > MOST_TURNS):
        raise ArlError(
            f"a trajectory counts at most {MOST_TURNS} turns and episodes; set fewer attempts or a lower time limit than those of "
            f"{size.turns} turns, and RolloutConfig.trajectory_length <= {MOST_TURNS}, or restarts=False"
        )
    shortest = size.read + size.written + 2
    if config.trajectory_length < shortest:
        raise ArlError(
            f"a trajectory of {config.trajectory_length} tokens cannot hold one turn of {shortest}; "
            f"set RolloutConfig.trajectory_length >= {shortest}"
        )
    if config.restarts and config.trajectory_length <= size.context:
        raise ArlError(
            f"a trajectory of {config.trajectory_length} tokens cannot read a context of {size.context} again and go on; "
            f"set RolloutConfig.trajectory_length > {size.context}"
        )
    if int(interaction.grammar.candidates.max()) >= vocabulary_size:
        raise ArlError(
            f"the grammar writes token {int(interaction.grammar.candidates.max())}, beyond the model's vocabulary; "
            f"take a model with ModelConfig.vocab_size > {int(interaction.grammar.candidates.max())}"
        )
    most_kept = num_kept(interaction.grammar, config.decoding)
    if most_kept > MOST_KEPT:
        raise ArlError(
            f"{'top-k' if config.decoding.top_k else 'top-p and min-p'} may keep {most_kept} tokens of free text, and a trajectory "
            f"remembers at most {MOST_KEPT}; set Decoding.top_k between 1 and {MOST_KEPT}"
        )
    if not config.decoding.constrained and not (interaction.grammar.mask_index >= 0).all():
        raise ArlError(
            "decoding without a grammar chooses from the whole vocabulary in every state; use text.free(grammar, vocabulary_size), or set "
            "Decoding.constrained=True"
        )
    _check_expert(interaction, config)


def _check_expert(interaction: Interaction, config: RolloutConfig) -> None:
    """Raises `ArlError` if experts cannot write the fraction that a config asks for."""
    if not 0 <= config.expert_fraction <= 1:
        raise ArlError(f"RolloutConfig.expert_fraction is {config.expert_fraction}; set it between 0 and 1")
    if config.expert_unit not in UNITS:
        raise ArlError(f"RolloutConfig.expert_unit is {config.expert_unit!r}; set it to 'episode' or 'segment'")
    if config.expert_fraction and not interaction.has_expert:
        raise ArlError("no expert can write in the policy's place; give the environment an expert, or set RolloutConfig.expert_fraction=0")
    if config.expert_fraction and config.decoding.narrows:
        raise ArlError(
            "an expert may write what greedy choice, top-k, top-p and min-p drop; set Decoding.temperature > 0, top_k=0, top_p=1 and "
            "min_p=0, or RolloutConfig.expert_fraction=0"
        )
