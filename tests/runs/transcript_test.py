"""Transcripts: text as a person reads it, and which episodes are shown of many."""

import jax
import jax.numpy as jnp
import numpy as np

from arl import rollout, text
from arl.agents import Act, Think
from arl.runs.transcript import add_section, events, pieces, to_text, typical
from tests import tiny

READ = {"who": "read", "kind": "OBSERVATION", "attempt": 0, "text": " higher\n note", "resets_context": False}
WROTE = {
    "who": "wrote",
    "kind": "ACTION",
    "attempt": 0,
    "tokens": [(" 3", 0.987), (" X", None), (" 12", 0.25)],
    "reward": 1.0,
    "is_legal": True,
}


def test_text_is_as_it_reads():
    assert to_text([READ, WROTE]).splitlines() == [
        "  observation higher",
        "              note",
        ">      action 3(0.99) X 12(0.25)   reward +1.00",
    ]
    board = {**READ, "text": " . 1 .\n . . 2\n\n Row 1:\n"}
    assert to_text([board]).splitlines() == [
        "  observation . 1 .",
        "              . . 2",
        "              ",
        "              Row 1:",
    ]


def test_a_context_that_begins_anew_and_an_illegal_text_are_told():
    lines = to_text([{**READ, "resets_context": True}, {**WROTE, "reward": -0.1, "is_legal": False}]).splitlines()
    assert "the context begins anew" in lines[0] and lines[-1].endswith("reward -0.10   illegal")


def test_line_breaks_that_were_written_are_seen():
    told = to_text([{**WROTE, "tokens": [(" so", 0.5), ("\n", 0.5), (" left", 0.5), ("\n", 0.5)], "reward": 0.0}])
    assert told.splitlines() == [">      action so(0.50)↵", "              (0.50) left(0.50)↵(0.50)"]


def test_tokens_that_the_grammar_forces_at_the_beginning_are_told():
    words = [" up left:", " up right:"]
    walk = tiny.make_walk(2)._replace(grammar=text.legal_strings(tiny.TOKENIZER, words), legal=lambda state: jnp.ones(2, bool))
    agent = tiny.make(walk, Act(), Think(2, tiny.SYMBOLS, stop=False))
    shape, params = tiny.config(agent), tiny.params()
    lanes = rollout.start_lanes(agent, {}, shape, *tiny.keys(2))
    _, trajectory, _ = jax.jit(lambda lanes: rollout.roll_out(agent, tiny.model(), shape, params, {}, lanes))(lanes)
    wrote = [event for event in events(agent, tiny.TOKENIZER, jax.device_get(trajectory), 0) if event["who"] == "wrote"]
    assert [event["kind"] for event in wrote] == ["THINK", "ACTION"] * 2
    for event in wrote[1::2]:
        (first, forced), (_, drawn), *_ = event["tokens"]
        assert first == " up" and forced is None and 0 < drawn < 1
        assert event["tokens"][2:] == [(":", None)], "also after the last action, where nothing is read any more"


def test_roles_tell_how_sure_the_model_was():
    assert pieces(WROTE)[1:] == [
        *[("token", "3"), ("sure", "(0.99)"), ("token", " X"), ("token", " 12"), ("unsure", "(0.25)")],
        ("paid", "   reward +1.00"),
    ]


def test_one_lucky_episode_is_not_the_typical_one():
    returned = np.zeros(300)
    returned[0] = 1.0  # the first of 300
    chosen = typical(returned)
    assert chosen.pop(0) == "the best"
    assert sorted(chosen.values()) == ["the 10th percentile", "the median"] and len(chosen) == 2


def test_episodes_stand_at_the_quantiles_that_are_told():
    returned = np.random.default_rng(0).permutation(101).astype(float)
    assert {name: returned[episode] for episode, name in typical(returned).items()} == {
        "the 10th percentile": 10,
        "the median": 50,
        "the best": 100,
    }
    assert typical(returned) == typical(returned.copy())
    assert typical(np.array([2.0, 1.0])) == {1: "the 10th percentile and the median", 0: "the best"}


def test_a_part_that_is_written_again_replaces_what_came_after(tmp_path):
    path = tmp_path / "transcripts.txt"
    for title in ("before", "between", "after", "between"):
        add_section(path, title, f"episodes {title}")
    assert path.read_text() == "===== before\nepisodes before\n\n===== between\nepisodes between\n\n"
