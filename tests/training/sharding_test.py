import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from spanbert_jax.errors import UserError
from spanbert_jax.model.config import ModelConfig
from spanbert_jax.training.optimizer import path_name
from spanbert_jax.training.sharding import (
    AXES,
    MeshConfig,
    batch_groups,
    check_batch_size,
    initialize_processes,
    make_mesh,
    param_shardings,
)
from spanbert_jax.training.state import init_params
from tests.training import problem


def specs(model):
    shapes = jax.eval_shape(lambda: init_params(model, 0))
    shardings = param_shardings(shapes, make_mesh(MeshConfig(), jax.devices()[:1]))
    return {path_name(path): leaf.spec for path, leaf in jax.tree_util.tree_leaves_with_path(shardings)}


@pytest.mark.parametrize("normalization", ["post", "pre"])
def test_the_table_places_every_parameter(normalization):
    found = specs(ModelConfig(normalization=normalization))
    assert found["encoder/embeddings/word/embedding"] == PartitionSpec("tensor", "fsdp")
    assert found["encoder/layers/qkv/kernel"] == PartitionSpec(None, "fsdp", None, "tensor", None)
    large = {name for name, spec in found.items() if spec == PartitionSpec()}
    assert all(name.endswith(("bias", "scale", "sbo/position/embedding")) for name in large)


def test_a_parameter_outside_the_table_is_an_error():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.raises(ValueError, match="no pattern of the sharding table matches the parameter stray/kernel"):
        param_shardings({"stray": {"kernel": np.zeros((2, 2))}}, mesh)


class _FakeMesh:
    def __init__(self, data, fsdp, tensor):
        self.shape = {"data": data, "fsdp": fsdp, "tensor": tensor}


def test_a_size_that_its_axis_does_not_divide_is_named():
    shapes = jax.eval_shape(lambda: init_params(problem.MODEL, 0))
    with pytest.raises(UserError, match=r"mesh.tensor=3 does not divide the size \d+ in encoder/"):
        param_shardings(shapes, AbstractMesh((1, 1, 3), AXES))


def test_a_size_split_by_two_axes_needs_their_product():
    shapes = {"mlm": {"transform": {"dense": {"kernel": np.zeros((24, 24))}}}}
    with pytest.raises(UserError, match="mesh.fsdp=4 x mesh.tensor=4 does not divide the size 24 in mlm/transform/"):
        param_shardings(shapes, AbstractMesh((1, 4, 4), AXES))


@pytest.mark.parametrize("variables", [{}, {"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}])
def test_half_a_set_of_process_variables_is_refused(monkeypatch, variables):
    for name, value in {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES and JAX_PROCESS_ID are not two numbers"):
        initialize_processes()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(data=4), "mesh.data=4 mesh.fsdp=1 mesh.tensor=1 needs 4 devices, but there are 1"),
        (MeshConfig(fsdp=2), "needs 2 devices, but there are 1"),
        (MeshConfig(data=0), "expected positive sizes"),
        (MeshConfig(tensor=-1), "expected positive sizes"),
    ],
)
def test_impossible_meshes_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        make_mesh(config, jax.devices()[:1])


def test_the_batch_must_divide_over_rows_and_parts():
    check_batch_size(16, 2, _FakeMesh(4, 2, 8))
    with pytest.raises(UserError, match="data.batch_size=12 is not divisible .* = 4 x 2 x 1; choose a multiple of 8"):
        check_batch_size(12, 1, _FakeMesh(4, 2, 1))


class _Device:
    def __init__(self, process_index):
        self.process_index = process_index


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        # device -> process, as [data * fsdp, tensor]; this process is 0
        ([[0], [0]], (0, 1)),
        ([[0], [1]], (0, 2)),
        ([[1], [1], [0], [0]], (1, 2)),
        ([[0, 1], [0, 1]], (0, 1)),  # both processes hold all rows
        ([[0, 0], [1, 1]], (0, 2)),
    ],
)
def test_processes_that_hold_the_same_rows_are_of_one_group(processes, expected):
    mesh = _FakeMesh(len(processes), 1, len(processes[0]))
    mesh.devices = np.array([[_Device(process) for process in row] for row in processes])
    assert batch_groups(mesh) == expected


def test_scattered_rows_are_refused():
    mesh = _FakeMesh(4, 1, 1)
    mesh.devices = np.array([[_Device(process)] for process in (0, 1, 0, 1)])
    with pytest.raises(UserError, match=r"gives process 0 the batch shards \[0, 2\]"):
        batch_groups(mesh)
