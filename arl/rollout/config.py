"""How lanes are rolled out: lengths, widths and decoding, and what cannot be."""

import dataclasses

from arl.rollout.decoding import Decoding
from arl.types import Interaction, check_whole

SLOT_UNIT = 8  # slots of the cache come in multiples of this, numbers of a vector register; stages of a long one in four times that
CONTEXTS = 4  # of a stream with restarts, whose beginning reads half a context again, on average


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """How lanes are rolled out.

    Attributes:
      stream_length: tokens that a lane reads in a stream, `T`; 0 for as many as suit the interaction, see `fit`.
      context_length: tokens of the longest live context; 0 for those of the interaction.
      widths: pairs `(divisor, width)` of the calls besides "all lanes, one token": see `schedule.make_shapes`.
      overhead: fixed cost of a call, in token slots.
      restarts: whether another life follows one that has ended in the same lane; otherwise the lane stops, and what is left of its stream
        is computed for nothing. Restart where lives differ in length; groups, which compare lives that begin together, cannot.
      decoding: how a token is chosen.
      expert: whether the interaction's expert writes in the model's place, to be cloned. A slot then tells its token's log-prob under the
        model. What the expert leaves open, or may not write, is drawn, and stands there as a letter without alternative: nobody learns
        from it. An expert is asked at every call at which a lane begins a segment, for all of the call's lanes.
    """

    stream_length: int = 0
    context_length: int = 0
    widths: tuple[tuple[int, int], ...] = ((1, 8),)
    overhead: float = 64.0
    restarts: bool = False
    decoding: Decoding = Decoding()
    expert: bool = False

    @property
    def widest(self) -> int:
        """Tokens a lane of the widest call."""
        return max([1, *(width for _, width in self.widths)])

    @property
    def num_slots(self) -> int:
        """Slots of the cache: the longest live context and a call's width, in whole vector registers."""
        return -(-(self.context_length + self.widest) // SLOT_UNIT) * SLOT_UNIT

    @property
    def stages(self) -> tuple[int, ...]:
        """Slots of the cache while it grows: a call attends to all of them, used or not. Short contexts have one stage, long ones four."""
        num_stages = max(1, min(4, self.num_slots // 64))
        step = -(-self.num_slots // (num_stages * 4 * SLOT_UNIT)) * 4 * SLOT_UNIT
        return (*range(step, self.num_slots, step), self.num_slots)


def fit(config: RolloutConfig, interaction: Interaction) -> RolloutConfig:
    """Returns a config whose lengths of 0 are those that suit an interaction.

    A context is as long as `size.context`. A stream holds a whole life, or with restarts four contexts if that is less: a lane that goes on
    reads its context again, and most lives end long before the longest that could be.

    Args:
      config: to fill in.
      interaction: what the lanes do.
    """
    context = config.context_length or interaction.size.context
    whole = interaction.size.life + 1
    return dataclasses.replace(
        config,
        stream_length=config.stream_length or (min(whole, CONTEXTS * context) if config.restarts else whole),
        context_length=context,
    )


def check_rollout(interaction: Interaction, config: RolloutConfig, vocabulary_size: int) -> None:
    """Refuses lanes that could not live in their stream or context, or could not write with a model of `vocabulary_size` tokens.

    Raises:
      ValueError: that says what to change.
    """
    check_whole(context_length=config.context_length, stream_length=config.stream_length)
    config, size = fit(config, interaction), interaction.size
    if not 0 <= config.overhead < float("inf"):
        raise ValueError(f"rollout.overhead is {config.overhead}; set it to a number >= 0")
    if config.context_length < size.context:
        raise ValueError(
            f"context of {config.context_length} tokens cannot hold {size.turns} turns ({size.context} tokens at the longest); "
            f"set rollout.context_length >= {size.context}"
        )
    shortest = size.read + size.written + 2
    if config.stream_length < shortest:
        raise ValueError(
            f"a stream of {config.stream_length} tokens cannot hold one turn of {shortest}; set rollout.stream_length >= {shortest}"
        )
    if config.restarts and config.stream_length <= size.context:
        raise ValueError(
            f"a stream of {config.stream_length} tokens cannot read a live context of {size.context} again and go on; "
            f"set rollout.stream_length > {size.context}"
        )
    if int(interaction.grammar.alphabet.max()) >= vocabulary_size:
        raise ValueError(
            f"the grammar writes token {int(interaction.grammar.alphabet.max())}, beyond the model's vocabulary; "
            f"take a model with model.vocab_size > {int(interaction.grammar.alphabet.max())}"
        )
    if not config.decoding.constrained and len(interaction.grammar.alphabet) < vocabulary_size:
        raise ValueError(
            "decoding without a grammar needs the whole vocabulary as alphabet; use text.free(grammar, vocabulary_size), or set "
            "decoding.constrained=True"
        )
    if config.expert and interaction.expert is None:
        raise ValueError("nobody can write in the model's place here; give the environment an expert, or set rollout.expert=False")
    if config.expert and config.decoding.narrows:
        raise ValueError(
            "an expert may write what greedy choice, top-k, top-p and min-p drop; set decoding.temperature > 0, top_k=0, top_p=1 and "
            "min_p=0, or rollout.expert=False"
        )
