"""Tests of export.py and tfjs.py that need no download."""

import contextlib
import io
import os
import pathlib
import tempfile
import unittest
from unittest.mock import ANY

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import export
import tfjs


def write_frozen_graph(path, size=8, classes=4):
    """Writes a graph whose scores depend only on an image's colours. Like inception5h it has two Softmax operations."""
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], name="input")
        colour = tf.reduce_mean(images, [1, 2]) / 100
        tf.nn.softmax(colour, name="softmax0")
        weights = tf.constant(np.arange(3 * classes).reshape(3, classes) % 5, tf.float32)
        tf.nn.softmax(tf.matmul(colour, weights), name="softmax1")
    pathlib.Path(path).write_bytes(graph.as_graph_def().SerializeToString())


class FrozenGraph(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.graph, self.labels, self.out = self.folder / "graph.pb", self.folder / "labels.txt", self.folder / "model"
        write_frozen_graph(self.graph)
        self.labels.write_text("red\ngreen\nblue\nblack cat\n")

    def run_export(self, *arguments):
        """Returns the exit code and the text on standard error."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            command = ["--out", str(self.out), "--weights", str(self.graph), "--labels", str(self.labels), *arguments]
            return export.main(command), said.getvalue()

    def test_layout_and_answers(self):
        self.assertEqual(self.run_export("--version", "3"), (0, ANY))
        self.assertEqual(self.run_export(), (0, ANY))
        self.assertEqual(sorted(os.listdir(self.out)), ["3", "4"], "the next free version, and nothing temporary")

        version = self.out / "4"
        self.assertEqual((version / "assets/labels.txt").read_text(), self.labels.read_text())
        settings = (version / "assets.extra/inceptor.yaml").read_text()
        for line in ("size: [8, 8]", "scale: 1.0", "offset: -117.0", "align_corners: false", "top_k: 4"):
            self.assertIn(line, settings)

        model = tf.saved_model.load(str(version))
        picture = np.zeros((40, 60, 3), np.uint8) + np.array([250, 120, 10], np.uint8)
        pixels = (np.zeros((2, 8, 8, 3)) + [250, 120, 10] - 117).astype(np.float32)
        expected = np.array(pixels[0, 0, 0] / 100) @ (np.arange(12).reshape(3, 4) % 5)
        expected = np.exp(expected) / np.exp(expected).sum()
        png = tf.io.encode_png(picture)
        answers = {
            "serving_default": model.signatures["serving_default"](images=tf.constant(pixels)),
            "serving_bytes": model.signatures["serving_bytes"](image_bytes=tf.stack([png, png])),
        }
        for name, answer in answers.items():
            with self.subTest(name):
                np.testing.assert_allclose(answer["scores"], [expected, expected], rtol=1e-4)

    def test_warmup(self):
        self.run_export()
        file = self.out / "1/assets.extra/tf_serving_warmup_requests"
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
        self.assertEqual(len(records), 2)
        for record, name in zip(records, (b"serving_default", b"serving_bytes")):
            self.assertEqual(record[0], 6 << 3 | 2, "PredictionLog.predict_log")
            self.assertIn(name, record)

    def test_preprocessing_options(self):
        self.run_export("--resize", "area", "--scale", "0.5", "--offset", "-1", "--align-corners")
        settings = (self.out / "1/assets.extra/inceptor.yaml").read_text()
        for line in ("resize: area", "scale: 0.5", "offset: -1.0", "align_corners: true"):
            self.assertIn(line, settings)
        self.assertNotIn("half_pixel_centers", settings)

    def test_fewer_labels_than_scores(self):
        self.labels.write_text("red\ngreen\n")
        self.run_export()
        self.assertEqual((self.out / "1/assets/labels.txt").read_text(), "red\ngreen\nclass 2\nclass 3\n")

    def test_refusals(self):
        self.run_export("--version", "1")
        cases = {
            "versions are never changed": ["--version", "1"],
            "has no such operation": ["--input", "nowhere"],
            "exclude each other": ["--align-corners", "--half-pixel-centers"],
        }
        for message, arguments in cases.items():
            with self.subTest(message):
                code, said = self.run_export(*arguments)
                self.assertEqual(code, 1)
                self.assertIn(message, said)
        self.labels.write_text("one\n" * 5)
        code, said = self.run_export()
        self.assertIn("5 labels", said)
        self.graph.write_bytes(b"\xff\xff not a graph")
        code, said = self.run_export()
        self.assertIn("is not a frozen graph", said)
        self.assertEqual(os.listdir(self.out), ["1"], "a failed export leaves nothing")

    def test_a_version_that_does_not_answer_is_not_published(self):
        nan = export.Classifier(lambda images: images[:, 0, 0, :] * np.nan, ["a", "b", "c"], export.Preprocess(4, 4), {})
        short = export.Classifier(lambda images: images[:, 0, 0, :], ["a", "b"], export.Preprocess(4, 4), {})
        for classifier in (nan, short):
            with self.assertRaises(export.ExportError):
                export.export(classifier, self.out)
        self.assertEqual(os.listdir(self.out), [])


class Package(unittest.TestCase):
    def test_literal(self):
        source = '{a:!0,$b_1:[!1,null,-.5,.25,1.5,8e-7,"c:!0,d:.5","\\"e:"],"f":{}}'
        expected = {"a": True, "$b_1": [False, None, -0.5, 0.25, 1.5, 8e-7, "c:!0,d:.5", '"e:'], "f": {}}
        self.assertEqual(tfjs.parse_literal(source), expected)

    def test_dequantize(self):
        entry = {"name": "k", "shape": [1, 2], "quantization": {"min": -1.0, "scale": 0.5, "dtype": "uint8"}}
        np.testing.assert_array_equal(tfjs.dequantize([entry], bytes([0, 4]))["k"], [[-1.0, 1.0]])
        for data in (bytes(1), bytes(3)):
            with self.subTest(len(data)), self.assertRaises(tfjs.ModelError):
                tfjs.dequantize([entry], data)

    def test_checksum(self):
        with tempfile.NamedTemporaryFile(suffix=".tgz") as file, self.assertRaisesRegex(tfjs.ModelError, "sha256"):
            tfjs.read_package(file.name, export.PACKAGE_MODEL, export.PACKAGE_SHA256)


if __name__ == "__main__":
    unittest.main()
