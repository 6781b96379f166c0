"""What somebody else's run or checkpoint names is not imported: a canary module would write a file."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small import QUICKSTART, told_in_one_line

import abaw
from abaw.arguments import expand_run
from abaw.cli import main
from abaw.encoders import ConvVisualEncoder, HFAudioEncoder, HFVisualEncoder
from abaw.errors import InputError
from abaw.fusion import ConcatFusion
from abaw.lightning_cli import ExpressionModule
from abaw.trained_run import TrainedRun
from abaw.trust import check_names

CANARY = "canary_of_test"
CODE = """
from pathlib import Path
Path(__file__).with_suffix(".flown").touch()
from abaw.fusion import ConcatFusion
class Head(ConcatFusion): pass
def make(*_): raise AssertionError
"""


@pytest.fixture
def flown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that appears when the canary is imported."""
    (tmp_path / f"{CANARY}.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, CANARY, raising=False)
    return tmp_path / f"{CANARY}.flown"


def put(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split("/")
    functools.reduce(lambda branch, name: branch.setdefault(name, {}), parents, tree)[last] = value
    return tree


def write_run(folder: Path, path: str = "", value: Any = None, **hyper_parameters: Any) -> Path:
    """What looks like a run's folder, with one entry of its configuration or its checkpoint changed."""
    config = yaml.safe_load(QUICKSTART.read_text())
    model = ExpressionModule(ConvVisualEncoder(8, width=8), None, ConcatFusion(8, 1, 8))
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": {**model.hparams, **hyper_parameters},
        "pytorch-lightning_version": "2.6.0",
    }
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt"):
        torch.save(checkpoint, folder / "checkpoints" / name)
    config["data"] = {"root": "corpus", "window": 8, "frame_step": 1}
    config["inference"] = {"stride": 4, "weighting": "uniform", "average": "probability"}
    config["trainer"]["precision"] = "32-true"
    (folder / "config.yaml").write_text(yaml.safe_dump(put(config, path, value) if path else config))
    return folder


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model/fusion", {"class_path": f"{CANARY}.Head", "init_args": {"dim": 8}}),
        ("model/fusion", f"{CANARY}.Head"),
        ("model/fusion", f"{{class_path: {CANARY}.Head}}"),
        ("model.fusion.class_path", f"{CANARY}.Head"),
        ("model/loss/init_args/inner", {"class_path": f"{CANARY}.Head"}),
        ("data/class_path", f"{CANARY}.Data"),
        ("trainer/callbacks", [{"class_path": f"{CANARY}.Callback"}]),
        ("trainer/callbacks", [f"{CANARY}.Callback"]),
        ("trainer/logger", f"{CANARY}.Logger"),
        ("trainer/strategy", f"{CANARY}.Strategy"),
        (
            "trainer/callbacks",
            {
                "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                "init_args": {"on_fit_start": f"{CANARY}.make"},
            },
        ),
    ],
)
def test_a_runs_configuration_names_nothing_foreign(
    path: str, value: Any, tmp_path: Path, flown: Path
) -> None:
    run = write_run(tmp_path / "run", path, value)
    ways = {
        command: [f"--run={run}"] for command in ("fit", "validate", "test", "robustness", "predict", "tune")
    }
    ways["extract"] = [str(tmp_path / "out"), "--run", str(run)]
    ways["test"] = [f"--ckpt_path={run}/checkpoints/best.ckpt"]
    for command, arguments in ways.items():
        with pytest.raises(InputError, match=f"add --trust {CANARY} ") as caught:
            expand_run(command, arguments)
        assert str(caught.value).startswith(f"{run}/config.yaml: {path.replace('/', '.').split('.class')[0]}")
        assert "\n" not in str(caught.value)
        trusted = expand_run(command, [*arguments, "--trust", "another", f"--trust={CANARY}"])
        assert f"--config={run}/config.yaml" in trusted
        assert not any("--trust" in argument for argument in trusted)
    assert not flown.exists()


@pytest.mark.parametrize("option", ["--run={}", "--ckpt_path={}/checkpoints/last.ckpt"])
def test_the_command_refuses_it(
    option: str, tmp_path: Path, flown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", "model/fusion/class_path", f"{CANARY}.Head")
    line = told_in_one_line(["test", option.format(run)], capsys)
    assert f"config.yaml: model.fusion is {CANARY}.Head" in line
    assert f"--trust {CANARY}" in line
    assert not flown.exists()
    # With trust, the way is free as far as the corpus, which isn't there.
    assert main(["test", option.format(run), f"--trust={CANARY}"]) == 2
    assert flown.exists()
    assert "--trust" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "load",
    [
        lambda run, **trust: ExpressionModule.load_from_checkpoint(
            run / "checkpoints" / "best.ckpt", **trust
        ),
        lambda run, **trust: ExpressionModule.load_from_checkpoint(
            (run / "checkpoints" / "best.ckpt").open("rb"), **trust
        ),
        lambda run, **trust: TrainedRun.load(run, **trust).model,
        lambda run, **trust: abaw.predict_video(run, "no.mp4", **trust),
    ],
)
@pytest.mark.parametrize(
    "hyper_parameters",
    [
        {"fusion": {"class_path": f"{CANARY}.Head", "init_args": {"visual_dim": 8}}},
        {"fusion": f"{CANARY}.Head"},
        {"loss": {"class_path": f"{CANARY}.Head"}},
        {"_class_path": f"{CANARY}.Head"},
        {"_instantiator": f"{CANARY}.make"},
    ],
)
def test_a_checkpoint_names_nothing_foreign(
    load: Callable[..., Any], hyper_parameters: dict[str, Any], tmp_path: Path, flown: Path
) -> None:
    run = write_run(tmp_path / "run", **hyper_parameters)
    with pytest.raises(InputError, match=rf'is {CANARY}\.\w+, .*trust=\["{CANARY}"\]'):
        load(run)
    assert not flown.exists()


def test_a_trusted_packages_classes_load(tmp_path: Path, flown: Path) -> None:
    arguments = {"visual_dim": 8, "audio_dim": 1, "num_classes": 8}
    run = write_run(tmp_path / "run", fusion={"class_path": f"{CANARY}.Head", "init_args": arguments})
    model = ExpressionModule.load_from_checkpoint(run / "checkpoints" / "best.ckpt", trust=[CANARY])
    assert type(model.fusion).__module__ == CANARY
    assert type(TrainedRun.load(run, [CANARY]).model.fusion).__name__ == "Head"
    assert flown.exists()


def test_hyper_parameters_of_a_file_are_held_to_the_same(tmp_path: Path, flown: Path) -> None:
    run = write_run(tmp_path / "run")
    hparams = tmp_path / "hparams.yaml"
    hparams.write_text(yaml.safe_dump({"fusion": {"class_path": f"{CANARY}.Head"}}))
    with pytest.raises(InputError, match=r"hparams\.yaml: fusion is canary"):
        ExpressionModule.load_from_checkpoint(run / "checkpoints" / "best.ckpt", hparams_file=hparams)
    assert not flown.exists()


@pytest.mark.parametrize(
    "name",
    [
        "abaw.recorded.functools.partial",  # what our modules import is not ours
        "abaw.callbacks.report.escape",
        "abaw.__main__.main",  # importing it would run the command
        "abaw.cli.main",
        "lightning.pytorch.loggers.csv_logs.os.system",
        "lightning.pytorch.cli.LightningCLI",
        "abaw_evil.Head",
        "torch.nn.Linear",
        "os.system",
    ],
)
def test_what_our_modules_only_lead_to_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"part is {name}, no part of abaw"):
        check_names({"part": {"class_path": name}}, "config.yaml")


def test_a_further_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "more").write_text(f"class_path: {CANARY}.Head")
    with pytest.raises(InputError, match=r"model.fusion is the file more; write its content"):
        check_names({"model": {"fusion": "more"}}, tmp_path / "config.yaml")


def test_what_runs_usually_name_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("predictions", "corpus"):  # folders that could be imported from, as namespaces
        (tmp_path / name / "v2").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    callbacks = ["EarlyStopping", "ModelCheckpoint", "LearningRateMonitor", "RichProgressBar"]
    tree = {
        "trainer": {
            "callbacks": [{"class_path": f"lightning.pytorch.callbacks.{name}"} for name in callbacks],
            "logger": {"class_path": "lightning.pytorch.loggers.TensorBoardLogger"},
            "strategy": {"class_path": "lightning.pytorch.strategies.DDPStrategy"},
            "plugins": ["lightning.pytorch.plugins.environments.SLURMEnvironment"],
            "default_root_dir": "runs.v2",
            "precision": "16-mixed",
        },
        "model": {
            "fusion": {"class_path": "abaw.fusion.DualBranchTransformer"},
            "loss": {"class_path": "FocalLoss", "init_args": {"alpha": "inverse"}},
            "visual_encoder": {"class_path": "HFVisualEncoder", "init_args": {"model_name": "corpus.v2"}},
        },
        "data": {"root": "corpus.v2", "template": "predictions.txt"},
    }
    check_names(tree, tmp_path / "config.yaml")


@pytest.mark.parametrize("encoder", [HFVisualEncoder, HFAudioEncoder])
@pytest.mark.parametrize(
    "overrides",
    [
        {"trust_remote_code": True},
        {"code_revision": "main"},
        {"auto_map": {"AutoConfig": "code.Config"}},
        {"custom_pipelines": {}},
        {"_attn_implementation": "sdpa"},
        {"attn_implementation": "somebody/kernel"},
        {"attn_implementation": {"": "somebody/kernel"}},
        {"vision_config": {"attn_implementation": "flash_attention_2"}},
        {"vision_config": {"_attn_implementation_internal": "somebody/kernel"}},
        {"experts_implementation": "somebody/kernel"},
        {"backbone_kwargs": {"trust_remote_code": True}},
        {"quantization_config": {"quant_method": "mxfp4"}},
        {"cache_dir": "/elsewhere"},
        {"token": "secret"},
    ],
)
def test_overrides_fetch_no_code(encoder: type, overrides: dict[str, Any], tmp_path: Path) -> None:
    for more in ({}, {"model_type": "beit"}):
        with pytest.raises(InputError, match=r"config_overrides: .*(tells how to load it|can fetch code)"):
            encoder(str(tmp_path), pretrained=False, config_overrides={**overrides, **more})


@pytest.mark.parametrize(
    "entries",
    [
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": "somebody/kernel"},
        {"quantization_config": {"quant_method": "mxfp4"}},
        {"model_type": "unheard_of", "auto_map": {"AutoConfig": f"{CANARY}.Head"}},
    ],
)
def test_a_folder_of_weights_brings_no_code(entries: dict[str, Any], tmp_path: Path, flown: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / f"{CANARY}.py").write_text(CODE)
    tiny = {"model_type": "beit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(tiny | entries))
    with pytest.raises(InputError) as caught:
        HFVisualEncoder(str(folder), pretrained=False)
    assert "fetch code" in str(caught.value) or "custom code" in str(caught.value)
    assert not list(tmp_path.rglob("*.flown"))
