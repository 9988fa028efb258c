"""Trajectories as readable transcripts: texts, segments, probabilities, rewards and context resets."""

import pathlib
from typing import Any

import numpy as np

from arl.types import Grammar, Interaction, Kind, Trajectory

READ, WROTE = "read", "wrote"
MARGIN = 14  # columns, for the names of segments
SHOWN = {"the 10th percentile": 0.1, "the median": 0.5, "the best": 1.0}  # the episodes to show, by quantile of their return


def events(interaction: Interaction, tokenizer: Any, trajectory: Trajectory, lane: int) -> list[dict[str, Any]]:
    """Returns the events of a lane: texts that were read, and segments that were written.

    Args:
      interaction: the agent in its environment.
      tokenizer: tokenizer of its texts.
      trajectory: `[B, T]`, on the host.
      lane: index of the lane.

    Returns:
      Dicts with `who`, `kind` and `attempt`; for a text that was read also `text` and `resets_context`; for a segment also `tokens` (pairs
      of text and probability, None if forced), `is_over`, `reward` and `is_legal`.
    """
    found: list[dict[str, Any]] = []
    say = lambda token: tokenizer.decode([int(token)], skip_special_tokens=False)
    own_length = 0  # tokens of a segment that come next in the trajectory, as the model reads what it wrote
    for slot in np.flatnonzero(np.asarray(trajectory.token_kind[lane]) > 0):
        kind = Kind(int(trajectory.token_kind[lane, slot]))
        resets_context = slot > 0 and int(trajectory.context_start[lane, slot]) == slot
        if resets_context or kind in (Kind.PROMPT, Kind.OBSERVATION):
            if not found or found[-1]["who"] != READ or resets_context or found[-1]["kind"] != kind.name:
                found.append(
                    {
                        "who": READ,
                        "kind": kind.name,
                        "attempt": int(trajectory.attempt[lane, slot]),
                        "text": "",
                        "resets_context": resets_context,
                    }
                )
            found[-1]["text"] += say(trajectory.token[lane, slot])
            own_length = 0
        elif own_length:
            own_length -= 1
        else:  # forced by the grammar at the beginning of a segment
            if not found or found[-1]["who"] != WROTE or found[-1]["is_over"]:
                found.append(_segment(kind, trajectory.attempt[lane, slot]))
            found[-1]["tokens"].append((say(trajectory.token[lane, slot]), None))
        if trajectory.is_sampled[lane, slot]:
            if not found or found[-1]["who"] != WROTE or found[-1]["is_over"]:
                found.append(_segment(Kind(int(trajectory.kind[lane, slot])), trajectory.attempt[lane, slot]))
            probability = float(np.exp(trajectory.log_prob[lane, slot]))
            found[-1]["tokens"].append((say(trajectory.sampled[lane, slot]), probability))
            forced = _forced(interaction.grammar, int(trajectory.grammar_state[lane, slot]), int(trajectory.sampled[lane, slot]))
            found[-1]["tokens"] += [(say(each), None) for each in forced]
            own_length = 1 + len(forced)
            if trajectory.ends_segment[lane, slot]:
                reward = sum(float(np.asarray(part)[lane, slot]) for part in trajectory.reward)
                found[-1] |= {"is_over": True, "reward": reward, "is_legal": bool(trajectory.is_legal[lane, slot])}
    return found


def _forced(grammar: Grammar, state: int, token: int) -> list[int]:
    """Returns the ids of the tokens that the grammar forces after one that was sampled in a state."""
    edge = np.flatnonzero((grammar.token[state] == token) & (grammar.next_state[state] > 0))
    after = grammar.next_state[state, edge[0]] if edge.size else grammar.mask_state[state]
    return grammar.forced[after][: grammar.forced_length[after]].tolist()


def _segment(kind: Kind, attempt: Any) -> dict[str, Any]:
    return {"who": WROTE, "kind": kind.name, "attempt": int(attempt), "tokens": [], "is_over": False, "reward": 0.0, "is_legal": True}


def pieces(event: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns one of `events` as pairs of a role and a text; the texts, joined, are its lines in a transcript.

    Roles are "border" (a context reset), "label", "read", "token", "sure" and "unsure" (probabilities, in brackets after their tokens),
    "paid", "charged" and "illegal". Line breaks are those of the text; the lines that follow are indented.

    Args:
      event: a text that was read, or a segment that was written.
    """
    found = [("border", f"{'':{MARGIN}}--- the context begins anew ---\n")] if event.get("resets_context") else []
    label = f"{'>' if event['who'] == WROTE else ' '} {event['kind'].lower():>{MARGIN - 3}} "
    if event["who"] == READ:
        lines = [line.removeprefix(" ").rstrip() for line in event["text"].strip("\n").split("\n")]
        return [*found, ("label", label), (READ, f"\n{'':{MARGIN}}".join(lines))]
    found.append(("label", label))
    for index, (token, probability) in enumerate(event["tokens"]):
        token = token if index else token.removeprefix(" ") or token
        # A line break that was written is a token like any other; at the end of a segment only its sign is shown.
        token = token.replace("\n", "\u21b5\n" if index + 1 < len(event["tokens"]) else "\u21b5").replace("\n", f"\n{'':{MARGIN}}")
        found.append(("token", token))
        if probability is not None:
            found.append(("sure" if probability > 0.5 else "unsure", f"({probability:.2f})"))
    if event["reward"]:
        found.append(("paid" if event["reward"] > 0 else "charged", f"   reward {event['reward']:+.2f}"))
    return found if event["is_legal"] else [*found, ("illegal", "   illegal")]


def to_text(happened: list[dict[str, Any]]) -> str:
    """Returns what `happened`, as of `events`, as plain text, with the probability of each sampled token after it."""
    return "\n".join("".join(text for _, text in pieces(event)) for event in happened)


def typical(returned: np.ndarray) -> dict[int, str]:
    """Returns the indices of the episodes at a few quantiles of the return, with the names of these quantiles; ties keep their order.

    Args:
      returned: `[N]`, return of each episode.
    """
    order, found = np.argsort(returned, kind="stable"), {}
    for name, quantile in SHOWN.items():
        found.setdefault(int(order[round(quantile * (len(order) - 1))]), []).append(name)
    return {episode: " and ".join(names) for episode, names in found.items()}


def typical_episodes(interaction: Interaction, tokenizer: Any, trajectory: Trajectory) -> str:
    """Returns transcripts of the typical episodes among many, each under a title line.

    Args:
      interaction: the agent in its environment.
      tokenizer: tokenizer of its texts.
      trajectory: `[N, T]`, on the host, a whole episode in each lane.
    """
    returned = np.sum([np.sum(part, axis=1) for part in trajectory.reward._replace(own=0.0 * trajectory.reward.own)], axis=0)
    shown = typical(returned)
    greedily = "" if np.any(trajectory.log_prob) else "; written greedily, so that all probabilities are 1"
    said = [f"{len(shown)} of {len(returned)} held-out episodes, chosen by their return (mean {returned.mean():.2f}){greedily}"]
    for episode, place in shown.items():
        title = f"episode {episode + 1} of {len(returned)}: return {returned[episode]:.2f}, {place}"
        said.append(f"{title}\n{to_text(events(interaction, tokenizer, trajectory, episode))}")
    return "\n\n".join(said)


def add_section(path: pathlib.Path, title: str, text: str) -> None:
    """Writes a section to a file of transcripts; an earlier section of that title, and all after it, are replaced.

    Args:
      path: path of the file; it need not exist.
      title: title of the section.
      text: text of the section.
    """
    heading = f"===== {title}\n"
    before = path.read_text(errors="replace").split(heading)[0] if path.exists() else ""
    path.write_text(f"{before}{heading}{text}\n\n")
