"""A shop's pipeline for end-to-end tests: every aggregation, two roles of one entity, null keys, hourly JSON."""

from headrace.features import Count, Entity, FeatureView, Last, Max, Mean, Min, MostFrequent, Source, Std, Sum, field
from headrace.models import Label, ModelSpec, Pipeline, category, hour_of_day, number, ratio


def record(name: str, **fields) -> dict:
    """Return an Avro record schema; `?` in front of a type makes it nullable, `time` is timestamp-millis."""
    def avro(kind):
        if kind.startswith("?"):
            return ["null", avro(kind[1:])]
        return {"type": "long", "logicalType": "timestamp-millis"} if kind == "time" else kind

    listed = [{"name": n, "type": avro(k), **({"default": None} if k[0] == "?" else {})} for n, k in fields.items()]
    return {"type": "record", "name": name, "fields": listed}


orders = Source(
    "orders", key="customer", event_time="placed_at", event_id="order_id", allowed_lateness="10m",
    schema=record("Order", order_id="string", customer="string", gift_to="?string", merchant="?string", amount="double",
                  quantity="int", currency="string", placed_at="time"),
)
payments = Source(
    "payments", key="customer", event_time="paid_at", allowed_lateness="10m", nonfinite="missing",
    schema=record("Payment", customer="string", merchant="string", paid="double", refunded="boolean", paid_at="time"),
)
rates = Source(
    "rates", key="currency", event_time="fixed_at", format="json",
    schema=record("Rate", currency="string", rate="double", fixed_at="time"),
)
complaints = Source(
    "complaints", key="order_id", event_time="filed_at",
    schema=record("Complaint", order_id="string", filed_at="time", severe="boolean"),
)

customer, merchant = Entity("customer", {"customer": str}), Entity("merchant", {"merchant": str})
currency = Entity("currency", {"currency": str})

customer_orders = FeatureView(
    "customer_orders", version=1, source=orders, entity=customer, on={"customer": "customer"},
    features=[
        Count(["10m", "1d"]), Sum("amount", "1h"), Max("amount", "1d"), Std("amount", "1d"), Count(),
        Sum(field("amount") * field("quantity"), "1d", name="spend_1d"), Last("amount", "7d", shift="1ms"),
        MostFrequent("merchant", "1d"), MostFrequent("currency", "3 events", where=field("amount") > 15),
    ],
)
customer_payments = FeatureView(
    "customer_payments", version=1, source=payments, entity=customer, on={"customer": "customer"},
    features=[
        Mean("paid", ["1h", "1d"]), Min("paid", "1d"), Std("paid", "1h"), Last("paid"), Count("paid", "1h"),
        Count("1d", where=field("refunded")), Mean("paid", "1d", shift="6h"),
    ],
)
merchant_payments = FeatureView(
    "merchant_payments", version=2, source=payments, entity=merchant, on={"merchant": "merchant"},
    where=~field("refunded"), features=[Sum("paid", ["1h", "1d"]), Count("1h"), Std("paid")],
)
currency_rates = FeatureView(
    "currency_rates", version=1, source=rates, entity=currency, on={"currency": "currency"},
    features=[Last("rate", "3h"), Mean("rate", "1d")],
)

recent_orders = FeatureView(  # nobody asks for it: it decays in the store
    "recent_orders", version=1, source=orders, entity=customer, on={"customer": "customer"},
    features=[Count("2s"), Sum("amount", "2s", shift="1s")], sweep="1s",
)

payer_payments = FeatureView(  # payments are keyed by customer and nothing else feeds it: their topic is its log
    "payer_payments", version=1, source=payments, entity=Entity("payer", {"customer": str}),
    on={"customer": "customer"}, sweep="1s",
    features=[Count(["2s", "1d"]), Sum("paid", "1h"), Last("paid"), MostFrequent("merchant", "2s")],
)

disputed = ModelSpec(
    "disputed", scores=orders, threshold=0.3,
    inputs=[
        number("amount"), number("quantity"), category("currency"), hour_of_day("placed_at", tz="Europe/Berlin"),
        ratio("amount", "quantity"), customer_orders, customer_payments, merchant_payments, currency_rates,
        customer_payments.at({"customer": "gift_to"}, as_="recipient"),
    ],
    label=Label(complaints, on="order_id", value=field("severe"), known_after="2d", absent=False),
    parameters={"num_iterations": 20, "min_data_in_leaf": 5},
)
PIPELINE = Pipeline("shop", models=[disputed], views=[recent_orders, payer_payments])
