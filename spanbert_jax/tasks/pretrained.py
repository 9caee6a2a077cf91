"""A pre-trained model as the tasks use it: parameters, configuration and tokenizer from one folder."""

import json
from typing import Any, NamedTuple

import jax
from etils import epath
from flax import nnx

from spanbert_jax.config import from_config_dict
from spanbert_jax.data.tokenizer import Tokenizer, load_tokenizer
from spanbert_jax.errors import UserError
from spanbert_jax.training.checkpoint import find_checkpoint, load_params
from spanbert_jax.training.config import PretrainConfig
from spanbert_jax.training.state import graph_definition, init_params


class Pretrained(NamedTuple):
    """What `load_pretrained` reads."""

    config: PretrainConfig
    graph_definition: nnx.GraphDef
    params: Any
    tokenizer: Tokenizer


def load_pretrained(path: epath.PathLike) -> Pretrained:
    """Loads a work folder, or one of the checkpoints in it.

    Raises:
      UserError: no model there, or a file of it is missing, broken or of another vocabulary.
    """
    checkpoint = find_checkpoint(path)
    workdir = checkpoint.parent.parent
    config_file = workdir / "config.json"
    if not config_file.exists():
        raise UserError(f"--model={path}: {config_file} is missing; expected a work folder that `pretrain` left")
    try:
        config = from_config_dict(json.loads(config_file.read_text()), PretrainConfig)
    except json.JSONDecodeError as error:
        raise UserError(f"--model={path}: {config_file} is not JSON ({error}); restore it") from None
    tokenizer = load_tokenizer(workdir)
    if tokenizer.vocab_size != config.model.vocab_size:
        raise UserError(
            f"--model={path}: its tokenizer has {tokenizer.vocab_size} pieces, but model.vocab_size="
            f"{config.model.vocab_size}; restore the tokenizer that the model was trained with"
        )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        jax.eval_shape(lambda: init_params(config.model, 0)),
    )
    return Pretrained(config, graph_definition(config.model), load_params(checkpoint, shapes), tokenizer)
