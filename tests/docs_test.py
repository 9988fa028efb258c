"""The pages of `docs/` say what is there: examples run, words are tokens, metrics and fields are explained, and no link is dead.

Blocks of a page that are fenced as `python` are executed in their order; those whose first line names a file are saved under that name and
can be imported. Blocks fenced as `py` are of other libraries. `python -m tests.docs_test` writes `docs/words.md`.
"""

import dataclasses
import html.parser
import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import urllib.parse

import jax
import pytest

import arl
from arl import models, rollout, text, training
from arl.agents import Act, Attempts
from arl.text import make_tokenizer
from arl.training import read_metrics
from tests import tiny

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


# ---------------------------------------------------------------- examples
def blocks(page: pathlib.Path, fence: str = "python") -> list[str]:
    return re.findall(rf"^```{fence}\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def smaller(code: str) -> str:
    """The same training on a few lanes, in one or two updates, with the same parts."""
    code = code.replace("arl.use_all_cores()\n", "").replace("num_epochs=1,", "").replace("group_size=8", "group_size=2")
    code = re.sub(r"num_updates=\d+", "num_updates=2, num_lanes=16, microbatch_size=8, num_minibatches=1, num_epochs=1", code)
    fewer = "rollout=arl.RolloutConfig(widths=()), evaluation=arl.EvaluationConfig(num_episodes=8), "
    return code.replace("arl.RolloutConfig()", "arl.RolloutConfig(widths=())").replace("arl.TrainConfig(", f"arl.TrainConfig({fewer}")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, whose modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and pathlib.Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def execute(folder: pathlib.Path, *pages: str) -> dict:
    """Executes the blocks of pages; returns the names that they define."""
    names: dict = {}
    for page in pages:
        for code in blocks(DOCS / page):
            if named := re.match(r"# (\w+\.py)\n", code):
                (folder / named[1]).write_text(code)
                importlib.invalidate_caches()
            else:
                exec(compile(smaller(code), page, "exec"), names)
    return names


def test_what_is_written_by_hand_is_checked_trained_and_watched(here, capsys):
    from experiments.config import override
    from experiments.presets import get_preset

    names = execute(here, "write_your_own.md", "extend_training.md")
    run, again = names["run"], names["again"]
    assert run.summary["random"] < run.summary["optimal"] < 1.0 and again.num_updates == 2
    assert [line.split("\t")[0] for line in (here / "table.txt").read_text().splitlines()] == ["0", "1", "2"]
    own = read_metrics(again.output / "metrics.jsonl")[0]
    assert own["good_decisions"] > 0 and 0 < own["imitated_fraction"] < 1 and "kl_from_reference" in own
    assert float(names["metrics"]["return/process"]) == pytest.approx(-0.01 * float(names["metrics"]["turns"]), rel=1e-5)
    said = capsys.readouterr().out
    assert "turn 1" in said and "legal: " in said and "Goal door" in said
    unexplained = {name for each in (run, again) for name in written(each.output)} - explained() - {"good_decisions"}
    assert not unexplained, "metrics and fields of a run that docs/glossary.md does not explain"

    for command in re.findall(r"^PYTHONPATH=\. \S+ experiments/train\.py (.*)$", commands("write_your_own.md"), flags=re.MULTILINE):
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in shlex.split(command))
        assignments = [f"{name.removeprefix('config.')}={value}" for name, value in flags.items() if name.startswith("config.")]
        config = override(get_preset(flags.get("preset", "plain")), assignments)
        assert type(config.environment).__name__ == "Doors" and config.learner.num_updates == 60


def commands(page: str) -> str:
    """The commands of a page, each on one line."""
    return "\n".join(blocks(DOCS / page, "")).replace("\\\n", " ")


def test_the_agent_that_trl_would_train_is_trained(here):
    run = execute(here, "from_trl.md")["run"]
    metrics = read_metrics(run.output / "metrics.jsonl")[-1]
    assert "groups_without_variance" in metrics and "kl_from_reference" in metrics and run.summary["optimal"] < -1


def test_an_environment_of_gymnax_speaks(here):
    point = execute(here, "from_gymnax.md")["point"]
    assert point.is_over and point.rewards.outcome == 1.0 and "Row 4:" not in point.history[0]["text"]


def test_seeds_are_trained_in_one_program_as_in_purejaxrl(here):
    names = execute(here, "from_purejaxrl.md")
    assert names["returns"].shape == (3, 2) and (names["state"].step == 2).all()


def test_a_checkpoint_is_read_trained_and_exported(here):
    tokenizer = text.load_tokenizer()
    config = models.preset("0.1M", len(tokenizer))
    weights = models.make_policy(config).init(jax.random.key(0)).trainable
    models.export_pretrained(here / "checkpoint", config, weights, tokenizer=tokenizer)
    names = execute(here, "language_models.md")
    again = models.load_pretrained("trained", names["model"])
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), again, names["run"].variables.trainable))
    assert not jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), again, weights))
    assert arl.load_tokenizer(here / "trained").get_vocab() == tokenizer.get_vocab()


# ---------------------------------------------------------------- glossary
def explained() -> set[str]:
    """The names in the first columns of the glossary's tables; `<component>` and `<kind>` stand for each of them."""
    kinds = [kind.name.lower() for kind in arl.Kind]
    found = set()
    for row in re.findall(r"^\| (.*?) \|", (DOCS / "glossary.md").read_text(), flags=re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", row):
            found |= {name.replace("<component>", part).replace("<kind>", kind) for part in arl.Reward._fields for kind in kinds}
    return found


def written(output: pathlib.Path) -> set[str]:
    """The names of all metrics and fields in the files of a run."""
    lines = [line for name in ("metrics", "evaluations", "times") for line in read_metrics(output / f"{name}.jsonl")]
    return set().union(*lines, json.loads((output / "summary.json").read_text()))


@pytest.mark.parametrize(
    ("config", "given"),
    [
        (dict(estimator="grpo", group_size=2, kl_weight=0.1), {}),
        (dict(rules={"action": arl.Rule(span="attempt", gae_lambda=0.5)}), {}),
        (dict(imitation_weight=0.1), dict(expert_fraction=0.5)),
    ],
    ids=["groups", "rules", "experts"],
)
def test_each_metric_is_explained(config, given):
    """Those of updates that are traced and not run."""
    agent = arl.make_agent(arl.envs.NumberGuess(num_numbers=3).make(tiny.TOKENIZER), [Act(), Attempts(2)])
    rollout_config = rollout.resolve_lengths(arl.RolloutConfig(widths=(), **given), agent)
    parts = agent, tiny.model(), rollout_config
    learner = dataclasses.replace(tiny.LEARNER, **config)
    made = [training.make_learner(*parts, learner)]
    made += [training.make_warm_start(*parts, learner, num_updates=1)] if given else []
    for each in made:
        _, metrics = jax.eval_shape(each.update, jax.eval_shape(each.init, jax.random.key(0)))
        assert not metrics.keys() - explained()


def test_each_field_of_a_summary_is_explained():
    fields = {name for path in (ROOT / "experiments" / "results").glob("*-*.json") for name in json.loads(path.read_text())}
    assert len(fields) > 30 and not fields - explained()


def test_kinds_components_and_estimators_are_explained():
    said = (DOCS / "glossary.md").read_text()
    assert not [kind.name for kind in arl.Kind if kind.name not in said]
    assert not [name for name in (*arl.Reward._fields, *training.ESTIMATORS, *training.config.SPANS) if name not in said]


# ---------------------------------------------------------------- words
GROUPS = {
    "Directions": "left right up down north south east west above below",
    "Answers": "higher lower correct wrong yes no true false hint",
    "Places and things": "row column map grid goal hole ice wall door doors key arm arms number start",
    "Actions and events": "move pull guess try attempt turn step steps action state think note plan found slipped frozen",
    "Results": "reward score win won lose lost paid pays nothing everything none",
    "Order": "first last next again then best one two three between",
    "Small words": "so because a the of to in at on by is are was it not and or you your from with if but for this that here there",
}


def words_page() -> str:
    """The content of `docs/words.md`."""
    quoted = lambda strings: " ".join(f"`{string}`" for string in strings)
    rows = "\n".join(f"| {group} | {quoted(words.split())} |" for group, words in GROUPS.items())
    return f"""# Words of one token

The small tokenizer, `arl.load_tokenizer()`, has {len(tiny.TOKENIZER)} tokens. A word or number below is one token,
*with the space before it*. Any other word is one token for each of its bytes, so any text can be written; but short ones train faster.

| group | words, each after a space |
|---|---|
{rows}
| Numbers | `0` to `99` |
| Letters | `A` to `Z` |

At the start of a text or a line, without a space before them:

{quoted(make_tokenizer.AT_ITS_START.split())}

Also one token: each ASCII character by itself, such as a line break, `:`, `.`, `,`, or a digit or letter without a space before it. Two
marks in a row are two tokens, and so is a mark after a space.

To count the tokens of a string:

```python
from arl import text

tokenizer = text.load_tokenizer()
for string in (" left", " leftmost", "Goal door 3:", "Number below 32: 17 higher"):
    print(len(text.token_ids(tokenizer, string)), string)
```

Another tokenizer is given to `make` in its place: `arl.load_tokenizer(folder)` loads any fast tokenizer of `transformers`. A policy needs
its vocabulary; `arl.train(agent, "0.1M", ...)` takes it from the task. `arl/text/make_tokenizer.py` makes the small one.
"""


def test_the_page_of_words_is_in_step():
    assert (DOCS / "words.md").read_text() == words_page(), "run `python -m tests.docs_test`"


def test_each_word_is_one_token_and_no_token_is_missing():
    one = lambda string: text.token_ids(tiny.TOKENIZER, string) if len(text.token_ids(tiny.TOKENIZER, string)) == 1 else pytest.fail(string)
    spaced = " ".join(GROUPS.values()).split() + [str(number) for number in range(100)] + [chr(ord("A") + i) for i in range(26)]
    strings = [f" {word}" for word in spaced] + make_tokenizer.AT_ITS_START.split()
    found = [one(string)[0] for string in strings] + [one(chr(code))[0] for code in range(128)]
    assert len(set(found)) == len(found) and max(found) == len(make_tokenizer.SPECIAL) + 256 + len(strings) - 1
    assert len(text.token_ids(tiny.TOKENIZER, "!?")) == len(text.token_ids(tiny.TOKENIZER, " .")) == 2


def test_tokens_can_be_counted(here, capsys):
    execute(here, "words.md")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "9", "4", "6"]


# ---------------------------------------------------------------- links
class Links(html.parser.HTMLParser):
    """The targets of a page's links, and the anchors in it."""

    def __init__(self, page: pathlib.Path):
        super().__init__()
        self.anchors, self.targets = set(), set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given["id"]} if "id" in given else set()
        self.targets |= {given["href"]} if tag == "a" and given.get("href") else set()


def in_markdown(page: pathlib.Path) -> tuple[set[str], set[str]]:
    """The targets of a page's links, and the anchors of its headings, as GitHub makes them."""
    said = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", said, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return set(re.findall(r"\]\(([^)\s]+)\)", said)), anchors


def dead(page: pathlib.Path, targets: set[str], anchors_of) -> list[str]:
    faults = []
    for target in targets:
        path, _, anchor = urllib.parse.unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        is_alive = there.exists() and (not anchor or anchor in anchors_of(there))
        faults += [] if "://" in target or is_alive else [f"{page.name}: {target}"]
    return faults


def test_no_link_of_a_page_is_dead():
    pages = [*PAGES, ROOT / "README.md", ROOT / "tests" / "README.md"]
    assert not [fault for page in pages for fault in dead(page, in_markdown(page)[0], lambda there: in_markdown(there)[1])]
    assert {page.name for page in PAGES} - {"README.md"} <= in_markdown(DOCS / "README.md")[0], "the index names every page"
    assert dead(DOCS / "README.md", {"none.md", "words.md#none"}, lambda there: in_markdown(there)[1]) != []


def test_the_reference_is_built_and_has_no_dead_link(tmp_path):
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    modules = re.search(r"^REFERENCE := (.*)$", makefile, flags=re.MULTILINE)
    command = re.search(r"-m (pdoc .*)build/docs \$\(REFERENCE\)$", makefile, flags=re.MULTILINE)
    arguments = [*shlex.split(f"{command[1]}{shlex.quote(str(tmp_path))}"), *shlex.split(modules[1])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = {page.resolve(): Links(page) for page in tmp_path.rglob("*.html")}
    assert not [fault for page, links in pages.items() for fault in dead(page, links.targets, lambda there: pages[there].anchors)]
    public = pages[(tmp_path / "arl.html").resolve()].anchors
    assert not set(arl.__all__) - public - set(arl._ROOMS) - {"__version__"}, "public names without a place in the reference"
    assert (tmp_path / "arl" / "training" / "metrics.html").exists() and "Returns:" in (tmp_path / "arl" / "text.html").read_text()


if __name__ == "__main__":
    (DOCS / "words.md").write_text(words_page())
