"""How the bounds of an episode grow where layers add segments, repeat attempts or cut the context."""

from arl.types import Size


def insert_before_turn(size: Size, *, segments: int, tokens: int, read: int, written: int) -> Size:
    """Returns the bounds where other segments come before each turn.

    Args:
      size: of the interaction within.
      segments: that come before a turn, at most.
      tokens: read and written with them, at most.
      read: capacity of the longest text of a turn, theirs included.
      written: tokens of the longest of them.
    """
    return Size(
        read=read,
        written=max(size.written, written),
        turns=size.turns * (1 + segments),
        episode=size.episode + size.turns * tokens,
        context=size.context + size.context_turns * tokens,
        context_turns=size.context_turns * (1 + segments),
        context_resets=size.context_resets,
    )


def repeat(size: Size, times: int, *, ask: int, written: int, kept: int, resets: bool, always_resets: bool) -> Size:
    """Returns the bounds of several attempts, between which a segment may be written.

    Args:
      size: of one attempt.
      times: how many.
      ask: tokens read before the segment between two attempts.
      written: tokens of that segment; 0 for none.
      kept: tokens that are kept from one attempt to the next, and read again wherever the attempt begins its context anew.
      resets: whether the context may begin anew with an attempt.
      always_resets: whether it does with each.
    """
    border = kept + (ask + written if written else 0)
    episode = times * size.episode + (times - 1) * (border + size.context_resets * kept)
    # Where the context goes on, the end of an attempt is read in the same turn as the beginning of the next.
    end = size.read if times > 1 and not (always_resets or written) else 0
    turns = times * size.turns + (times - 1 if written else 0)
    return Size(
        read=kept + size.read + max(end, ask if written else 0),
        written=max(size.written, written),
        turns=turns,
        episode=episode,
        context=min(border + size.context, episode) if always_resets else episode,
        context_turns=min(size.context_turns + bool(written), turns) if always_resets else turns,
        context_resets=times * size.context_resets + (times - 1 if resets else 0),
    )


def cut_every(size: Size, every: int, *, ask: int, choose: int, written: int, kept: int, always_cuts: bool) -> Size:
    """Returns the bounds where the context is cut after every few turns, and a note is written before it.

    Args:
      size: of the interaction within.
      every: turns from one cut to the next.
      ask: tokens read before a note.
      choose: tokens of the segment that chooses where it goes; 0 for none.
      written: tokens of a note.
      kept: tokens that all notes are read with after a cut.
      always_cuts: whether each cut is made.
    """
    num_cuts = (size.turns - 1) // every  # none follows the turn that ends an episode
    num_resets = min(num_cuts + size.context_resets, size.turns)  # a turn that resets the context and was held back reads the notes once
    noted, note_turns = ask + choose + written, 2 if choose else 1
    turns = size.turns + num_cuts * note_turns
    episode = size.episode + num_cuts * noted + num_resets * kept
    if always_cuts:  # between two cuts the notes are read once, if nothing within resets; the last turn of a cut episode is only read
        context = kept + min(every * (size.read + size.written) + max(noted, size.read), size.context + noted)
    else:
        context = kept + size.context + num_cuts * (noted + kept)
    return Size(
        read=max(kept + size.read, ask),
        written=max(size.written, choose, written),
        turns=turns,
        episode=episode,
        context=min(context, episode),
        context_turns=min(every, size.context_turns) + note_turns if always_cuts else turns,
        context_resets=num_resets,
    )
