"""What the commands say of faults in a configuration, in a class of the user's own, and in names of paths."""

import sys
from pathlib import Path

import pytest
from small import QUICKSTART, fit_arguments, told_in_one_line

from abaw.cli import main

OWN = """\
from abaw.fusion import ConcatFusion, FusionHead

class NoForward(FusionHead):
    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int, dim: int = 8):
        super().__init__()

class Raises(ConcatFusion):
    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int, dim: int = 8):
        super().__init__(visual_dim, audio_dim, num_classes)
        self.sizes["x"]

class Refuses(ConcatFusion):
    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int, dim: int = 8, depth: int = 2):
        raise ValueError("the depth\\nmust be even")

class Wrong(ConcatFusion):
    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int, dim: int = 8):
        super().__init__(visual_dim, audio_dim, num_classes)

    def forward(self, *args, **kwargs):
        return self.nothing
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's, in the folder that the commands are typed in."""
    path = tmp_path / "own_parts.py"
    path.write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    return path


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        ("NoForward", 2, "model.fusion: NoForward ({}) lacks forward"),
        ("Raises", 1, "model.fusion: Raises cannot be made: AttributeError: 'Raises' object has no"),
        ("Raises", 1, "({}, line 10; --debug shows the way to it)"),
        ("Refuses", 2, "model.fusion.init_args.depth: the depth must be even (Refuses, {}, line 14)"),
        (
            "Wrong",
            1,
            "{}, line 21: AttributeError: 'Wrong' object has no attribute 'nothing' (an error in code of",
        ),
        ("Missing", 2, "model.fusion: own_parts has no Missing"),
    ],
)
def test_a_fault_of_a_class_of_ones_own_has_a_place(
    head: str, status: int, words: str, own: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*fit_arguments(corpus, own.parent / "run"), "--trainer.num_sanity_val_steps=0"]
    assert main([*arguments, f"--model.fusion=own_parts.{head}"]) == status
    said = capsys.readouterr().err
    assert f"abaw: error: {words.format(own)}" in said or words.format(own) in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (
            ["fit", "--config={config}", "--model.fusion=own_parts.Raises", "--data.root={corpus}"],
            1,
            "AttributeError",
        ),
        (["test", "--run=none"], 2, "InputError"),
        (["submit", "none"], 2, "InputError"),
        (["synth", "root", "--videos", "1"], 2, "InputError"),
    ],
)
@pytest.mark.parametrize("by_option", [True, False])
def test_debug_shows_the_way_to_any_error(
    arguments: list[str],
    status: int,
    error: str,
    by_option: bool,
    own: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = [argument.format(config=QUICKSTART, corpus=corpus) for argument in arguments]
    if by_option:
        typed.append("--debug")
    else:
        monkeypatch.setenv("ABAW_DEBUG", "1")
    assert main(typed) == status
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert f"{error}: " in said
    assert said.splitlines()[-1].startswith("abaw: error: ")


def test_an_error_that_nobody_foresaw_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> int:
        raise KeyError("x")

    monkeypatch.setattr("abaw.cli._run", broken)
    assert main(["fit"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("abaw: error: ")
    assert "KeyError: 'x'" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model:\n  lrr: 1\n", "own.yaml, line 2: there is no option model.lrr; did you mean model.lr?"),
        (
            "trainer:\n\n  max_epoch: 1\n",
            "line 3: there is no option trainer.max_epoch; did you mean trainer.max_epochs?",
        ),
        (
            "model:\n  fusion:\n    init_args:\n      dimm: 1\n",
            "own.yaml, line 4: model.fusion.init_args.dimm: DualBranchTransformer has no argument 'dimm'",
        ),
        (
            "model:\n  fusion:\n    classpath: X\n",
            "line 3: model.fusion.init_args.classpath: DualBranchTransformer has no",
        ),
        ("model:\n  yes: 1\n", "own.yaml, line 2: the key True is no name"),
        (
            "trainer:\n  callbacks:\n  - init_args: {monitor: x}\n",
            "line 2: trainer.callbacks: class_path is missing",
        ),
        (
            "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args:\n      monitr: x\n",
            "line 5: trainer.callbacks.init_args.monitr: EarlyStopping has no argument 'monitr'",
        ),
        (
            "data:\n  batch_size: lots\n",
            "own.yaml, line 2: data.init_args.batch_size: expects int. Got value: lots",
        ),
        (
            "trainer:\n  max_epochs: lots\n",
            "own.yaml, line 2: trainer.max_epochs: expects int. Got value: lots",
        ),
        ("model:\n  warmup: 7\n", "own.yaml, line 2: model.warmup: warmup must be at most 1"),
        ("inference:\n  stride: 0\n", "own.yaml, line 2: inference.stride: "),
        (
            "checkpoint:\n  monitor: val/f2\n",
            "own.yaml, line 2: checkpoint.monitor: RunCheckpoint waits for",
        ),
        ("model:\n  fusion: head.yaml\n", "head.yaml, lines 1 and 3: class_path is given twice"),
    ],
)
def test_a_fault_of_a_configuration_has_a_file_and_a_line(
    text: str, words: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text(text)
    (tmp_path / "head.yaml").write_text("class_path: ConcatFusion\ninit_args: {}\nclass_path: GatedFusion\n")
    first, *rest = fit_arguments(corpus, tmp_path / "run")
    assert words in told_in_one_line([first, rest[0], f"--config={tmp_path}/own.yaml", *rest[1:]], capsys)
    assert not (tmp_path / "run").exists()


def test_a_missing_class_path_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text("model:\n  fusion:\n    init_args:\n      dim: 8\n")
    error = told_in_one_line(["fit", f"--config={tmp_path}/own.yaml", "--data.root=x"], capsys)
    assert "own.yaml, line 2: model.fusion: class_path is missing" in error
    assert "there are ConcatFusion, CrossAttentionFusion" in error


@pytest.mark.parametrize("name", ["Interview: part 1", "100% #1 [x] {y} 'z'", "-a b", "a\nb"])
def test_runs_may_have_any_name(
    name: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    Path(name, "c.yaml").write_text(QUICKSTART.read_text())
    Path(name, "corpus").symlink_to(corpus)
    arguments = [f"--config={name}/c.yaml", *fit_arguments(Path(name, "corpus"), Path(name, "run"))[2:]]
    assert main(["fit", *arguments]) == 0
    assert "Next: abaw test --run " in capsys.readouterr().out
    assert main(["test", f"--run={name}/run", "--trainer.enable_progress_bar=false"]) == 0
    assert Path(name, "run", "test", "test.json").is_file()
    arguments = [f"--ckpt_path={name}/run/checkpoints/last.ckpt", "--trainer.enable_progress_bar=false"]
    assert main(["validate", *arguments]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "option",
    ["--config={}", "--data.root={}", "--trainer.default_root_dir={}", "--ckpt_path={}", "--weights={}"],
)
def test_bytes_that_are_no_utf8_are_told(
    option: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(tmp_path / "a\nb\udcff")
    arguments = [*fit_arguments(corpus, tmp_path / "run"), option.format(name)]
    assert "a b\\udcff" in told_in_one_line(arguments, capsys)
    assert "a b\\udcff" in told_in_one_line(["test", f"--run={name}"], capsys)


def test_the_home_folder_is_found_wherever_it_is_typed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(QUICKSTART.read_text())
    (tmp_path / "d.yaml").write_text("trainer:\n  default_root_dir: ~/run\n")
    options = [option for option in fit_arguments(corpus, tmp_path)[2:] if "default_root_dir" not in option]
    assert main(["fit", "--config=~/c.yaml", "--config=~/d.yaml", *options]) == 0
    assert (
        main(["test", "--run=~/run", "--report.output_dir=~/told", "--trainer.enable_progress_bar=false"])
        == 0
    )
    assert (tmp_path / "told" / "test.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"c.yaml", "d.yaml", "run", "told"}


@pytest.mark.parametrize("name", ["s3://bucket/run", "a::b"])
def test_a_run_is_on_this_machine(name: str, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (fit_arguments(corpus, Path("x")), ["test"]):
        typed = [
            *arguments,
            f"--run={name}" if arguments == ["test"] else f"--trainer.default_root_dir={name}",
        ]
        assert "Lightning takes a path with :// or :: for one on a network" in told_in_one_line(typed, capsys)
