"""A whole update against TRL's `GRPOTrainer` on the same episodes, for the benchmark; needs the extra `parity`.

The task: a hidden number below 8, four guesses, history kept. A guess is one token; whatever token is written is taken for one of the eight
numbers, so that an untrained model guesses at random on both sides and episodes are equally long. Groups of 8, one step of AdamW an update.
"""

import contextlib
import io
import os
import random
import statistics
import tempfile
import time
import warnings
from typing import Any

import jax

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import datasets
import torch
import transformers
import trl

from arl import agents, envs, models, rollout, text, training
from arl.models import families
from arl.runs import devices

NUM_NUMBERS, NUM_GUESSES, GROUP = 8, 4, 8
TASK = f"Number below {NUM_NUMBERS}:"
LENGTH = 16  # tokens of the longest episode: 4 of the task, and at each guess the guess and 2 of the answer
LEARNING_RATE = 1e-4

# A conversation is the text that our agent reads and writes, without marks of who says what; the tool's name and arguments stand in the
# template because TRL asks for it, and never in what is trained on.
CHAT_TEMPLATE = (
    "{% for m in messages %}{% for c in m.get('tool_calls') or [] %}{{ ' ' + c.function.name }}"
    "{% for k, v in c.function.arguments.items() %}{{ ' ' + k + ' ' + v|string }}{% endfor %}{% endfor %}{{ m.content }}{% endfor %}"
)
# Any token is read as a call of `guess`.
ANY_TOKEN_IS_A_CALL = {
    "defaults": {"role": "assistant"},
    "start_hash": ":",
    "fields": {
        "tool_calls": {
            "open_pattern": r"(?P<word>[\s\S]+)",
            "close_pattern": r"$",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "guess", "arguments": {"word": "{word}"}}},
        },
        "content": {"close_pattern": r"$", "content": "text"},
    },
}


def answer(guess: int, number: int) -> str:
    """Returns the environment's answer to a guess."""
    return " correct\n" if guess == number else " higher:" if guess < number else " lower:"


# ---------------------------------------------------------------- our side


def our_update(num_episodes: int, size: str, constrained: bool = True):
    """Returns our side: a function without arguments that takes one update, and brings its metrics to the host."""
    tokenizer = text.load_tokenizer()
    task = envs.NumberGuess(NUM_NUMBERS, one_guess=False).make(tokenizer)
    interaction = agents.make_agent(task, (agents.Act(time_limit=NUM_GUESSES),))
    if not constrained:
        interaction = interaction._replace(grammar=text.free(interaction.grammar, len(tokenizer)))
    policy = models.make_policy(models.preset(size, len(tokenizer), context_length=interaction.size.context))
    rollout_config = rollout.RolloutConfig(
        trajectory_length=LENGTH,
        context_length=interaction.size.context,
        widths=((1, 4), (1, 3)),
        decoding=rollout.Decoding(constrained=constrained),
    )
    config = training.LearnerConfig(
        num_lanes=num_episodes,
        group_size=GROUP,
        num_epochs=1,
        num_minibatches=1,
        microbatch_size=min(32, num_episodes),
        estimator="grpo",
        value_weight=0.0,
        entropy_weight=training.Schedule(),
        learning_rate=training.Schedule(LEARNING_RATE, LEARNING_RATE),
    )
    mesh, key = devices.make_mesh(), jax.random.key(0)
    learner = training.make_learner(interaction, policy, rollout_config, config, layout=training.Layout(mesh))
    like = jax.eval_shape(learner.init, key)
    update = training.jit_update(learner, like)
    state = jax.jit(learner.init, out_shardings=learner.shardings(like))(key)

    def side():
        nonlocal state
        state, metrics = update(state)
        return jax.device_get(metrics)

    return side


# ---------------------------------------------------------------- TRL's side


def make_twin(size: str) -> tuple[Any, transformers.LlamaForCausalLM]:
    """Returns our tokenizer with a chat template, and a model of the same size in PyTorch."""
    tokenizer = text.load_tokenizer()
    tokenizer.chat_template, tokenizer.padding_side = CHAT_TEMPLATE, "left"
    config = families.to_json(models.preset(size, len(tokenizer)), 512)
    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return tokenizer, transformers.LlamaForCausalLM(transformers.LlamaConfig(**config, **ids, dtype="float32"))


def number_of(token: int, numbers: dict[int, int]) -> int:
    """Returns the guess that a token stands for."""
    return numbers.get(token, token % NUM_NUMBERS)


class GuessTool:
    """The environment as a tool, for `environment_factory`."""

    words: dict[str, int] = {}  # token as text -> guess, shared by all

    def reset(self, number: int = 0, **rest) -> None:
        """Begins an episode."""
        self.number, self.is_right = number, False

    def guess(self, word: str) -> str:
        """
        Guesses the hidden number.

        Args:
            word: The guess.

        Returns:
            The answer.
        """
        guessed = self.words.get(word, len(word) % NUM_NUMBERS)
        self.is_right = self.is_right or guessed == self.number
        return answer(guessed, self.number)

    def get_reward(self) -> float:
        """Returns what the episode earned."""
        return float(self.is_right)


class RolloutTrainer(trl.GRPOTrainer):
    """A trainer that passes the hidden numbers to its `rollout_func`, which TRL does not."""

    numbers: list[int] = []

    def _generate_and_score_completions(self, inputs):
        self.numbers = [example["number"] for example in inputs]
        return super()._generate_and_score_completions(inputs)


def play(prompts, trainer) -> dict[str, list]:
    """Plays all unfinished episodes in parallel, one token per turn; a `rollout_func`."""
    tokenizer, model, numbers = trainer.processing_class, trainer.model, trainer.numbers
    symbols = {tokenizer.encode(f" {i}", add_special_tokens=False)[0]: i for i in range(NUM_NUMBERS)}
    said = {words: tokenizer.encode(words, add_special_tokens=False) for words in (" higher:", " lower:")}
    prompt_ids = [tokenizer.encode(prompt[0]["content"], add_special_tokens=False) for prompt in prompts]
    completion, mask, reward = [[] for _ in prompts], [[] for _ in prompts], [0.0] * len(prompts)
    settings = transformers.GenerationConfig(
        max_new_tokens=1, do_sample=True, top_k=0, temperature=1.0, pad_token_id=tokenizer.pad_token_id, eos_token_id=None
    )
    playing = list(range(len(prompts)))
    model.eval()
    for turn in range(NUM_GUESSES):
        # All that play have had the same number of turns, so that nothing needs padding.
        ids = torch.tensor([prompt_ids[i] + completion[i] for i in playing])
        with torch.no_grad():
            written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[:, -1].tolist()
        still = []
        for i, token in zip(playing, written, strict=True):
            completion[i].append(token)
            mask[i].append(1)
            words = answer(number_of(token, symbols), numbers[i])
            if words == " correct\n":
                reward[i] = 1.0
            elif turn < NUM_GUESSES - 1:
                completion[i] += said[words]
                mask[i] += [0] * len(said[words])
                still.append(i)
        playing = still
        if not playing:
            break
    model.train()
    return {"prompt_ids": prompt_ids, "completion_ids": completion, "logprobs": None, "env_mask": mask, "earned": reward}


def earned_reward(completions, earned, **rest) -> list[float]:
    """Returns the return of each episode from `play`."""
    return earned


class TakeTurns(transformers.TrainerCallback):
    """After each update of TRL's the other sides take one each; the seconds of all are kept."""

    def __init__(self, others: dict[str, Any]):
        self.others, self.taken, self._since = others, {name: [] for name in ["trl", *others]}, None

    def on_step_end(self, args, state, control, **rest):
        """Notes how long the update took, from the end of the one before, and lets the others take theirs."""
        if self._since is not None:
            self.taken["trl"].append(time.perf_counter() - self._since)
        for name, side in self.others.items():
            began = time.perf_counter()
            side()
            self.taken[name].append(time.perf_counter() - began)
        self._since = time.perf_counter()


def make_trainer(way: str, num_episodes: int, size: str, num_updates: int, folder: str) -> trl.GRPOTrainer:
    """Returns TRL's trainer for one of the two ways in which it takes environments: "rollout_func" or "environment_factory"."""
    tokenizer, model = make_twin(size)
    rng = random.Random(0)
    rows = [rng.randrange(NUM_NUMBERS) for _ in range(num_episodes // GROUP * (num_updates + 1))]
    data = datasets.Dataset.from_dict({"prompt": [[{"role": "user", "content": TASK}]] * len(rows), "number": rows})
    arguments = trl.GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=num_episodes,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        num_generations=GROUP,
        num_iterations=1,
        max_steps=num_updates,
        max_completion_length=LENGTH,
        generation_kwargs={"max_new_tokens": 1},
        max_tool_calling_iterations=NUM_GUESSES,
        temperature=1.0,
        top_k=0,
        beta=0.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        learning_rate=LEARNING_RATE,
        dataloader_pin_memory=False,
    )
    common = {"model": model, "args": arguments, "train_dataset": data, "processing_class": tokenizer}
    if way == "rollout_func":
        return RolloutTrainer(reward_funcs=earned_reward, rollout_func=play, **common)
    GuessTool.words = {tokenizer.decode([tokenizer.encode(f" {i}", add_special_tokens=False)[0]]).strip(): i for i in range(NUM_NUMBERS)}
    tokenizer.response_template = ANY_TOKEN_IS_A_CALL
    return trl.GRPOTrainer(environment_factory=GuessTool, **common)


def compare_updates(quick: bool) -> dict[str, float]:
    """Returns how many times as fast a whole update is as TRL's, by TRL's way, model and number of episodes, and both in seconds."""
    figures = {}
    for size in ("0.1M",) if quick else ("0.1M", "1M"):
        for num_episodes in (16,) if quick else (64, 256):
            ours, free = (our_update(num_episodes, size, constrained) for constrained in (True, False))
            ours(), free()
            for way in ("rollout_func", "environment_factory"):
                taken = take_turns(way, num_episodes, size, 4 if quick else 10, {"arl": ours, "free": free})
                where = f"{way}_{size}_{num_episodes}_episodes"
                figures[f"update_over_trl_{where}"] = taken["trl"] / taken["arl"]
                figures[f"update_over_trl_{where}_whole_vocabulary"] = taken["trl"] / taken["free"]
                figures[f"update_seconds_trl_{where}"] = taken["trl"]
                figures[f"update_seconds_{where}"] = taken["arl"]
    return figures


def take_turns(way: str, num_episodes: int, size: str, num_updates: int, others: dict[str, Any]) -> dict[str, float]:
    """Returns the median seconds of an update of TRL's, and of each of the others, which take one after each."""
    turns = TakeTurns(others)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(way, num_episodes, size, num_updates, folder)
        trainer.add_callback(turns)
        trainer.train()
    return {name: statistics.median(times[1:]) for name, times in turns.taken.items()}
