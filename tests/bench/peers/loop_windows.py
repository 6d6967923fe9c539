"""Windows in a hand-written loop: exact, in a dict, and nothing kept over a restart."""

from collections import defaultdict

import common
from confluent_kafka import Consumer, Producer

given, going = common.arguments(), common.until_told()
consumer = Consumer(common.consumer_options(given))
consumer.subscribe([given.source])
producer = Producer(common.producer_options(given))
customers = defaultdict(common.Customer)
while going:
    for message in consumer.consume(2_000, 0.1):
        if not message.error():
            transaction = common.read_transaction(message.value())
            features = customers[transaction["customer_id"]].add(transaction)
            producer.produce(given.out, common.write_features(features), message.key())
    producer.poll(0)
    if customers:
        consumer.commit(asynchronous=True)
producer.flush()
consumer.close()
