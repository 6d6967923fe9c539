"""The limit of a Python client: a batch in, the same bytes out.

At least once, offsets committed per batch; ``--variant exactly-once``: a transaction per batch of up to 5,000.
"""

import common
from confluent_kafka import Consumer, Producer

given, going = common.arguments(), common.until_told()
exactly_once = given.variant == "exactly-once"
consumer = Consumer(common.consumer_options(given))
consumer.subscribe([given.source])
producer = Producer(common.producer_options(given, **({"transactional.id": given.group} if exactly_once else {})))
if exactly_once:
    producer.init_transactions()
while going:
    batch = [message for message in consumer.consume(5_000, 0.1) if not message.error()]
    if not batch:
        producer.poll(0)
        continue
    if exactly_once:
        producer.begin_transaction()
    for message in batch:
        producer.produce(given.out, message.value(), message.key())
    if exactly_once:
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
        producer.commit_transaction()
    else:
        producer.poll(0)
        consumer.commit(asynchronous=True)
producer.flush()
consumer.close()
