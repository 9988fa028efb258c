"""The size of an episode after layers add segments, repeat attempts or reset the context."""

from arl.types import Kind, Size


def num_segments(size: Size, kind: Kind) -> int:
    """Returns the most segments of a kind in an episode.

    Args:
      size: size of the interaction that asks for them.
      kind: the kind.
    """
    counts = [count for rare, count in size.rare if rare == kind]
    return min(sum(counts), size.turns) if counts else size.turns


def insert_before_turn(size: Size, *, segments: int, tokens: int, read: int, written: int, kind: Kind = Kind.ACTION) -> Size:
    """Returns the size of an episode in which other segments come before each turn that asks for a segment of one kind.

    Nothing comes before the text of a truncated turn, with which an episode ends: a layer that makes that longer too adds its tokens once
    more to `Size.episode`.

    Args:
      size: size of the inner interaction.
      segments: most segments before a turn.
      tokens: most tokens read and written with them.
      read: capacity of the longest text of a turn, theirs included.
      written: tokens of the longest of them.
      kind: the kind before which they come.
    """
    count = num_segments(size, kind)
    count_in_context = min(count, size.context_turns)
    return size._replace(
        read=read,
        written=max(size.written, written),
        turns=size.turns + count * segments,
        episode=size.episode + count * tokens,
        context=size.context + count_in_context * tokens,
        context_turns=size.context_turns + count_in_context * segments,
    )


def repeat(size: Size, times: int, *, ask: int, written: int, carried: int, resets: bool, always_resets: bool) -> Size:
    """Returns the size of an episode of several attempts, between which a segment may be written.

    Args:
      size: size of one attempt.
      times: number of attempts.
      ask: tokens read before the segment between two attempts.
      written: tokens of that segment; 0 for none.
      carried: tokens carried over to the next attempt, and read again whenever its context is reset.
      resets: whether an attempt may start a new context.
      always_resets: whether every attempt does.
    """
    border = carried + (ask + written if written else 0)
    episode = times * size.episode + (times - 1) * (border + size.context_resets * carried)
    # If the context is kept, the end of an attempt is read in the same turn as the start of the next.
    end = size.read if times > 1 and not (always_resets or written) else 0
    turns = times * size.turns + (times - 1 if written else 0)
    return Size(
        read=carried + size.read + max(end, ask if written else 0),
        written=max(size.written, written),
        turns=turns,
        episode=episode,
        context=min(border + size.context, episode) if always_resets else episode,
        context_turns=min(size.context_turns + bool(written), turns) if always_resets else turns,
        context_resets=times * size.context_resets + (times - 1 if resets else 0),
        rare=tuple((kind, times * count) for kind, count in size.rare),
    )


def reset_every(
    size: Size,
    every: int,
    *,
    first: int,
    ask: int,
    choose: int,
    written: int,
    carried: int,
    always_resets: bool,
    reads_first: bool,
    kind: Kind,
) -> Size:
    """Returns the size of an episode in which a note is written and the context is reset every few turns.

    Args:
      size: size of the inner interaction.
      every: turns from one reset to the next.
      first: turns before the first note.
      ask: tokens read before a note.
      choose: tokens of the segment that chooses the note to overwrite; 0 for none.
      written: tokens of a note.
      carried: tokens read for all notes after a reset.
      always_resets: whether the context is always reset; otherwise it may be kept.
      reads_first: whether the text of a turn is read before a note, and again after it.
      kind: the kind of a note.
    """
    num_notes = (size.turns - 1 - first) // every + 1  # none follows the turn that ends an episode
    num_resets = num_notes + size.context_resets
    if not reads_first:  # a deferred turn that itself resets the context reads the notes once
        num_resets = min(num_resets, size.turns)
    noted, note_turns = ask + choose + written + (size.read if reads_first else 0), 2 if choose else 1
    turns, between = size.turns + num_notes * note_turns, max(first, every)
    episode = size.episode + num_notes * noted + num_resets * carried
    if always_resets:  # unless an inner layer resets, the notes are read once per reset; a truncated episode's last turn is only read
        context = carried + min(between * (size.read + size.written) + max(noted, size.read), size.context + noted)
    else:
        context = carried + size.context + num_notes * (noted + carried)
    return Size(
        read=carried + size.read + ask if reads_first else max(carried + size.read, ask),
        written=max(size.written, choose, written),
        turns=turns,
        episode=episode,
        context=min(context, episode),
        context_turns=min(between, size.context_turns) + note_turns if always_resets else turns,
        context_resets=num_resets,
        rare=(*size.rare, (kind, num_notes)),
    )
