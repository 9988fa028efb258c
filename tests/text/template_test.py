"""Templates against the tokenizer's own tokens of the joined string, with three tokenizers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arl import text
from tests.second_tokenizer import second_tokenizer, third_tokenizer

TOKENIZERS = {"small": text.load_tokenizer(), "second": second_tokenizer(), "third": third_tokenizer()}
FORMAT = """{{Row}} {row}, column {column}.{offset} Doors: {doors}.

Map:
{map}
{key}Note:{note} and
You {act} {count}{end}"""
HOLES = dict(
    row=text.number(0, 120),
    column=text.number(-3, 30),
    offset=text.choice(["", " Far away.", " Near."]),
    doors=text.subset(["left", "right", "trapdoor"]),
    map=text.grid(2, 3, ["S", "F", "hole"]),
    key=text.when(
        "A {colour} key{second}.\n",
        colour=text.choice(["red", "ultramarine"]),
        second=text.when(" and {row} more", row=text.number(0, 120)),
    ),
    note=text.nested(6),
    act=text.choice(["move", "pull arm"]),
    count=text.number(0, 9),
    end=text.choice([":", " hole\n"]),
)
SAY = {name: text.template(tokenizer, FORMAT, **HOLES) for name, tokenizer in TOKENIZERS.items()}
FILLED = {name: jax.jit(lambda values, say=say: say(**values)) for name, say in SAY.items()}
NOTES = ["", " higher", " 3 4 5", " aa bb"]

values_of = st.fixed_dictionaries(
    dict(
        row=st.integers(0, 120),
        column=st.integers(-3, 30),
        offset=st.integers(0, 2),
        doors=st.tuples(st.booleans(), st.booleans(), st.booleans()).map(np.array),
        map=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=2, max_size=2).map(np.array),
        key=st.booleans(),
        colour=st.integers(0, 1),
        second=st.booleans(),
        note=st.sampled_from(NOTES),
        act=st.integers(0, 1),
        count=st.integers(0, 9),
        end=st.integers(0, 1),
    )
)


def joined(values: dict) -> str:
    """The text of FORMAT by Python's own formatting."""
    v = values
    doors = ", ".join(x for x, shown in zip(["left", "right", "trapdoor"], v["doors"]) if shown) or "nothing"
    rows = "\n".join(" ".join(["S", "F", "hole"][x] for x in row) for row in v["map"])
    more = f" and {v['row']} more" if v["second"] else ""
    key = f"A {['red', 'ultramarine'][v['colour']]} key{more}.\n" if v["key"] else ""
    return FORMAT.format(
        row=v["row"],
        column=v["column"],
        offset=["", " Far away.", " Near."][v["offset"]],
        doors=doors,
        map=rows,
        key=key,
        note=v["note"],
        act=["move", "pull arm"][v["act"]],
        count=v["count"],
        end=[":", " hole\n"][v["end"]],
    )


@pytest.mark.parametrize("name", TOKENIZERS)
@given(values=values_of)
@settings(max_examples=60)
def test_tokens_are_those_of_the_joined_string(name, values):
    tokenizer = TOKENIZERS[name]
    string = joined(values)
    values = values | dict(note=text.pad(text.encode(tokenizer, values["note"]), 6))
    traced = values | dict(note=jax.tree.map(jnp.asarray, values["note"]))
    said = FILLED[name](traced)
    ids = np.asarray(said.ids)[: int(said.length)].tolist()
    assert ids == text.token_ids(tokenizer, string)
    assert said.ids.shape == (SAY[name].capacity,) and not np.asarray(said.ids)[int(said.length) :].any()
    assert SAY[name].string(**values) == string


# The third tokenizer joins marks with letters behind them and with ends of lines: here across the edges of holes. Values are drawn.
MARKS = ["yes.", "no", "?!", "(a)", "7:", ""]
JOINED = [
    ("Well {x}\n\nDone", dict(x=text.choice(MARKS)), lambda r: dict(x=r.integers(6))),
    ("A [{x}", dict(x=text.choice(["left", "Up", ".", "12"])), lambda r: dict(x=r.integers(4))),
    ("#{x}.\n", dict(x=text.choice(MARKS)), lambda r: dict(x=r.integers(6))),
    ("{x}:\n{y}.\n", dict(x=text.choice(["a", "!"]), y=text.choice(["b", "("])), lambda r: dict(x=r.integers(2), y=r.integers(2))),
    ("({x}).\n{y}:\n", dict(x=text.number(-3, 1002), y=text.number(0, 9)), lambda r: dict(x=r.integers(-3, 1003), y=r.integers(10))),
    ("See [{x}].\n", dict(x=text.subset(["left", "Right", "a."])), lambda r: dict(x=r.random(3) < 0.5)),
    ("{x}Go", dict(x=text.when("{y}:\n", y=text.choice(MARKS))), lambda r: dict(x=r.random() < 0.5, y=r.integers(6))),
    ("Map:\n{x}\n\nGo", dict(x=text.grid(2, 3, [".", "#", "A", "8"])), lambda r: dict(x=r.integers(4, size=(2, 3)))),
    ("[{x}]\nGo", dict(x=text.grid(3, 1, ["a", "#", "8"])), lambda r: dict(x=r.integers(3, size=(3, 1)))),
    ("[{x}\n", dict(x=text.grid(1, 2, ["a", "#", "."])), lambda r: dict(x=r.integers(3, size=(1, 2)))),
]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("format", "holes", "draw"), JOINED, ids=[repr(case[0]) for case in JOINED])
def test_a_hole_takes_along_what_the_tokenizer_joins_with_it(name, format, holes, draw):
    tokenizer, generator = TOKENIZERS[name], np.random.default_rng(0)
    say, plain = (text.template(t, format, **holes) for t in (tokenizer, TOKENIZERS["small"]))
    filled = jax.jit(lambda values: say(**values))
    for _ in range(30):
        values = draw(generator)
        said = filled(values)
        assert say.string(**values) == plain.string(**values)
        assert np.asarray(said.ids)[: int(said.length)].tolist() == text.token_ids(tokenizer, say.string(**values))


def test_what_is_joined_without_end_is_left_to_the_check():
    tokenizer = TOKENIZERS["third"]
    say = text.template(tokenizer, "{x}{y}Map", x=text.choice(["a", "b."]), y=text.when("\n{z}", z=text.number(0, 9)))
    assert text.check(tokenizer, say, dict(x=0, y=True, z=3)) == []
    (sentence,) = text.check(tokenizer, say, dict(x=1, y=True, z=3))
    assert sentence.startswith("at x: ['.', '\\n'] is ['.\\n'] to the tokenizer")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_capacity_is_reached(name):
    """The longest text fills the capacity, but for what cannot be shown together."""
    say = text.template(
        TOKENIZERS[name], "At {row}{more}", row=text.number(0, 200), more=text.when(" and {item}", item=text.choice(["a", "b or c"]))
    )
    lengths = [int(say(row=row, more=True, item=1).length) for row in range(201)]
    assert max(lengths) == say.capacity


@pytest.mark.parametrize("name", TOKENIZERS)
def test_check_agrees_and_eager_is_jitted(name):
    values = dict(row=7, column=-2, offset=1, doors=np.array([0, 1, 1], bool), map=np.zeros((2, 3), int), key=True, colour=1, second=True)
    values |= dict(note=text.encode(TOKENIZERS[name], " 3 4"), act=0, count=9, end=0)
    assert text.check(TOKENIZERS[name], SAY[name], values) == []
    said = SAY[name](**values)
    np.testing.assert_array_equal(said.ids, jax.jit(lambda: SAY[name](**values))().ids)
    assert text.check_text(TOKENIZERS[name], said) == []


def test_vmap_is_a_loop_over_lanes():
    say = SAY["second"]
    generator = np.random.default_rng(0)
    batch = dict(
        row=generator.integers(0, 121, 4),
        column=generator.integers(-3, 31, 4),
        offset=generator.integers(0, 3, 4),
        count=generator.integers(0, 10, 4),
    )
    batch |= dict(doors=generator.random((4, 3)) < 0.5, map=generator.integers(0, 3, (4, 2, 3)), key=generator.random(4) < 0.5)
    batch |= dict(colour=np.arange(4) % 2, second=np.arange(4) < 2, act=np.arange(4) // 2, end=np.arange(4) % 2)
    note = text.empty(6)
    together = jax.jit(jax.vmap(lambda values: say(**values, note=note)))(batch)
    for i in range(4):
        alone = say(**{name: x[i] for name, x in batch.items()}, note=note)
        np.testing.assert_array_equal(together.ids[i], alone.ids)


def test_what_is_known_when_built_is_not_computed():
    """Holes of one length make a text of known length: nothing has to be moved on the device."""
    say = text.template(
        TOKENIZERS["small"], "At {row} {column}:\n{map}\n", row=text.number(0, 9), column=text.number(0, 9), map=text.grid(3, 3, "SFHG")
    )
    fill = lambda row, column, cells: say(row=row, column=column, map=cells)
    assert isinstance(jax.eval_shape(lambda: fill(1, 2, np.zeros((3, 3), int))).ids, jax.ShapeDtypeStruct)
    jaxpr = str(jax.make_jaxpr(fill)(1, 2, np.zeros((3, 3), int)))
    assert "dynamic_update_slice" not in jaxpr and "scatter" not in jaxpr
    assert int(fill(1, 2, np.zeros((3, 3), int)).length) == say.capacity


def test_values_outside_are_shown_as_the_nearest():
    say = text.template(TOKENIZERS["small"], "{n}{c}", n=text.number(2, 5), c=text.choice([" a", " b"]))
    shown = lambda n, c: text.to_string(TOKENIZERS["small"], say(n=n, c=c))
    assert shown(-1, 7) == say.string(n=-1, c=7) == "2 b" and shown(9, -2) == say.string(n=9, c=-2) == "5 a"


# ---------------------------------------------------------------- the check finds what is wrong


def test_check_names_the_hole():
    tokenizer = TOKENIZERS["second"]
    say = text.template(tokenizer, "Map: {map}.", map=text.grid(1, 4, "SF", separator=""))
    assert text.check(tokenizer, say, dict(map=np.array([[0, 0, 0, 0]]))) != []
    (sentence, *_) = text.check(tokenizer, say, dict(map=np.array([[0, 1, 1, 0]])))
    assert sentence.startswith("at map: ") and "to the tokenizer, in 'Map: SFFS.'" in sentence
    spaced = text.template(tokenizer, "Map: {map}.", map=text.grid(1, 4, "SF"))
    assert text.check(tokenizer, spaced, dict(map=np.array([[0, 1, 1, 0]]))) == []


def test_check_finds_digits_that_flow_together():
    tokenizer = TOKENIZERS["second"]
    say = text.template(tokenizer, "{a}{b}", a=text.number(1, 9), b=text.number(1, 9))
    assert text.check(tokenizer, say, dict(a=4, b=2)) == ["at a: ['4', '2'] is ['42'] to the tokenizer, in '42'"]
    drifted = text.constant([text.token_ids(tokenizer, x)[0] for x in "42"])
    assert text.check_text(tokenizer, drifted) == ["at token 0: ['4', '2'] is ['42'] to the tokenizer, in '42'"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda t: text.template(t, "{a} {b}", a=text.number(0, 1)), "no hole for b"),
        (lambda t: text.template(t, "{a}", a=text.number(0, 1), c=text.number(0, 1)), "format has no c"),
        (lambda t: text.template(t, "{a}", a=text.number(0, 1))(), "no value for a"),
        (lambda t: text.template(t, "{a}", a=text.number(0, 1))(a=1, c=2), "format has no c"),
        (lambda t: text.template(t, "{a}", a=text.when("{b}", b=text.number(0, 1)))(a=1), "no value for b"),
        (lambda t: text.template(t, "{a}", a=text.number(0, 1)).string(b=1), "no value for a"),
        (lambda t: text.template(t, "{a:3}", a=text.number(0, 1)), "not a plain name"),
        (lambda t: text.template(t, "{}", a=text.number(0, 1)), "not a plain name"),
        (lambda t: text.when("{b}"), "no hole for b"),
        (lambda t: text.number(3, 2), "no number from 3 to 2"),
        (lambda t: text.choice([]), "at least one option"),
        (lambda t: text.subset([]), "at least one option"),
        (lambda t: text.grid(0, 3, "ab"), "is empty"),
        (lambda t: text.template(t, "{a}", a=text.nested(2))(a=text.empty(3)), "cannot be padded to 2"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(TOKENIZERS["small"])


@pytest.mark.parametrize(
    ("hole", "value", "shape"),
    [(text.grid(2, 2, ["A", "B"]), np.zeros((2, 3), int), r"\(2, 2\)"), (text.subset(["A", "B"]), np.ones(1, bool), r"\(2,\)")],
)
def test_a_value_of_another_shape_is_refused(hole, value, shape):
    say = text.template(TOKENIZERS["small"], "see {x} now", x=hole)
    with pytest.raises(ValueError, match=f"hole 'x' .* give it the shape {shape}"):
        say(x=value)


def test_holes_may_have_any_name():
    say = text.template(TOKENIZERS["small"], "a {format} {self}", format=text.number(0, 1), self=text.number(0, 1))
    assert text.to_string(TOKENIZERS["small"], say(format=1, self=0)) == "a 1 0"
