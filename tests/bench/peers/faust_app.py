"""Stock faust-streaming, as its documentation shows it, web server off.

``--variant take``: take_events(500) and exact windows in a dict of one's own; ``minutes``: sums per minute in a Table,
not exact; ``scoring``: take_events(500), at least once.
"""

import sys
from collections import defaultdict

import common
import faust
import lightgbm
import numpy as np

given = common.arguments()
app = faust.App(
    given.group, broker="kafka://" + given.bootstrap, datadir=given.state, topic_partitions=4, web_enabled=False,
    producer_compression_type="lz4", producer_linger=0.005 if given.soon else 0.02)
RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
source, out = app.topic(given.source, **RAW), app.topic(given.out, **RAW)

if given.variant == "take":
    customers = defaultdict(common.Customer)

    @app.agent(source)
    async def take(stream):
        async for events in stream.take_events(500, within=0.1):
            for event in events:
                transaction = common.read_transaction(event.value)
                features = customers[transaction["customer_id"]].add(transaction)
                await out.send(key=event.key, value=common.write_features(features))

elif given.variant == "minutes":
    table = app.Table("minutes", default=dict)

    @app.agent(source)
    async def minutes(stream):
        async for key, value in stream.items():
            transaction = common.read_transaction(value)
            customer = transaction["customer_id"]
            table[customer], features = common.add_to_minutes(table[customer], transaction)
            await out.send(key=key, value=common.write_features(features))

else:
    model = lightgbm.Booster(model_file=given.model)

    @app.agent(source)
    async def score(stream):
        async for events in stream.take_events(500, within=0.01 if given.soon else 0.1):
            rows = [common.read_vector(event.value) for event in events]
            matrix = np.array([[row[name] for name in common.VECTOR_FIELDS] for row in rows])
            scores = model.predict(matrix, num_threads=1).tolist()
            for event, row, found in zip(events, rows, scores, strict=True):
                said = common.write_score({"tx_id": row["tx_id"], "score": found, "model": "m"})
                await out.send(key=event.key, value=said)

if __name__ == "__main__":
    sys.argv[1:] = []
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
