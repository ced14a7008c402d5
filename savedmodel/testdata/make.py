"""Writes the models in this folder with Python TensorFlow: python make.py

  tiny/    a SavedModel with two signatures, an asset, a warm-up file
  sharded/ only variables/: two shards and a partitioned variable
  classic/ only the graph that TensorFlow 1 writes for decode_jpeg in map_fn, with tf.Examples
  keras/   only the graph of a Keras model with ResNet50's preprocessing
"""

import os
import shutil

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

HERE = os.path.dirname(os.path.abspath(__file__))


class Tiny(tf.Module):
    def __init__(self, labels):
        super().__init__(name="tiny")
        self.weights = tf.Variable(tf.reshape(tf.range(12, dtype=tf.float32), [4, 3]), name="weights")
        self.bias = tf.Variable([0.5, -0.5, 0.0], name="bias")
        self.runs = tf.Variable(7, dtype=tf.int64, name="runs")
        self.title = tf.Variable("größe", name="title")
        self.labels = tf.saved_model.Asset(labels)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="features")])
    def scores(self, features):
        return {"scores": tf.nn.softmax(features @ self.weights + self.bias)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def describe(self, text):
        return {
            "text": tf.strings.join([self.title, text], ": "),
            "runs": tf.identity(self.runs),
            "labels": tf.io.read_file(self.labels.asset_path),
            "parts": tf.strings.split(tf.expand_dims(text, 0)).values,
        }


def tiny(path):
    shutil.rmtree(path, ignore_errors=True)
    labels = "/tmp/labels.txt"
    with open(labels, "w") as f:
        f.write("cat\ndog\nfish\n")
    model = Tiny(labels)
    tf.saved_model.save(
        model, path, signatures={"serving_default": model.scores, "describe": model.describe},
        options=tf.saved_model.SaveOptions(save_debug_info=False))
    extra = os.path.join(path, "assets.extra")
    os.makedirs(extra)
    with tf.io.TFRecordWriter(os.path.join(extra, "tf_serving_warmup_requests")) as w:
        for signature, name, value in [
            ("", "features", tf.constant([[1.0, 2.0, 3.0, 4.0]])),
            ("describe", "text", tf.constant("a b")),
        ]:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "tiny"
            request.model_spec.version.value = 1
            request.model_spec.signature_name = signature
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request))
            w.write(log.SerializeToString())


def sharded(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    prefix = os.path.join(path, "variables")
    parts = [prefix + "_part%d" % i for i in range(2)]
    tf.raw_ops.SaveV2(
        prefix=parts[0], tensor_names=["a", "wide"], shape_and_slices=["", "2 6 -:0,3"],
        tensors=[tf.range(5, dtype=tf.int32), tf.ones([2, 3])])
    tf.raw_ops.SaveV2(
        prefix=parts[1], tensor_names=["b", "wide"], shape_and_slices=["", "2 6 -:3,3"],
        tensors=[tf.constant(2.5, tf.float64), tf.zeros([2, 3])])
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix)


def graph_only(path):
    for name in os.listdir(path):
        if name != "saved_model.pb":
            file = os.path.join(path, name)
            shutil.rmtree(file) if os.path.isdir(file) else os.remove(file)


def classic(path):
    shutil.rmtree(path, ignore_errors=True)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, name="tf_example")
        features = {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/format": tf.io.FixedLenFeature([], tf.string, "jpeg"),
        }
        images = v1.parse_example(examples, features)["image/encoded"]

        def pixels(image):
            image = tf.image.convert_image_dtype(tf.image.decode_jpeg(image, channels=3), tf.float32)
            return v1.image.resize_bilinear(tf.expand_dims(image, 0), [8, 8])[0]

        scores = tf.reduce_mean(v1.map_fn(pixels, images, dtype=tf.float32), [1, 2])

        def signature(method, **inputs):
            info = v1.saved_model.build_tensor_info
            return v1.saved_model.build_signature_def(
                {key: info(tensor) for key, tensor in inputs.items()}, {"scores": info(scores)}, method)

        builder = v1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(session, ["serve"], {
            "predict_images": signature("tensorflow/serving/predict", images=images),
            "serving_default": signature("tensorflow/serving/classify", inputs=examples),
        })
        builder.save()
    graph_only(path)


def keras_graph(path):
    shutil.rmtree(path, ignore_errors=True)
    images = tf.keras.Input([8, 8, 3], name="images")
    x = tf.keras.applications.resnet50.preprocess_input(images)
    scores = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Conv2D(2, 3)(x))
    tf.keras.Model(images, scores).export(path, verbose=False)
    graph_only(path)


tiny(os.path.join(HERE, "tiny"))
sharded(os.path.join(HERE, "sharded", "variables"))
classic(os.path.join(HERE, "classic"))
keras_graph(os.path.join(HERE, "keras"))
