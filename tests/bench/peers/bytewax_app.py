"""Bytewax, one worker, without a recovery store: at least once at most. ``--variant windows`` or ``scoring``."""

import bytewax.operators as op
import common
import lightgbm
import numpy as np
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

given = common.arguments()


def keyed(message):
    transaction = common.read_transaction(message.value)
    return transaction["customer_id"], transaction


def add(customer, transaction):
    customer = customer or common.Customer()
    return customer, customer.add(transaction)


def said(keyed_features):
    key, features = keyed_features
    return KafkaSinkMessage(key.encode(), common.write_features(features))


def scorer():
    model = lightgbm.Booster(model_file=given.model)

    def score(batch):
        rows = [common.read_vector(message.value) for message in batch]
        matrix = np.array([[row[name] for name in common.VECTOR_FIELDS] for row in rows])
        return [
            KafkaSinkMessage(message.key, common.write_score({"tx_id": row["tx_id"], "score": score, "model": "m"}))
            for message, row, score in zip(batch, rows, model.predict(matrix, num_threads=1).tolist(), strict=True)]

    return score


flow = Dataflow("peer")
messages = op.input("in", flow, KafkaSource([given.bootstrap], [given.source], batch_size=1_000))
if given.variant == "windows":
    out = op.map("encode", op.stateful_map("features", op.map("decode", messages, keyed), add), said)
else:
    out = op.flat_map_batch("score", messages, scorer())
options = {name: str(value) for name, value in common.producer_options(given).items() if name != "bootstrap.servers"}
op.output("out", out, KafkaSink([given.bootstrap], given.out, add_config=options))

if __name__ == "__main__":
    cli_main(flow, workers_per_process=1)
