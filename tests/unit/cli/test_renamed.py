"""Old names of commands and options are refused, and the message states the new one, which exists."""

import pytest

from varifocal import cli
from varifocal.cli import renamed


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(words))
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("old", "new"), renamed.OLD_COMMANDS.items())
def test_an_old_command(capsys, old, new):
    assert new in cli.COMMANDS
    assert old not in cli.COMMANDS
    assert refusal(capsys, old, "a", "b") == f"varifocal: error: {old} is called {new} now; see varifocal {new} --help"


@pytest.mark.parametrize(
    ("words", "new"),
    [
        (["train", "data", "--val", "0.2"], "--val-fraction"),
        (["train", "data", "--val=0.2"], "--val-fraction"),
        (["eval", "m", "data", "--json", "x"], "--output-json"),
        (["export", "m", "--val", "data"], "--validation-data"),
        (["export", "m", "--calibrate", "data"], "--calibration-data"),
        (["export", "m", "--force"], "--overwrite"),
        (["check", "data", "--fast"], "--annotations-only"),
        (["report", "run", "--fast"], "--no-inference"),
        (["diagnose", "data", "--results", "x"], "--predictions"),
        (["predict", "m", "a.mp4", "--every", "2"], "--frame-stride"),
        (["convert-dataset", "a", "b", "--to", "coco", "--pictures", "copy"], "--image-files"),
    ],
)
def test_an_old_option(capsys, words, new):
    old = next(word for word in words if word.startswith("--") and word != "--to").partition("=")[0]
    sentence = f"varifocal: error: {words[0]}: {old} is called {new} now; see varifocal {words[0]} --help"
    assert refusal(capsys, *words) == sentence


def options_of(command):
    parser = cli.make_parser()
    subparsers = next(action for action in parser._actions if action.dest == "command")
    return {option for action in subparsers.choices[command]._actions for option in action.option_strings}


def test_every_new_option_is_one_and_no_old_one_is():
    there = set().union(*(options_of(command) for command in cli.COMMANDS))
    assert set(renamed.OLD_OPTIONS.values()) <= there
    assert not (set(renamed.OLD_OPTIONS) | set(renamed.OLD_OPTIONS_OF_COMMANDS)) & there
    for ways in renamed.OLD_OPTIONS_OF_COMMANDS.values():
        for command, new in ways.items():
            assert new in options_of(command)


def test_another_word_is_refused_as_before(capsys):
    assert "unknown argument '--nonsense'" in refusal(capsys, "train", "data", "--nonsense")


@pytest.mark.parametrize(("old", "new"), [("in", "graph"), ("out", "host")])
def test_an_old_value(capsys, old, new):
    assert f"argument --nms: {old} is called {new} now" in refusal(capsys, "export", "m.safetensors", "--nms", old)
