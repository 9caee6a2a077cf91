import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from spanbert_jax.data import tfds_text
from spanbert_jax.errors import UserError


class TinyText(tfds.core.GeneratorBasedBuilder):
    """Five documents with a text feature and two others."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "body": tfds.features.Text(),
            "title": tfds.features.Text(),
            "id": tfds.features.ClassLabel(num_classes=9),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            yield i, {"body": f"Document {i} is naïve. It ends.", "title": "T", "id": i}


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    TinyText(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_texts_of_a_prepared_split(data_folder):
    spec = f"tiny_text:train@{data_folder}"
    assert len(tfds_text.open_split(spec)) == 5
    tfds_text.check_text(spec, "body")
    texts = list(tfds_text.read_texts(spec, "body", 0, 5))
    assert sorted(texts) == [f"Document {i} is naïve. It ends." for i in range(5)]
    assert list(tfds_text.read_texts(spec, "body", 1, 3)) == texts[1:3]
    assert list(tfds_text.read_texts(f"tiny_text:train[:2]@{data_folder}", "body", 0, 2)) == texts[:2]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("a:train", ("a", "train", None)),
        ("a/b:train[:10%]@/x/y", ("a/b", "train[:10%]", "/x/y")),
        ("a/b:1.0.*:train@gs://x/y", ("a/b:1.0.*", "train", "gs://x/y")),
    ],
)
def test_specs(spec, expected):
    assert tfds_text.parse_spec(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tiny_text", "expected tfds:NAME:SPLIT"),
        ("tiny_text:test@FOLDER", "Unknown split 'test'"),
        ("tiny_texts:train@FOLDER", "no dataset 'tiny_texts' is known or prepared in"),
        ("ag_news_subste:train@FOLDER", r"did you mean ag_news_subset\?"),
        ("ag_news_subset:train@FOLDER", "ag_news_subset is not prepared as array_record; prepare it by python -c"),
        ("bad name:train@FOLDER", "Parsing builder name string bad name failed"),
    ],
)
def test_datasets_that_cannot_be_read_are_told(data_folder, tmp_path, spec, message):
    folder = data_folder if "tiny" in spec else tmp_path
    with pytest.raises(UserError, match=message) as raised:
        tfds_text.open_split(spec.replace("FOLDER", str(folder)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("field", ["text", "id"])
def test_features_that_hold_no_text_are_told(data_folder, field):
    with pytest.raises(UserError, match=f"no text feature '{field}'.*body, title"):
        tfds_text.check_text(f"tiny_text:train@{data_folder}", field)


def test_another_process_reads_it_without_tensorflow(data_folder):
    code = (
        "import sys; from spanbert_jax.data.corpus import open_corpus; "
        f"corpus = open_corpus('tfds:tiny_text:train@{data_folder}', text_field='body'); "
        "print(len(list(corpus)), 'tensorflow' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.split() == ["5", "False"]
