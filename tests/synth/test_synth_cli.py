import subprocess
import sys

import pytest

from abaw.cli import main as abaw
from abaw.synth import corpus as corpus_module
from abaw.synth.cli import main


def test_writes_a_corpus(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus_module, "write_recording", lambda *_: None)
    root = tmp_path / "corpus"
    assert main([str(root), "--videos", "8", "--frames", "40", "--seed", "3"]) == 0
    assert "--videos 8 --frames 40 --seed 3" in (root / "SYNTHETIC.txt").read_text()
    assert "Writing videos" in capsys.readouterr().err
    assert abaw(["synth", str(root), "--videos", "8", "--frames", "40"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([str(root), "--videos", "8", "--frames", "40", "--overwrite"]) == 0


def test_bad_input_is_one_line(tmp_path, capsys):
    assert abaw(["synth", str(tmp_path / "corpus"), "--videos", "3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("abaw: error: ")
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_an_interruption_is_one_line(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus_module, "write_recording", interrupt)
    assert main([str(tmp_path / "corpus"), "--videos", "8", "--frames", "40"]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [[], ["root", "--videos", "many"], ["root", "--epochs", "3"]])
def test_bad_arguments_exit_2(argv, capsys):
    assert abaw(["synth", *argv]) == 2
    error = capsys.readouterr().err
    assert "'abaw synth --help' lists the options" in error
    assert error.count("\n") == 1


def test_an_option_that_there_is_not_is_answered_with_the_nearest(capsys):
    assert abaw(["synth", "root", "--vidios", "3"]) == 2
    assert "did you mean --videos?" in capsys.readouterr().err


def test_needs_no_torch():
    code = "import sys, abaw.synth.cli, abaw.synth; sys.exit(bool({'torch', 'lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
