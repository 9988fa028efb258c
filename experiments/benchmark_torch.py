"""The same rollout by `transformers`' `generate`, and the same loss in PyTorch, for the benchmark; needs the extra `parity`."""

import functools
import random

import numpy as np
import torch
import transformers

from arl.models import Variables, families
from arl.models.export_pretrained import checkpoint_tensors
from arl.rollout.sampling import candidate_index, options
from arl.training import LearnerConfig
from arl.training import loss as losses
from arl.types import ArlError, Trajectory
from experiments import measure
from experiments.benchmark_job import ADVICE, NUM_ARMS, NUM_TURNS, THOUGHT, Job, make_batch, make_job, our_step, roll_out


def make_llama(job: Job) -> transformers.LlamaForCausalLM:
    """Returns the same model, with the same weights, in PyTorch."""
    twin = transformers.LlamaForCausalLM(transformers.LlamaConfig(**families.to_json(job.config, 4096)))
    twin.load_state_dict({name: torch.tensor(value) for name, value in checkpoint_tensors(job.config, job.variables.trainable).items()})
    return twin.eval()


class Bandit:
    """The environment as one writes it in plain Python: text in, text out."""

    def __init__(self, rng: random.Random):
        self._rng, self._probabilities = rng, [rng.random() for _ in range(NUM_ARMS)]

    def reset(self) -> str:
        """Returns the task in words."""
        return f"Pull {' or '.join('AB')} for {NUM_TURNS} steps:"

    def step(self, arm: int) -> tuple[str, float]:
        """Returns what the arm pays, in words and as a reward."""
        pays = int(self._rng.random() < self._probabilities[arm])
        return f" {pays}:", float(pays)


def generate(job: Job, twin: transformers.LlamaForCausalLM, num_lanes: int, keeps_cache: bool):
    """Returns the other side: a function of a seed that drives `num_lanes` environments by `generate` and gives all tokens `[B, T]`.

    Args:
      job: the task and its tokenizer.
      twin: the model.
      num_lanes: `B`.
      keeps_cache: whether keys and values are kept from turn to turn, or the whole history is encoded again at each.
    """
    settings = transformers.GenerationConfig(
        max_new_tokens=THOUGHT + 1, do_sample=True, top_k=0, top_p=1.0, temperature=1.0, pad_token_id=0, eos_token_id=None
    )

    def encode(texts):
        return torch.tensor(job.tokenizer(texts, add_special_tokens=False)["input_ids"])

    @torch.no_grad()
    def run(seed):
        torch.manual_seed(seed)
        rng = random.Random(seed)
        bandits = [Bandit(rng) for _ in range(num_lanes)]
        ids = encode([bandit.reset() + ADVICE for bandit in bandits])
        cache = transformers.DynamicCache(config=twin.config) if keeps_cache else None
        for turn in range(NUM_TURNS):
            kept = {"past_key_values": cache} if keeps_cache else {}
            ids = twin.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings, **kept)
            answers = [bandit.step(token % NUM_ARMS)[0] for bandit, token in zip(bandits, ids[:, -1].tolist(), strict=True)]
            if turn < NUM_TURNS - 1:
                ids = torch.cat([ids, encode([answer + ADVICE for answer in answers])], 1)
        return ids

    return run


def compare_rollouts(quick: bool) -> dict[str, float]:
    """Returns how many times as fast we roll out as `generate` does, by way, model and number of lanes, and our written tokens a second."""
    figures = {}
    for size in ("0.1M",) if quick else ("0.1M", "1M"):
        job = make_job(size)
        twin = make_llama(job)
        for num_lanes in (4,) if quick else (64, 256):
            ours, seed = roll_out(job, num_lanes), iter(range(10**6))
            trajectory, _ = ours(0)
            again, kept = (generate(job, twin, num_lanes, keeps_cache) for keeps_cache in (False, True))
            _check_same_work(trajectory, again(0))
            sides = {name: functools.partial(_next, side, seed) for name, side in (("arl", ours), ("again", again), ("kept", kept))}
            taken, where = measure.alternate(sides, 1 if quick else 5), f"{size}_{num_lanes}_lanes"
            figures[f"rollout_over_generate_encoding_again_{where}"] = taken["again"] / taken["arl"]
            figures[f"rollout_over_generate_keeping_cache_{where}"] = taken["kept"] / taken["arl"]
            figures[f"rollout_written_tokens_per_second_{where}"] = num_lanes * NUM_TURNS * (THOUGHT + 1) / taken["arl"]
    return figures


def _next(side, seeds):
    return side(next(seeds))


def _check_same_work(trajectory: Trajectory, ids: torch.Tensor) -> None:
    """Checks that both sides read and wrote the same number of tokens; `arl` does not read the last one of an episode."""
    ours = int((trajectory.token_kind > 0).sum()) + len(trajectory.token)
    if ours != ids.numel():
        raise ArlError(f"we read and wrote {ours} tokens and `generate` {ids.numel()}; they are to do the same work")


# ---------------------------------------------------------------- the learner


class TorchActor(torch.nn.Module):
    """The twin of our model: trunk, output head over the candidates that can be written, value head."""

    def __init__(self, job: Job):
        super().__init__()
        twin = make_llama(job)
        self.trunk, self.head = twin.model, twin.lm_head
        self.value_head = torch.nn.Parameter(torch.tensor(np.array(job.variables.trainable["value_head"])))

    def forward(self, tokens):
        """Returns the trunk's features `[B, T, D]`; a trajectory holds one episode, so that causal attention is all that is needed."""
        return self.trunk(input_ids=tokens, use_cache=False).last_hidden_state


def torch_loss(actor: TorchActor, config: LearnerConfig, entropy_weight: float, totals: dict[str, float], candidates, batch: dict):
    """Returns a microbatch's part of the loss of `arl.training.loss`, in ordinary PyTorch.

    Logits are computed only where a token was written.

    Args:
      actor: the model.
      config: clipping range and weight of the value loss.
      entropy_weight: of the entropy bonus.
      totals: weights of the policy's tokens and of the values in the whole batch, by which the terms are divided.
      candidates: int64 `[U]`.
      batch: tensors `[B, T]` by name, `support` `[B, T, U]`.
    """
    is_sampled = batch["is_sampled"]
    hidden = actor(batch["token"])[is_sampled]
    logits = torch.nn.functional.linear(hidden, actor.head.weight[candidates])
    support = batch["support"][is_sampled]
    log_probs = torch.log_softmax(logits.masked_fill(~support, -1e30), -1)
    log_prob = log_probs.gather(-1, batch["sampled"][is_sampled][:, None])[:, 0]
    entropy = -(log_probs.exp() * log_probs).masked_fill(~support, 0.0).sum(-1)
    mask, advantage = batch["policy_mask"][is_sampled], batch["advantage"][is_sampled]
    ratio = torch.exp(log_prob - batch["log_prob"][is_sampled])
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    policy = -torch.minimum(ratio * advantage, clipped * advantage)
    value = hidden @ actor.value_head
    value_loss = 0.5 * (value - batch["target"][is_sampled]) ** 2
    total = (policy * mask).sum() / totals["policy"] + config.value_weight * value_loss.sum() / totals["values"]
    return total - entropy_weight * (entropy * mask).sum() / totals["policy"]


def torch_step(job: Job, batch: losses.Batch, totals: losses.Totals, config: LearnerConfig, microbatch: int):
    """Returns the other side: the same gradient, as PyTorch leaves it in the parameters' `grad`."""
    trajectory, grammar = batch.trajectory, job.interaction.grammar
    actor, candidates = TorchActor(job), torch.tensor(grammar.candidates.astype(np.int64))
    arrays = {name: getattr(trajectory, name) for name in ("token", "is_sampled", "sampled", "log_prob")}
    arrays |= {"advantage": batch.advantage, "target": batch.target, "policy_mask": batch.policy_mask}
    arrays |= {"support": options(grammar, trajectory.grammar_state, trajectory.support, trajectory.narrowed)}
    arrays["sampled"] = candidate_index(grammar.candidates, trajectory.sampled)
    tensors = {name: torch.tensor(np.array(value)) for name, value in arrays.items()}
    tensors |= {name: tensors[name].long() for name in ("token", "sampled")}
    counts = {"policy": float(totals.policy), "values": float(totals.values)}
    entropy_weight = float(config.entropy_weight(0.0))

    def step():
        actor.zero_grad(set_to_none=True)
        for start in range(0, len(trajectory.token), microbatch):
            part = {name: tensor[start : start + microbatch] for name, tensor in tensors.items()}
            torch_loss(actor, config, entropy_weight, counts, candidates, part).backward()
        return actor.value_head.grad.numpy(), actor.trunk.embed_tokens.weight.grad.numpy()

    return step


def compare_learners(quick: bool) -> dict[str, float]:
    """Returns how many times as fast loss and gradient are as in PyTorch eager, each at its best microbatch, and our tokens a second."""
    figures = {}
    for size in ("0.1M",) if quick else ("0.1M", "1M"):
        job, num_lanes = make_job(size), 16 if quick else 256
        batch, totals, config = make_batch(job, num_lanes)
        microbatches = (4, 8) if quick else (4, 8, 16, 32, 64)
        ours = {f"arl {number}": our_step(job, batch, totals, config, number) for number in microbatches}
        theirs = {f"torch {number}": torch_step(job, batch, totals, config, number) for number in microbatches}
        _check_same_gradient(next(iter(ours.values()))(), next(iter(theirs.values()))())
        tried = measure.alternate(ours | theirs, 1)
        best = {name: side for sides in (ours, theirs) for name, side in sides.items() if name == min(sides, key=tried.__getitem__)}
        taken = measure.alternate(best, 1 if quick else 5)
        (our_name, our_seconds), (their_name, their_seconds) = taken.items()
        figures[f"learner_over_torch_{size}"] = their_seconds / our_seconds
        figures[f"learner_tokens_per_second_{size}"] = int((batch.trajectory.token_kind > 0).sum()) / our_seconds
        figures[f"learner_best_microbatch_{size}"] = int(our_name.split()[1])
        figures[f"learner_best_microbatch_torch_{size}"] = int(their_name.split()[1])
    return figures


def _check_same_gradient(ours: Variables, theirs: tuple[np.ndarray, np.ndarray]) -> None:
    weights = ours.trainable
    for mine, other in ((weights["value_head"], theirs[0]), (weights["trunk"]["embedding"], theirs[1])):
        gap = float(np.max(np.abs(np.asarray(mine) - other)) / np.max(np.abs(other)))
        if gap > 1e-3:
            raise ArlError(f"the two gradients differ by {gap:.1e} of their size; they are to be those of one loss")
