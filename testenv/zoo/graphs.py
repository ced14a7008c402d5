"""What the models of TensorFlow 1 are made of: a small network, signatures, and how they are saved."""

import contextlib
import functools
import pathlib

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import lookup_ops

import likeness

tf1 = tf.compat.v1
tf.get_logger().setLevel("ERROR")  # of deprecations, which these models are about
saved_model = tf1.saved_model

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"


@contextlib.contextmanager
def classic_graph(config=None):
    """A session on a graph as TensorFlow 1 made them: reference variables, and loops of Enter and Exit."""
    tf1.disable_control_flow_v2()
    tf1.disable_resource_variables()
    try:
        with tf.Graph().as_default(), tf1.Session(config=config) as session:
            tf1.set_random_seed(1)
            yield session
    finally:
        tf1.enable_control_flow_v2()
        tf1.enable_resource_variables()


def convolutions(x, variable):
    """Three convolutions with batch norms, and their means; variable(name, values) makes a variable of initial values."""
    random = np.random.RandomState(3)
    for i, (before, after) in enumerate([(3, 8), (8, 16), (16, 32)]):
        kernel = variable(f"conv{i}/weights", random.normal(0, (2 / 9 / before) ** 0.5, [3, 3, before, after]))
        x = tf.nn.conv2d(x, kernel, 2, "SAME")
        gamma, variance = (random.uniform(0.5, 1.5, after) for _ in range(2))
        beta, mean = (random.normal(0, 0.2, after) for _ in range(2))
        x = tf1.nn.fused_batch_norm(
            x,
            variable(f"conv{i}/gamma", gamma),
            variable(f"conv{i}/beta", beta),
            variable(f"conv{i}/moving_mean", mean),
            variable(f"conv{i}/moving_variance", variance),
            epsilon=1e-3,
            is_training=False,
        )[0]
        x = tf.nn.relu(x)
    return tf.reduce_mean(x, [1, 2])


@functools.cache
def features():
    """What the convolutions make of photos."""
    with tf.Graph().as_default(), tf1.Session() as session:
        return session.run(convolutions(tf.constant(likeness.pictures((96, 96))), lambda _, values: tf.constant(values, tf.float32)))


def network(images, classes, resource=None, partitioner=None):
    """Logits of images from -1 to 1, by a small network whose weights tell photos apart."""

    def variable(name, values):
        def initial(shape, dtype, partition_info):
            at = partition_info.var_offset if partition_info else [0] * len(shape)
            return tf.constant(values[tuple(slice(a, a + n) for a, n in zip(at, shape))], dtype)

        return tf1.get_variable(name, values.shape, initializer=initial)

    with tf1.variable_scope("net", use_resource=resource, partitioner=partitioner):
        kernel, bias = likeness.last_layer(features(), classes)
        return tf.matmul(convolutions(images, variable), variable("fc/weights", kernel)) + variable("fc/biases", bias)


def signature(inputs, outputs, method=PREDICT):
    infos = [{key: saved_model.utils.build_tensor_info(tensor) for key, tensor in side.items()} for side in (inputs, outputs)]
    return saved_model.signature_def_utils.build_signature_def(*infos, method)


def save(session, directory, signatures, tags=("serve",), also=(), text=False, **options):
    """Writes the session's graph with these tags, and once more with each list of tags in also."""
    builder = saved_model.builder.SavedModelBuilder(str(directory))
    builder.add_meta_graph_and_variables(session, list(tags), signature_def_map=signatures, **options)
    for more in also:
        builder.add_meta_graph(list(more), signature_def_map=signatures)
    builder.save(as_text=text)


def build(directory, make, config=None, change=None, **options):
    """Saves what make() returns: the signatures, or these and more options of save.

    change(session) may change the variables before that.
    """
    with classic_graph(config) as session:
        signatures = make()
        if isinstance(signatures, tuple):
            signatures, more = signatures
            options |= more
        session.run([tf1.global_variables_initializer(), tf1.tables_initializer()])
        if change:
            change(session)
        save(session, directory, signatures, **options)


def words(names):
    """A table from indices to these names, which an initializer fills after loading."""
    return lookup_ops.index_to_string_table_from_tensor(tf.constant(names))


def write(directory, files):
    """Writes text files into the version's directory."""
    for name, content in files.items():
        path = pathlib.Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
