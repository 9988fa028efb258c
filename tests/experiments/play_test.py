"""A person plays: what is asked, how answers are understood, and what is said at the end."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
GUESS = ["--human", "--preset=reflection", "--config.environment.num_numbers=3", "--config.agent.attempts.num_attempts=2"]


def play(answers: str, *arguments: str) -> tuple[int, list[str], str]:
    """Exit code, lines of output and errors of the binary, which gets its answers from a pipe."""
    command = [sys.executable, str(ROOT / "experiments" / "play.py"), *arguments]
    ended = subprocess.run(command, cwd=ROOT, input=answers, capture_output=True, text=True, timeout=300, env=os.environ)
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


def test_an_episode_is_played_to_its_end():
    """Answers are numbers and words; those that are not legal are refused in one sentence, and asked for again."""
    code, lines, errors = play("7\n1\nup\n0 0 0 0\n 0 1 2\n2\n", *GUESS, "--seed=4")
    assert code == 0 and not errors, errors
    told = "\n".join(lines)
    assert sum("is not legal here; write " in line for line in lines) == 3
    assert any(line.startswith("'7' is not legal here; write ' ") for line in lines)
    assert "ACTION, token budget 1; legal: ' 0', ' 1', ' 2'" in lines, "numbers that are texts stand for themselves"
    assert ">      action 1" in told and ">  reflection 0 1 2" in told and " 0 1 2Guess:" in told and ">      action 2" in told
    assert lines[-2].startswith("the episode is over (t") and "return +" in lines[-2]
    assert lines[-1].startswith("outcome ") and "random 0.667, optimal 1." in lines[-1]


def test_texts_are_offered_by_number_and_an_episode_may_be_left():
    code, lines, _ = play("2\nleft\n?\nq\nup\n", "--human", "--config.environment=frozen_lake()", "--config.agent=act(time_limit=20)")
    assert code == 0 and "ACTION, token budget 1; 1) left   2) down   3) right   4) up" in lines
    assert ">      action down" in lines and ">      action left" in lines and "legal: ' left', ' down', ' right', ' up'" in lines
    assert lines[-2] == "ended early, with a return of 0.00" and not any("action up" in line for line in lines)


def test_the_end_of_the_input_ends_the_episode():
    code, lines, errors = play("1\n", *GUESS)
    assert code == 0 and not errors and lines[-2].startswith("ended early")


def test_flags_that_do_not_fit_together_are_refused():
    cases = {
        "leave --run or --human out": ["--human", "--run=runs/reflection"],
        "set --human": ["--preset=plain"],
        "leave --config": ["--config.learner.num_updates=3"],
        "histroy": ["--human", "--preset=histroy"],
    }
    for said, arguments in cases.items():
        code, _, errors = play("", *arguments)
        assert code == 2 and said in errors and errors.startswith("error: ") and len(errors.splitlines()) == 1, errors
