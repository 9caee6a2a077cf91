import importlib.util
import json
from pathlib import Path

import pytest

from spanbert_jax.config import (
    PRESETS,
    apply_preset,
    check_resumable,
    default_config,
    flatten,
    from_config_dict,
    to_json,
)
from spanbert_jax.errors import UserError
from spanbert_jax.masking import MaskingConfig
from spanbert_jax.training.config import PretrainConfig

CONFIGS = sorted((Path(__file__).parents[1] / "configs" / "pretrain").glob("*.py"))


def load(path, *preset):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*preset)


def complete(**changes):
    config = default_config()
    config.data.sources = ("rows",)
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_builds_and_says_how_to_run_it(path):
    config = load(path)
    if not config.data.sources:
        config.data.sources = ("rows",)
    assert from_config_dict(config, PretrainConfig).training.steps == config.training.steps
    assert "python -m spanbert_jax.pretrain --config=configs/pretrain/" in path.read_text()


def test_quickstart_finds_its_rows_beside_the_repository_wherever_it_is_started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = load(next(path for path in CONFIGS if path.stem == "quickstart"))
    assert config.data.sources == (str(CONFIGS[0].parents[2] / "runs" / "quickstart-data"),)


def test_defaults_of_the_dict_are_those_of_the_dataclasses():
    assert from_config_dict(complete(), PretrainConfig).masking == MaskingConfig()


def test_json_comes_back_as_the_same_config():
    config = from_config_dict(complete(**{"masking.max_mask_rate": 0.4, "data.weights": (1.0,)}), PretrainConfig)
    assert from_config_dict(json.loads(json.dumps(to_json(config))), PretrainConfig) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_change_what_they_name_and_nothing_else(preset):
    config = complete()
    apply_preset(config, preset)
    before = flatten(to_json(from_config_dict(complete(), PretrainConfig)))
    after = flatten(to_json(from_config_dict(config, PretrainConfig)))
    assert {key for key in before if before[key] != after[key]} == PRESETS[preset].keys()


def test_an_unknown_preset_is_refused():
    with pytest.raises(UserError, match="no preset 'papre' \\(did you mean paper\\?\\)"):
        apply_preset(complete(), "papre")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modle": {}}, r"unknown config key modle \(did you mean model\?\)"),
        ({"model": {"num_layer": 2}}, r"unknown config key model.num_layer \(did you mean num_layers\?\)"),
        ({"model": 3}, "config key model=3: expected a group of keys"),
        ({"model": {"num_layers": 2.5}}, "config key model.num_layers=2.5: expected int"),
        ({"model": {"num_layers": True}}, "config key model.num_layers=True: expected int"),
        ({"model": {"remat": "ful"}}, r"config key model.remat='ful' \(did you mean full\?\)"),
        ({"data": {"sources": "rows"}}, "config key data.sources='rows': expected"),
        ({"masking": {"max_span_targets": 16}}, "masking.max_span_targets=16 exceeds model.num_span_positions=15"),
        ({"data": {"sources": ["rows"], "length": 1024}}, "data.length=1024 exceeds model.max_positions=512"),
        ({"data": {}}, "data.sources is empty"),
    ],
)
def test_mistakes_are_named(config, message):
    with pytest.raises(UserError, match=message):
        from_config_dict({"data": {"sources": ["rows"]}} | config, PretrainConfig)


SAVED = {"training": {"steps": 10, "seed": 0, "log_every": 5}, "mesh": {"data": 1}}


@pytest.mark.parametrize(
    ("change", "extend", "message"),
    [
        ({"training": {"steps": 10, "seed": 0, "log_every": 1}, "mesh": {"data": 8}}, False, None),
        ({"training": {"steps": 20, "seed": 0, "log_every": 5}}, True, None),
        ({"training": {"steps": 20, "seed": 0, "log_every": 5}}, False, "add --extend"),
        ({"training": {"steps": 5, "seed": 0, "log_every": 5}}, True, "training.steps=5, but --workdir=W was trained"),
        ({"training": {"steps": 10, "seed": 1, "log_every": 5}}, True, "training.seed=1, but --workdir=W was trained"),
    ],
)
def test_only_keys_that_change_no_result_may_differ_on_resume(change, extend, message):
    if message is None:
        check_resumable(SAVED, SAVED | change, workdir="W", extend=extend)
    else:
        with pytest.raises(UserError, match=message):
            check_resumable(SAVED, SAVED | change, workdir="W", extend=extend)
