"""Models of rows of numbers: TensorFlow Serving's test models, MNIST, and each type of number."""

import numpy as np
import tensorflow as tf

from answers import Reading
from graphs import CLASSIFY, build, signature, tf1, words, write
from registry import model, models

REGRESS = "tensorflow/serving/regress"
XS = tuple({"x": [x]} for x in (1.0, -3.5, 40.0))


def half_plus(directory, device=None, asset=False, main_op=False, add=2.0, shape=(None,)):
    """y = x / 2 + 2, as TensorFlow Serving's tests have it: Predict, Classify and Regress of one network."""

    def make():
        with tf1.device(device):
            a, b = tf1.get_variable("a", initializer=0.5), tf1.get_variable("b", initializer=add)
        examples = tf1.placeholder(tf.string, shape, name="tf_example")
        x = tf.identity(tf1.parse_example(examples, {"x": tf1.FixedLenFeature([1], tf.float32)})["x"], name="x")
        y = tf.add(tf.multiply(a, x), b, name="y")
        signatures = {
            "serving_default": signature({"x": x}, {"y": y}),
            "regress_x_to_y": signature({"inputs": examples}, {"outputs": y}, REGRESS),
            "classify_x_to_y": signature({"inputs": examples}, {"scores": y}, CLASSIFY),
        }
        return signatures, {"main_op": tf.group(tf1.tables_initializer())} if main_op else {}

    build(directory, make, config=tf1.ConfigProto(allow_soft_placement=True))
    if asset:
        write(directory, {"assets/foo.txt": "asset-file-contents"})


HALF = {
    "predict": Reading(takes="row", rows=XS, scores="", outputs=("y",)),
    "regress": Reading(signature="regress_x_to_y", input="inputs", takes="example", rows=XS, scores="", outputs=("outputs",)),
    "classify": Reading(signature="classify_x_to_y", input="inputs", takes="example", rows=XS, scores="", outputs=("scores",)),
}
models(half_plus, HALF, half_plus_two={"asset": True}, half_plus_two_main_op={"main_op": True}, half_plus_two_gpu={"device": "/gpu:0"},
       half_plus_three={"add": 3.0, "shape": None})


@model(default=Reading(takes="row", rows=XS, scores="", outputs=("y",), modern=True))
def half_plus_two_tf2(directory):
    """The same of TensorFlow 2."""

    class Half(tf.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = tf.Variable(0.5), tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
        def serve(self, x):
            return {"y": self.a * x + self.b}

    served = Half()
    tf.saved_model.save(served, str(directory), signatures=served.serve)


@model(default=Reading(takes="row", rows=tuple({"x": (np.arange(9).reshape(3, 3) * s).tolist()} for s in (1.0, -2.0)), scores="", outputs=("y",)))
def matrix_half_plus_two(directory):
    """A matrix of a matrix, of TensorFlow Serving's tests."""

    def make():
        x = tf1.placeholder(tf.float32, [None, 3, 3], name="x")
        y = tf1.get_variable("a", initializer=0.5) * x + tf1.get_variable("b", initializer=2.0)
        return {"serving_default": signature({"x": x}, {"y": y})}

    build(directory, make)


def digits():
    random = np.random.RandomState(5)
    return [np.round(random.uniform(0, 1, 784), 3) for _ in range(3)]


@model(
    predict=Reading(signature="predict_images", takes="row", rows=tuple({"images": d.tolist()} for d in digits()), scores="", outputs=("scores",)),
    classify=Reading(input="inputs", takes="example", rows=tuple({"x": d.tolist()} for d in digits()), classes="classes"),
)
def mnist(directory):
    """TensorFlow Serving's first example: flat digits, and tf.Examples of them."""

    def make():
        examples = tf1.placeholder(tf.string, [None], name="tf_example")
        x = tf.identity(tf1.parse_example(examples, {"x": tf1.FixedLenFeature([784], tf.float32)})["x"], name="x")
        w = tf1.get_variable("w", [784, 10], initializer=tf1.random_normal_initializer(stddev=0.1, seed=1))
        y = tf.nn.softmax(tf.matmul(x, w) + tf1.get_variable("b", [10], initializer=tf1.zeros_initializer()), name="y")
        values, indices = tf.nn.top_k(y, 10)
        classes = words([str(i) for i in range(10)]).lookup(tf.cast(indices, tf.int64))
        signatures = {
            "predict_images": signature({"images": x}, {"scores": y}),
            "serving_default": signature({"inputs": examples}, {"classes": classes, "scores": values}, CLASSIFY),
        }
        return signatures, {"main_op": tf1.tables_initializer()}

    build(directory, make)


def numbers(directory, dtypes, batch=None):
    """One input of each type, [N, 2], and what comes of them all."""

    def make():
        inputs = {f"a_{tf.as_dtype(dtype).name}": tf1.placeholder(dtype, [batch, 2]) for dtype in dtypes}
        x = tf.concat([tf.cast(a, tf.float32) for a in inputs.values()], 1)
        w = tf1.get_variable("w", [2 * len(dtypes), 3], initializer=tf1.random_normal_initializer(stddev=0.1, seed=1))
        return {"serving_default": signature(inputs, {"scores": tf.nn.softmax(tf.matmul(x, w))})}

    build(directory, make)


FLOATS = tf.float16, tf.bfloat16, tf.float64
WHOLE = tf.int8, tf.int16, tf.int32, tf.int64
NATURAL = tf.uint8, tf.uint16, tf.uint32, tf.uint64


def numbered(dtypes, *pairs, batch=0):
    rows = tuple({f"a_{tf.as_dtype(dtype).name}": list(pair) for dtype in dtypes} for pair in pairs)
    return {"default": Reading(takes="row", rows=rows, scores="", outputs=("scores",), batch=batch)}


models(numbers, numbered(FLOATS, (0.5, -3), (7.25, 2)), rows_float={"dtypes": FLOATS})
models(numbers, numbered(WHOLE, (5, -3), (-7, 2)), rows_int={"dtypes": WHOLE})
models(numbers, numbered(NATURAL, (5, 3), (7, 20)), rows_uint={"dtypes": NATURAL})
models(numbers, numbered([tf.float32], (0.5, -3), (7.25, 2), (1, -9), batch=4), rows_batch4={"dtypes": [tf.float32], "batch": 4})


TITLES = tuple({"text": [text]} for text in ("a cat sat on the mat", "stocks fell again today", "the quick brown fox"))


@model(default=Reading(takes="row", rows=TITLES, scores="", outputs=("scores",)))
def text_column(directory):
    """Texts in a column, [N, 1], as Keras' TextVectorization takes them."""

    def make():
        texts = tf1.placeholder(tf.string, [None, 1], name="text")
        buckets = tf.strings.to_hash_bucket_fast(texts[:, 0], 100)
        table = tf1.get_variable("embeddings", [100, 10], initializer=tf1.random_normal_initializer(stddev=2.0, seed=1))
        return {"serving_default": signature({"text": texts}, {"scores": tf.nn.softmax(tf.gather(table, buckets))})}

    build(directory, make)
