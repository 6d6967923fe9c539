"""Scoring in a hand-written loop, exactly once: batches of up to 2,000, LightGBM on the batch, a transaction each."""

import common
import lightgbm
import numpy as np
from confluent_kafka import Consumer, Producer

given, going = common.arguments(), common.until_told()
model = lightgbm.Booster(model_file=given.model)
consumer = Consumer(common.consumer_options(given))
consumer.subscribe([given.source])
producer = Producer(common.producer_options(given, **{"transactional.id": given.group}))
producer.init_transactions()
while going:
    batch = [message for message in consumer.consume(2_000, 0.005 if given.soon else 0.1) if not message.error()]
    if not batch:
        continue
    rows = [common.read_vector(message.value()) for message in batch]
    scores = model.predict(np.array([[row[name] for name in common.VECTOR_FIELDS] for row in rows]), num_threads=1)
    producer.begin_transaction()
    for message, row, score in zip(batch, rows, scores.tolist(), strict=True):
        said = common.write_score({"tx_id": row["tx_id"], "score": score, "model": "m"})
        producer.produce(given.out, said, message.key())
    producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
    producer.commit_transaction()
consumer.close()
