"""Sizes of episodes under layers, against numbers computed by hand; that real episodes keep within them is told by each layer's test."""

import pytest

from arl.agents import insert_before_turn, repeat, reset_every
from arl.agents.size import num_segments
from arl.types import Kind, Size

# Three turns of 5 tokens read and 2 written, and 5 read at the end: 3 * 7 + 5 = 26 tokens.
GOES_ON = Size(read=5, written=2, turns=3, episode=26, context=26, context_turns=3, context_resets=0)
RESETS = GOES_ON._replace(context=7, context_turns=1, context_resets=3)  # each turn begins the context anew

# The same with five turns: 5 * 7 + 5 = 40 tokens.
LONG = Size(read=5, written=2, turns=5, episode=40, context=40, context_turns=5, context_resets=0)
LONG_RESETS = LONG._replace(context=7, context_turns=1, context_resets=5)


def test_segments_inserted_before_each_turn_are_counted_with_each():
    """Two before each of three turns, 10 tokens in all: nine segments, 26 + 3 * 10 tokens, all in one context."""
    found = insert_before_turn(GOES_ON, segments=2, tokens=10, read=7, written=4)
    assert found == Size(read=7, written=4, turns=9, episode=56, context=56, context_turns=9, context_resets=0)


def test_segments_inserted_before_a_turn_that_resets_the_context_are_in_its_context():
    """7 + 10 tokens, three segments; no reset is added."""
    found = insert_before_turn(RESETS, segments=2, tokens=10, read=7, written=4)
    assert found == Size(read=7, written=4, turns=9, episode=56, context=17, context_turns=3, context_resets=3)


def test_inserted_segments_that_are_short_leave_the_longest_as_it_is():
    assert insert_before_turn(GOES_ON, segments=1, tokens=3, read=5, written=1) == Size(5, 2, 6, 35, 35, 6, 0)


RARE = LONG._replace(rare=((Kind.PLAN, 2), (Kind.NOTE, 1), (Kind.PLAN, 1)))


def test_segments_inserted_before_rare_ones_are_counted_with_these_alone():
    """Two before each of three plans, 10 tokens in all: 5 + 6 segments, 40 + 30 tokens; a context of one turn has one plan at most."""
    options = dict(segments=2, tokens=10, read=7, written=4, kind=Kind.PLAN)
    assert insert_before_turn(RARE, **options) == RARE._replace(read=7, written=4, turns=11, episode=70, context=70, context_turns=11)
    short = RARE._replace(context=7, context_turns=1)
    assert insert_before_turn(short, **options) == short._replace(read=7, written=4, turns=11, episode=70, context=17, context_turns=3)


def test_rare_segments_are_at_most_all():
    assert [num_segments(RARE, kind) for kind in (Kind.PLAN, Kind.NOTE, Kind.ACTION)] == [3, 1, 5]
    assert num_segments(RARE._replace(turns=2), Kind.PLAN) == 2
    four_times = repeat(RARE, 4, ask=0, written=0, carried=0, resets=True, always_resets=True)
    assert num_segments(four_times, Kind.PLAN) == 12


def test_nothing_inserted_changes_nothing():
    assert insert_before_turn(RESETS, segments=0, tokens=0, read=5, written=0) == RESETS


REPEATED = {
    # Three attempts of 26 tokens and 3 turns, each in a context of its own.
    "nothing": (GOES_ON, dict(ask=0, written=0, carried=0, resets=True), Size(5, 2, 9, 78, 26, 3, 2)),
    # One context; the 5 tokens that end an attempt are read with the 5 that begin the next.
    "history": (GOES_ON, dict(ask=0, written=0, carried=0, resets=False), Size(10, 2, 9, 78, 78, 9, 0)),
    # 4 tokens are read again before the first turn of the second attempt, and of the third.
    "window": (GOES_ON, dict(ask=0, written=0, carried=4, resets=True), Size(9, 2, 9, 86, 30, 3, 2)),
    # They are read before each of the three turns too that begin the context anew: 78 + 2 * (1 + 3) * 4.
    "window, resets within": (RESETS, dict(ask=0, written=0, carried=4, resets=True), Size(9, 2, 9, 110, 11, 1, 11)),
    # Twice a question of 1 token and 3 tokens of reflection are read and written, and all 4 read again: 78 + 2 * 8. The longest context
    # begins with such a note and ends with the next.
    "reflection": (GOES_ON, dict(ask=1, written=3, carried=4, resets=True), Size(10, 3, 11, 94, 34, 4, 2)),
    "reflection, resets within": (RESETS, dict(ask=1, written=3, carried=4, resets=True), Size(10, 3, 11, 118, 15, 2, 11)),
    # The context may go on all the same, so that all may be in one.
    "annealed": (GOES_ON, dict(ask=1, written=3, carried=4, resets=True, always_resets=False), Size(10, 3, 11, 94, 94, 11, 2)),
}


@pytest.mark.parametrize("name", REPEATED)
def test_three_attempts_are_as_long_as_computed_by_hand(name):
    size, options, wanted = REPEATED[name]
    assert repeat(size, 3, **{"always_resets": options["resets"], **options}) == wanted


@pytest.mark.parametrize(("size", "resets"), [(GOES_ON, False), (GOES_ON, True), (RESETS, True)])  # a history refuses resets within
def test_one_attempt_with_nothing_kept_is_as_long_as_itself(size, resets):
    assert repeat(size, 1, ask=0, written=0, carried=0, resets=resets, always_resets=resets) == size


def test_a_context_is_never_longer_than_its_episode():
    """A window of 4 tokens that no second attempt reads."""
    assert repeat(GOES_ON, 1, ask=0, written=0, carried=4, resets=True, always_resets=True).context == 26


ONE_NOTE = dict(ask=1, choose=0, written=3, carried=4, reads_first=False)  # read with its name: 4 tokens
PLAN = {**ONE_NOTE, "first": 0, "reads_first": True}
TWO_NOTES = dict(ask=1, choose=1, written=3, carried=10, reads_first=False)  # each read with a name of 2 tokens
notes = lambda count: ((Kind.NOTE, count),)  # of an episode
CUT = {
    # Cuts after turns 2 and 4: two notes more, each 1 + 3 tokens read and written, and 4 read again: 40 + 2 * 8. The longest context holds
    # the note, two turns, and what ends the episode (5 tokens, where the next question and note have 4): 4 + 14 + 5.
    "one note": (LONG, 2, ONE_NOTE, True, Size(9, 3, 7, 56, 23, 3, 2, notes(2))),
    # The note's place is chosen first: 40 + 2 * (1 + 1 + 3) + 2 * 10, and in a context 10 + 14 + 5.
    "two notes": (LONG, 2, TWO_NOTES, True, Size(15, 3, 9, 70, 29, 4, 2, notes(2))),
    # Cuts after each of four turns: 40 + 4 * 8; 4 + 7 + 5.
    "each turn": (LONG, 1, ONE_NOTE, True, Size(9, 3, 9, 72, 16, 2, 4, notes(4))),
    # One cut after four turns: 40 + 8; 4 + 28 + 5. The whole episode is longer.
    "one cut": (LONG, 4, ONE_NOTE, True, Size(9, 3, 6, 48, 37, 5, 1, notes(1))),
    # The notes are read in each turn that begins the context anew, once where that was held back for a note: 40 + 2 * 4 + 5 * 4. The
    # longest context is that of a turn, the notes before it and the next note after: 4 + 7 + 4.
    "resets within": (LONG_RESETS, 2, ONE_NOTE, True, Size(9, 3, 7, 68, 15, 2, 5, notes(2))),
    # The context may go on all the same: all of the 56 tokens may be in one.
    "annealed": (LONG, 2, ONE_NOTE, False, Size(9, 3, 7, 56, 56, 7, 2, notes(2))),
    # Plans before turns 1, 3 and 5, each after the text of its turn, which is read again after it: 40 + 3 * (5 + 4) + 3 * 4. The longest
    # context holds a plan, two turns, and the text of the next one and the plan after it: 4 + 14 + 5 + 4.
    "plan": (LONG, 2, PLAN, True, Size(10, 3, 8, 79, 27, 3, 3, notes(3))),
    # A long question makes the longest context where it is read for the next note: 23 + 14 + 23; 40 + 2 * 23 + 2 * 23.
    "long question": (LONG, 2, {**ONE_NOTE, "ask": 20, "carried": 23}, True, Size(28, 3, 7, 132, 60, 3, 2, notes(2))),
}


@pytest.mark.parametrize("name", CUT)
def test_a_context_that_is_cut_is_as_long_as_computed_by_hand(name):
    size, every, options, always_resets, wanted = CUT[name]
    found = reset_every(size, every, **{"first": every, **options}, always_resets=always_resets, kind=Kind.NOTE)
    assert found == wanted


@pytest.mark.parametrize(("turns", "every", "num_notes"), [(5, 2, 2), (4, 2, 1), (5, 4, 1), (5, 5, 0), (2, 1, 1)])
def test_no_cut_follows_the_last_turn_of_an_episode(turns, every, num_notes):
    size = Size(5, 2, turns, turns * 7 + 5, turns * 7 + 5, turns, 0)
    found = reset_every(size, every, first=every, **ONE_NOTE, always_resets=True, kind=Kind.NOTE)
    assert (found.turns, found.context_resets) == (turns + num_notes, num_notes)
