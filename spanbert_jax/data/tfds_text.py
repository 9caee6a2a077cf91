"""Text out of TensorFlow Datasets that lie prepared on disk, without TensorFlow."""

import functools
import os
import re
from collections.abc import Iterator
from typing import Any

from spanbert_jax.errors import UserError, did_you_mean

_SPEC = re.compile(r"(?P<name>[^:@]+(?::\d[\d.*]*)?):(?P<split>[^@]+)(?:@(?P<folder>.+))?")


def parse_spec(spec: str) -> tuple[str, str, str | None]:
    """Name (with config and version), split and data folder of "NAME:SPLIT" or "NAME:SPLIT@DATA_DIR"."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(
            f"--input=tfds:{spec}: expected tfds:NAME:SPLIT or tfds:NAME:SPLIT@DATA_DIR, as tfds:ag_news_subset:train"
        )
    return match["name"], match["split"], match["folder"]


@functools.lru_cache(maxsize=4)
def open_split(spec: str) -> Any:
    """A random-access sequence of the split's examples; raises UserError when it is not prepared or is unknown."""
    name, split, folder = parse_spec(spec)
    import tensorflow_datasets as tfds  # here, since it takes a second that other corpora need not spend

    prepare = (
        f'prepare it by python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, '
        f"data_dir={folder!r}, file_format='array_record').download_and_prepare()\""
    )
    try:
        return tfds.data_source(name, split=split, data_dir=folder and os.path.expanduser(folder), download=False)
    except tfds.core.registered.DatasetNotFoundError as error:
        where = f" in {folder}" if folder else ""
        near = did_you_mean(name, tfds.list_builders(with_community_datasets=False))
        raise UserError(f"--input=tfds:{spec}: no dataset {name!r} is known or prepared{where}{near}") from error
    except (NotImplementedError, AssertionError, FileNotFoundError) as error:
        raise UserError(f"--input=tfds:{spec}: {name} is not prepared as array_record; {prepare}") from error
    except Exception as error:  # TFDS raises whatever its parts raise: bad names, splits, configs, files
        raise UserError(f"--input=tfds:{spec}: {' '.join(str(error).split())[:300]}") from error


def check_text(spec: str, text_field: str) -> None:
    """Raises UserError unless the dataset has a text feature of that name."""
    import tensorflow_datasets as tfds

    features = open_split(spec).dataset_info.features
    names = [name for name in features if isinstance(features[name], tfds.features.Text)]
    if text_field not in names:
        raise UserError(
            f"--input=tfds:{spec}: no text feature {text_field!r}{did_you_mean(text_field, names)}; "
            f"--text_field names one of {', '.join(names) or 'none: the dataset has no text'}"
        )


def read_texts(spec: str, text_field: str, start: int, stop: int) -> Iterator[str]:
    """Texts of examples start..stop-1; raises UserError for bytes that are not UTF-8."""
    examples = open_split(spec)
    for index in range(start, stop):
        try:
            yield examples[index][text_field].decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"tfds:{spec}, example {index}: {text_field!r} is not UTF-8") from error
