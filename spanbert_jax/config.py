"""Configs at the door: ConfigDicts that command lines override become frozen dataclasses, and presets."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict, config_dict

from spanbert_jax.errors import UserError, did_you_mean
from spanbert_jax.training.config import PretrainConfig

Config = TypeVar("Config")

# Where the paper's text and its released code part ways; docs/presets.md explains each key. A preset names only the
# keys in which it differs from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "masking.anchor": "word",
        "masking.cut_words": False,
        "masking.random_tokens": "uniform",
    },
    "code": {
        "objective.sbo_denominator_offset": 1,
        "objective.renormalize_replicas": 32,
        "optimizer.weight_decay": 0.01,
        "optimizer.no_decay": (),
    },
}

# Keys that may differ when a work folder is resumed, because no result depends on them.
NEUTRAL_KEYS = (
    "mesh.",
    "training.log_every",
    "training.eval_every",
    "training.checkpoint_every",
    "training.profile_steps",
    "data.workers",
)


def default_config(cls: type[Any] = PretrainConfig) -> ConfigDict:
    """A locked ConfigDict with every key of a config dataclass at its default, for config files to change."""
    config = ConfigDict(_defaults(cls))
    config.lock()
    return config


def _defaults(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            values[field.name] = _defaults(typing.cast(type, hint))
        elif field.default is None:
            inner = next(part for part in typing.get_args(hint) if part is not types.NoneType)
            values[field.name] = config_dict.placeholder(inner)
        else:
            values[field.name] = field.default
    return values


def apply_preset(config: ConfigDict, preset: str) -> None:
    """Sets what a preset ("paper" or "code"; "" for none) sets.

    Raises:
      UserError: there is no such preset.
    """
    if not preset:
        return
    if preset not in PRESETS:
        raise UserError(f"--config: no preset {preset!r}{did_you_mean(preset, PRESETS)}; expected one of {[*PRESETS]}")
    config.update_from_flattened_dict(PRESETS[preset])


def from_config_dict(config: Mapping[str, Any], cls: type[Config], *, prefix: str = "") -> Config:
    """Builds a frozen dataclass from a ConfigDict, a plain dict, or JSON read back.

    Raises:
      UserError: a key that the dataclass lacks (with the nearest one), a value of the wrong type, or one that the
        dataclass refuses.
    """
    hints = typing.get_type_hints(cls)
    unknown = [key for key in config if key not in hints]
    if unknown:
        raise UserError(f"unknown config key {prefix}{unknown[0]}{did_you_mean(unknown[0], hints)}")
    values: dict[str, Any] = {}
    for key, value in config.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping | ConfigDict):
                raise UserError(f"config key {prefix}{key}={value!r}: expected a group of keys")
            values[key] = from_config_dict(value, typing.cast(type, hint), prefix=f"{prefix}{key}.")
        else:
            values[key] = _checked(value, hint, f"{prefix}{key}")
    return cls(**values)


def _checked(value: Any, hint: Any, name: str) -> Any:
    """`value` as the type `hint` asks for: lists become tuples, integers become floats, nothing else changes."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value in arguments:
            return value
        near = did_you_mean(str(value), map(str, arguments))
        raise UserError(f"config key {name}={value!r}{near}; expected one of {list(arguments)}")
    if origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_checked(item, arguments[0], name) for item in value)
    elif origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        return _checked(value, next(part for part in arguments if part is not types.NoneType), name)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"config key {name}={value!r}: expected {getattr(hint, '__name__', hint)}")


def to_json(config: Any) -> dict[str, Any]:
    """A config dataclass as a JSON-able dict."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def check_resumable(saved: Mapping[str, Any], given: Mapping[str, Any], *, workdir: str, extend: bool) -> None:
    """Refuses to go on in a work folder whose config would give other results.

    Args:
      saved: the folder's config.json.
      given: this run's config, JSON-able.
      workdir: named in the message.
      extend: whether `training.steps` may have grown.

    Raises:
      UserError: a key that changes results differs.
    """
    old, new = flatten(saved), flatten(given)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key) or key.startswith(NEUTRAL_KEYS):
            continue
        if key == "training.steps" and isinstance(old.get(key), int) and new[key] > old[key]:
            if extend:
                continue
            raise UserError(
                f"training.steps={new[key]}, but --workdir={workdir} was made for {old[key]}; add --extend to train "
                "further (its learning rate then follows the longer schedule), or use another --workdir"
            )
        raise UserError(
            f"{key}={new.get(key)!r}, but --workdir={workdir} was trained with {old.get(key)!r}; use another "
            "--workdir, or the same value"
        )
