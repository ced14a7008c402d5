#!/usr/bin/env python3
"""The same job in Python, for comparison: images, or rows of numbers as JSON, from a Kafka topic, predictions to another.

    service.py --brokers HOST:PORT --group GROUP --input TOPIC --output TOPIC --model DIR [--onnx FILE]

Done as well as it can be without leaving Python: the library's own threads for the model, two threads that decode, batches of
what is there, at most 8 images or 256 rows, and the next batch decoded while one runs. At least once: offsets are committed after
the answers are acknowledged. The library is TensorFlow or, with --onnx, onnxruntime, which runs that file; then Pillow decodes,
and TensorFlow is not loaded.
"""

import argparse
import concurrent.futures
import io
import json
import os
import pathlib
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

IMAGES, ROWS = 8, 256  # of a batch at most


def in_tensorflow(model):
    """Returns functions that decode a record and run a batch, what a blank record decodes to, and the largest batch."""
    import tensorflow as tf

    predict = tf.saved_model.load(str(model)).signatures["serving_default"]
    (images,) = predict.structured_input_signature[1].values()
    rows = images.shape.rank == 2
    if rows:

        def decode(row):
            return np.array(json.loads(row), np.float32)

    else:
        _, height, width, _ = images.shape
        scale = 1 / 255 if height == 299 else 1.0  # as inceptor.yaml says

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def decode(image):
            pixels = tf.cast(tf.io.decode_image(image, channels=3, expand_animations=False), tf.float32)
            resized = tf.compat.v1.image.resize_bilinear(pixels[None], [height, width], align_corners=height == 299)
            return resized[0] * scale

    def run(batch):
        (scores,) = predict(tf.constant(np.stack(batch)) if rows else tf.stack(batch)).values()
        return scores.numpy()

    return decode, run, tf.zeros(images.shape[1:]), ROWS if rows else IMAGES


def in_onnxruntime(file):
    """The same for Inception in onnxruntime."""
    sys.path.append(str(pathlib.Path(__file__).parent.parent))
    import outside

    predict = outside.load(file)
    blank = np.zeros((outside.SIDE, outside.SIDE, 3), np.float32)
    return lambda image: outside.pixels_of(io.BytesIO(image)), lambda batch: predict(np.stack(batch)), blank, IMAGES


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("brokers", "group", "input", "output"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--onnx")
    a = parser.parse_args()

    decode, run, blank, most = in_onnxruntime(a.onnx) if a.onnx else in_tensorflow(a.model)
    labels = [None] * 10 if most == ROWS else (a.model / "assets/labels.txt").read_text().split("\n")
    for n in (1, 2, 4, most):
        run([blank] * n)

    consumer = Consumer({
        "bootstrap.servers": a.brokers, "group.id": a.group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "session.timeout.ms": 6000, "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 65536,
    })  # fmt: skip
    producer = Producer({"bootstrap.servers": a.brokers, "acks": "all", "linger.ms": 0})
    consumer.subscribe([a.input])
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))

    def failed(err, _):
        if err:
            raise SystemExit(f"send: {err}")

    def answer(batch):
        for (message, _), scores in zip(batch, run([content.result() for _, content in batch])):
            order = scores.argsort()[::-1]
            value = json.dumps({
                "id": f"{message.topic()}-{message.partition()}-{message.offset()}",
                "predictions": [{"label": labels[i], "index": int(i), "score": float(scores[i])} for i in order],
            })  # fmt: skip
            producer.produce(a.output, value, message.key(), partition=message.partition(), on_delivery=failed)
        producer.flush()
        done = {m.partition(): TopicPartition(m.topic(), m.partition(), m.offset() + 1) for m, _ in batch}
        consumer.commit(offsets=list(done.values()), asynchronous=True)

    with concurrent.futures.ThreadPoolExecutor(2) as decoders:
        waiting = []  # messages with their pixels to come
        while not stopping:
            room = 2 * most - len(waiting)
            messages = consumer.consume(room, timeout=0 if waiting else 0.1)
            if not waiting and len(messages) == 0:
                continue
            for m in messages:
                if m.error():
                    raise SystemExit(f"read: {m.error()}")
                waiting.append((m, decoders.submit(decode, m.value())))
            batch, waiting = waiting[:most], waiting[most:]
            answer(batch)
    consumer.close()


if __name__ == "__main__":
    main()
