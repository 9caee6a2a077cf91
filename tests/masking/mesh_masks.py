"""Masks rows on a 2x2x2 mesh and prints what the test compares; run in a process with 8 devices."""

import json
import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from spanbert_jax.masking import mask_batch
from tests.masking import rows


def main() -> None:
    vocabulary = rows.make_vocabulary()
    tokens, segments = rows.make_rows(rows.random_blocks(rows.BATCH_SIZE, rows.LENGTH), rows.LENGTH, vocabulary)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    by_row = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    everywhere = NamedSharding(mesh, PartitionSpec())
    shardings = (everywhere, by_row, by_row, everywhere, by_row)
    arguments = (jax.random.key(0), tokens, segments, rows.as_arrays(vocabulary), rows.NUMBERS)
    step = jax.jit(
        lambda key, tokens, segments, vocabulary, numbers: mask_batch(
            key, tokens, segments, vocabulary, rows.DEFAULT, rows=numbers
        ),
        in_shardings=shardings,
        out_shardings=by_row,
    )
    compiled = step.lower(*arguments).compile()
    masked = compiled(*jax.device_put(arguments, shardings))
    collectives = re.findall(r"= (\S+ (?:all-|collective-|reduce-scatter)[a-z-]*)", compiled.as_text())
    report = {
        "devices": len(masked.inputs.sharding.device_set),
        "collectives": collectives,
        "digest": rows.digest(masked),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
