"""Real services on one machine, without root: Kafka, a schema registry and Valkey, gone when their parent is gone."""
