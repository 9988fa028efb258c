"""The notebook of capabilities runs from top to bottom, and each of its agents does what it says."""

from tests.colabs import notebooks


def test_cognition_runs_and_prints_what_it_stores():
    stored = notebooks.read("cognition")
    notebook = notebooks.execute(notebooks.read("cognition"), ARL_COGNITION_UPDATES="21")  # one update from rewards
    assert not notebooks.faults_of_outputs(notebook)
    *cells, learned, picture = zip(notebooks.code(notebook), notebooks.code(stored), strict=True)
    for found, expected in cells[1:]:  # the first tells about the machine
        assert notebooks.printed(found) == notebooks.printed(expected), "run `make notebooks`"
    for found, expected in (learned, picture):
        assert notebooks.kinds_of_outputs(found) == notebooks.kinds_of_outputs(expected)
    printed = notebooks.printed(*notebooks.code(notebook))
    for said in ("(TOOL)", "(NOTE)", "(REFLECTION)", "(THINK)", "(CONTROL)", "the context begins anew", " correct"):
        assert said in printed, said
    assert "normalised score: 0 is random, 1 is optimal" in printed
    assert "after 21 updates, normalised score " in printed
    assert "stopped before the 80 updates" in printed
