#!/usr/bin/env python3
"""A member of a group that copies records from a topic to another with librdkafka, at least once.

    librdkafka.py --brokers HOST:PORT,... --user USER --password-file FILE --group GROUP --input TOPIC --output TOPIC

Each copy names the record that it comes from in the header inceptor-id. The session is as long as inceptor's; all else is
librdkafka's default.
"""

import argparse
import pathlib
import signal

from confluent_kafka import Consumer, Producer, TopicPartition


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("brokers", "user", "group", "input", "output"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--password-file", required=True, type=pathlib.Path)
    a = parser.parse_args()

    common = {
        "bootstrap.servers": a.brokers, "client.id": "librdkafka", "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": a.user, "sasl.password": a.password_file.read_text(),
    }  # fmt: skip
    consumer = Consumer(common | {
        "group.id": a.group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6000,
    })  # fmt: skip
    producer = Producer(common | {"acks": "all"})
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))

    def failed(err, _):
        if err:
            raise SystemExit(f"send: {err}")

    consumer.subscribe([a.input], on_assign=lambda _, partitions: print("msg=assigned", len(partitions), flush=True))
    while not stopping:
        done = {}
        for m in consumer.consume(500, timeout=0.1):
            if m.error():
                print("msg=read error:", m.error(), flush=True)  # librdkafka tries again
                continue
            origin = f"{m.topic()}-{m.partition()}-{m.offset()}"
            producer.produce(a.output, m.value(), m.key(), partition=m.partition(), headers={"inceptor-id": origin}, on_delivery=failed)
            done[m.partition()] = TopicPartition(m.topic(), m.partition(), m.offset() + 1)
        if done:
            producer.flush()
            consumer.commit(offsets=list(done.values()), asynchronous=True)
    consumer.close()


if __name__ == "__main__":
    main()
