#!/usr/bin/env python3
"""A model server for tests: TensorFlow Serving's gRPC interface on Python TensorFlow.

    serving.py --name NAME --base DIR [--port PORT] [--label LABEL=VERSION]... [--signature KEY]...

loads every version in DIR (DIR/VERSION/saved_model.pb), listens on 127.0.0.1, writes one line "listening PORT" and ends
with its standard input. The interface is the official one, package tensorflow-serving-api; what it does follows
TensorFlow Serving's model server: its codes, and the version in every answer.
"""

import argparse
import concurrent.futures
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


class Refused(Exception):
    """A request that ends with a status other than OK."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Servable:
    """One version: its signatures to call, and as they are described."""

    def __init__(self, directory, only):
        self.model = tf.saved_model.load(str(directory))
        meta = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs[0]
        self.signatures = {k: v for k, v in meta.signature_def.items() if not k.startswith("__") and (not only or k in only)}

    def predict(self, key, inputs, wanted):
        key = key or "serving_default"
        if key not in self.signatures:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
        expected = self.signatures[key].inputs
        if set(inputs) != set(expected):
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input tensor alias not found in signature: {sorted(inputs)}. Inputs expected to be in the set {sorted(expected)}.",
            )
        tensors = {}
        for alias, proto in inputs.items():
            if proto.dtype != expected[alias].dtype:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"input {alias} has the wrong type")
            try:
                tensors[alias] = tf.constant(tf.make_ndarray(proto))
            except (TypeError, ValueError) as e:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"tensor parsing error: {alias}: {e}") from e
        outputs = self.model.signatures[key](**tensors)
        wanted = list(wanted) or list(outputs)
        missing = set(wanted) - set(outputs)
        if missing:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"output tensor alias not found in signature: {sorted(missing)}")
        return {alias: tf.make_tensor_proto(outputs[alias].numpy()) for alias in wanted}


class Server(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, name, versions, labels):
        self.name, self.versions, self.labels = name, versions, labels

    def version(self, spec):
        """The version that a request is for."""
        if spec.name != self.name:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            if spec.version_label not in self.labels:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}")
            return self.labels[spec.version_label]
        if choice == "version":
            if spec.version.value not in self.versions:
                raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({self.name}, {spec.version.value})")
            return spec.version.value
        return max(self.versions)

    def answered(self, context, work):
        try:
            return work()
        except Refused as e:
            context.abort(e.code, str(e))
        except tf.errors.OpError as e:
            # TensorFlow's codes are gRPC's.
            code = next((c for c in grpc.StatusCode if c.value[0] == e.error_code), grpc.StatusCode.UNKNOWN)
            context.abort(code, e.message)

    def Predict(self, request, context):
        def work():
            version = self.version(request.model_spec)
            outputs = self.versions[version].predict(request.model_spec.signature_name, request.inputs, request.output_filter)
            response = predict_pb2.PredictResponse()
            for alias, tensor in outputs.items():
                response.outputs[alias].CopyFrom(tensor)
            response.model_spec.name = self.name
            response.model_spec.version.value = version
            response.model_spec.signature_name = request.model_spec.signature_name or "serving_default"
            return response

        return self.answered(context, work)

    def GetModelMetadata(self, request, context):
        def work():
            version = self.version(request.model_spec)
            if list(request.metadata_field) != ["signature_def"]:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Metadata field {list(request.metadata_field)} is not supported")
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for key, signature in self.versions[version].signatures.items():
                signatures.signature_def[key].CopyFrom(signature)
            packed = any_pb2.Any()
            packed.Pack(signatures)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = self.name
            response.model_spec.version.value = version
            response.metadata["signature_def"].CopyFrom(packed)
            return response

        return self.answered(context, work)

    def GetModelStatus(self, request, context):
        def work():
            if request.model_spec.name != self.name:
                raise Refused(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {request.model_spec.name}")
            response = get_model_status_pb2.GetModelStatusResponse()
            for version in sorted(self.versions, reverse=True):
                status = response.model_version_status.add()
                status.version = version
                status.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
                status.status.error_code = 0
            return response

        return self.answered(context, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--base", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--signature", action="append", metavar="KEY", help="the only signatures that are there, of those that the model has")
    parser.add_argument("--label", action="append", default=[], metavar="LABEL=VERSION")
    arguments = parser.parse_args()

    versions = {int(d.name): Servable(d, arguments.signature) for d in arguments.base.iterdir() if d.name.isdecimal()}
    if not versions:
        sys.exit(f"serving: no version in {arguments.base}")
    labels = {label: int(version) for label, _, version in (l.partition("=") for l in arguments.label)}
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(max_workers=4),
        # As the model server has them; without SO_REUSEPORT a port that is taken is an error.
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)],
    )
    service = Server(arguments.name, versions, labels)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    server.start()
    print(f"listening {port}", flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
