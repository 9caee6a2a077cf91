"""The device mesh, and the one table that says how every parameter lies on it."""

import dataclasses
import glob
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from spanbert_jax.errors import UserError
from spanbert_jax.model.layers import BATCH_AXES
from spanbert_jax.training.optimizer import path_name

AXES = ("data", "fsdp", "tensor")

# Path pattern -> PartitionSpec. `fsdp` shards storage, `tensor` splits heads, feed-forward and vocabulary; parameters
# under encoder/layers lead with the layer axis. The first pattern that matches a whole path decides.
TABLE: tuple[tuple[str, PartitionSpec], ...] = (
    (r"encoder/embeddings/word/embedding", PartitionSpec("tensor", "fsdp")),
    (r"encoder/embeddings/(position|type)/embedding", PartitionSpec(None, "fsdp")),
    (r"encoder/layers/qkv/kernel", PartitionSpec(None, "fsdp", None, "tensor", None)),
    (r"encoder/layers/qkv/bias", PartitionSpec(None, None, "tensor", None)),
    (r"encoder/layers/attention_output/kernel", PartitionSpec(None, "tensor", None, "fsdp")),
    (r"encoder/layers/feed_forward_inner/kernel", PartitionSpec(None, "fsdp", "tensor")),
    (r"encoder/layers/feed_forward_inner/bias", PartitionSpec(None, "tensor")),
    (r"encoder/layers/feed_forward_outer/kernel", PartitionSpec(None, "tensor", "fsdp")),
    (r"encoder/layers/(attention_output|feed_forward_outer)/bias", PartitionSpec()),
    (r"(mlm/transform|sbo/first|sbo/second)/dense/kernel", PartitionSpec(None, ("fsdp", "tensor"))),
    (r"(mlm/transform|sbo/first|sbo/second)/dense/bias", PartitionSpec()),
    (r"(mlm|sbo)/bias", PartitionSpec("tensor")),
    (r"sbo/position/embedding", PartitionSpec()),
    (r".*norm/(scale|bias)", PartitionSpec()),
)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis.

    Attributes:
      data: copies of the model, each with its own rows; -1 takes the devices that the other axes leave.
      fsdp: shards of parameters and optimizer state, each with its own rows too.
      tensor: shards of heads, feed-forward and vocabulary, which share their rows.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def initialize_processes() -> None:
    """Joins the processes of one run, where the environment says that there may be several.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID name them outright; on TPU VMs, under Slurm's `srun`
    and under MPI, JAX itself finds them. With none of these the run has one process.

    Raises:
      UserError: one of the three variables is missing or not a number.
    """
    environment = os.environ
    if "JAX_COORDINATOR_ADDRESS" in environment:
        try:
            processes, process = int(environment["JAX_NUM_PROCESSES"]), int(environment["JAX_PROCESS_ID"])
        except (KeyError, ValueError) as error:
            raise UserError(
                "JAX_COORDINATOR_ADDRESS is set, but JAX_NUM_PROCESSES and JAX_PROCESS_ID are not two numbers "
                f"({error}); set all three, or none"
            ) from None
        jax.distributed.initialize(environment["JAX_COORDINATOR_ADDRESS"], processes, process)
        return
    on_tpu_vm = importlib.util.find_spec("libtpu") and (glob.glob("/dev/accel*") or glob.glob("/dev/vfio/*"))
    under_slurm = "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1
    if on_tpu_vm or under_slurm or int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        jax.distributed.initialize()


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays devices out as (data, fsdp, tensor).

    Raises:
      UserError: the axes need more devices than there are, or leave some process without one.
    """
    devices = jax.devices() if devices is None else devices
    if config.fsdp < 1 or config.tensor < 1 or config.data == 0 or config.data < -1:
        raise UserError(
            f"mesh.data={config.data} mesh.fsdp={config.fsdp} mesh.tensor={config.tensor}: expected positive sizes "
            "(mesh.data may be -1, the remaining devices)"
        )
    given = f"mesh.data={config.data} mesh.fsdp={config.fsdp} mesh.tensor={config.tensor}"
    data = len(devices) // (config.fsdp * config.tensor) if config.data == -1 else config.data
    shape = (data, config.fsdp, config.tensor)
    needed = math.prod(shape)
    if needed == 0 or needed > len(devices):
        needed = needed or config.fsdp * config.tensor
        raise UserError(f"{given} needs {needed} devices, but there are {len(devices)}; make the mesh smaller")
    if needed < len(devices) and (config.data == -1 or jax.process_count() > 1):
        raise UserError(f"{given} uses {needed} of {len(devices)} devices; choose sizes whose product is all of them")
    axis_types = (AxisType.Auto,) * len(AXES)
    if jax.process_count() == 1:
        return jax.make_mesh(shape, AXES, axis_types=axis_types, devices=devices[:needed])
    # In the order of processes, so that each holds consecutive rows of the batch, as its loader reads them.
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered).reshape(shape), AXES, axis_types=axis_types)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the batch axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, accumulation_steps: int, mesh: Mesh) -> None:
    """Raises UserError unless every device group gets the same number of rows in every accumulation step."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size < 1 or batch_size % (shards * accumulation_steps):
        raise UserError(
            f"data.batch_size={batch_size} is not divisible by mesh.data x mesh.fsdp x optimizer.accumulation_steps = "
            f"{mesh.shape['data']} x {mesh.shape['fsdp']} x {accumulation_steps}; choose a multiple of "
            f"{shards * accumulation_steps}"
        )


def param_shardings(params: Any, mesh: Mesh) -> Any:
    """The sharding of each parameter, by the table.

    Args:
      params: nested dict of arrays or shapes.
      mesh: the device mesh.

    Raises:
      ValueError: a parameter that no pattern matches.
      UserError: a size that its mesh axes do not divide.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = path_name(path)
        spec = next((spec for pattern, spec in TABLE if re.fullmatch(pattern, name)), None)
        if spec is None:
            raise ValueError(f"no pattern of the sharding table matches the parameter {name}")
        for size, axes in zip(leaf.shape, spec, strict=False):
            split = (axes,) if isinstance(axes, str) else axes or ()
            if size % math.prod(mesh.shape[axis] for axis in split):
                given = " x ".join(f"mesh.{axis}={mesh.shape[axis]}" for axis in split)
                raise UserError(
                    f"{given} does not divide the size {size} in {name} {tuple(leaf.shape)}; choose a divisor of it"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(sharding, params)


def batch_groups(mesh: Mesh) -> tuple[int, int]:
    """(group, groups): which share of each batch's rows this process holds, in the order of rows, and of how many.

    Processes that hold the same rows (those that split a tensor axis) are of one group.

    Raises:
      UserError: the processes' rows do not form equal consecutive groups.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = {
        process: {int(row) for row in np.argwhere(owners == process)[:, 0]}
        for owners in [np.vectorize(lambda device: device.process_index)(mesh.devices.reshape(shards, -1))]
        for process in np.unique(owners)
    }
    mine = sorted(rows[jax.process_index()])
    groups, remainder = divmod(shards, len(mine))
    consecutive = mine == list(range(mine[0], mine[0] + len(mine)))
    if remainder or not consecutive or mine[0] % len(mine):
        raise UserError(
            f"mesh {dict(mesh.shape)} gives process {jax.process_index()} the batch shards {mine}; choose mesh sizes "
            "that give every process consecutive, equal shares"
        )
    return mine[0] // len(mine), groups


def to_global(batch: Any, batch_size: int, mesh: Mesh) -> Any:
    """Global arrays [B, ...] over the batch axes from this process's rows of each array."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x), (batch_size, *x.shape[1:])), batch
    )
