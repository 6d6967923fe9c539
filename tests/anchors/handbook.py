"""The features of the Fraud Detection Handbook, declared: how a customer spends, and what a terminal is known for.

A transaction counts among its customer's. Whether one was fraud is known seven days later, so what is told of a
terminal ends seven days before.
"""

from headrace.features import Count, Entity, FeatureView, Mean, Source, field
from headrace.models import Label, ModelSpec, Pipeline, day_of_week, hour_of_day, number

DAYS = (1, 7, 30)
WINDOWS = [f"{days}d" for days in DAYS]
DELAY = "7d"

transactions = Source(
    "transactions", key="customer_id", event_time="event_time", event_id="transaction_id",
    schema={"type": "record", "name": "Transaction", "fields": [
        {"name": "transaction_id", "type": "int"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "customer_id", "type": "int"},
        {"name": "terminal_id", "type": "int"},
        {"name": "amount", "type": "double"},
        {"name": "is_fraud", "type": "int"},
    ]},
)
customer, terminal = Entity("customer", {"customer_id": int}), Entity("terminal", {"terminal_id": int})

# Nobody looks these up in an online store, so no sweep keeps them current there.
spending = FeatureView(
    "spending", version=1, source=transactions, entity=customer, on={"customer_id": "customer_id"},
    features=[Count(WINDOWS), Mean("amount", WINDOWS)], sweep=None,
)
risk = FeatureView(
    "risk", version=1, source=transactions, entity=terminal, on={"terminal_id": "terminal_id"},
    features=[Count(WINDOWS, shift=DELAY), Mean("is_fraud", WINDOWS, shift=DELAY)], sweep=None,
)
fraud = ModelSpec(
    "fraud", scores=transactions,
    inputs=[number("amount"), day_of_week("event_time"), hour_of_day("event_time"), spending, risk],
    label=Label(value=field("is_fraud") == 1, known_after=DELAY),
)
PIPELINE = Pipeline("handbook", models=[fraud])

# The columns of the published file, in the book's order, and the inputs of the model that mean the same.
PUBLISHED = {
    f"customer_id_{published}_{days}day_window": f"spending__{ours}_{days}d"
    for days in DAYS for published, ours in (("nb_tx", "count"), ("avg_amount", "amount_mean"))
} | {
    f"terminal_id_{published}_{days}day_window": f"risk__{ours}_{days}d_shift_{DELAY}"
    for days in DAYS for published, ours in (("nb_tx", "count"), ("risk", "is_fraud_mean"))
}
