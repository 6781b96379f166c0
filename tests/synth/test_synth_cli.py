import subprocess
import sys

import pytest

from abaw.synth import corpus as corpus_module
from abaw.synth.cli import main


def test_writes_a_corpus(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus_module, "write_recording", lambda *_: None)
    root = tmp_path / "corpus"
    assert main([str(root), "--videos", "8", "--frames", "40", "--seed", "3"]) == 0
    assert "--videos 8 --frames 40 --seed 3" in (root / "SYNTHETIC.txt").read_text()
    assert "Writing videos" in capsys.readouterr().err
    assert main([str(root), "--videos", "8", "--frames", "40"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([str(root), "--videos", "8", "--frames", "40", "--overwrite"]) == 0


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "corpus"), "--videos", "3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("abaw synth: ")
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
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "usage: abaw synth" in capsys.readouterr().err


def test_needs_no_torch():
    code = "import sys, abaw.synth.cli, abaw.synth; sys.exit(bool({'torch', 'lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
