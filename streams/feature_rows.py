"""Feature rows as they lie in `features.<view>.v<N>`, read into columns."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headrace.features.plan import FoldPlan
from headrace.features.view import FeatureView
from headrace.schemas.codec import BatchCodec, ResolvingCodec
from headrace.schemas.errors import SchemaError
from headrace.schemas.records import feature_row_schema
from headrace.schemas.registry import Registry, UnknownSchemaId
from headrace.schemas.wire import NOT_FRAMED, bodies, split


def row_schema(plan: FoldPlan, view: FeatureView) -> dict:
    """Avro schema of the rows of a view."""
    features = [(feature.name, feature.dtype) for feature in plan.features]
    return feature_row_schema(plan.uid, view.entity.key_types, features)


class FeatureRowReader:
    """Reads the rows of one view, whichever of its schema's versions wrote them.

    Parameters
    ----------
    registry : Registry
        Asked once per schema id; what it raises when it cannot be reached (ServiceError) passes.
    """

    def __init__(self, plan: FoldPlan, view: FeatureView, registry: Registry):
        self._schema, self._registry = row_schema(plan, view), registry
        self._own = BatchCodec(self._schema)
        self._codecs: dict[int, BatchCodec | ResolvingCodec] = {}

    def read(self, values: Sequence[bytes | None]) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """Read n Kafka values.

        Returns
        -------
        pa.RecordBatch
            The rows that could be read. Rows of several schemas are grouped by schema, so their order may differ from
            that of the log; whoever needs an order has the rows' versions.
        list of (int, str)
            Places of the others, with the reason.
        """
        ids, batches, bad = split(values), [], []
        for schema_id in np.unique(ids).tolist():
            places = np.flatnonzero(ids == schema_id).tolist()
            codec = self._codec(schema_id)
            if isinstance(codec, str):
                bad += [(place, codec) for place in places]
                continue
            batch, _, refused = codec.decode_each(bodies([values[place] for place in places]))
            batches.append(batch)
            bad += [(places[at], reason) for at, reason in refused]
        if len(batches) == 1:
            return batches[0], bad
        table = pa.Table.from_batches(batches, schema=self._own.arrow_schema).combine_chunks()
        return next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], schema=self._own.arrow_schema)), bad

    def _codec(self, schema_id: int) -> BatchCodec | ResolvingCodec | str:
        if schema_id in self._codecs:
            return self._codecs[schema_id]
        if schema_id == NOT_FRAMED:
            return "null, or no Confluent wire header"
        try:
            written = self._registry.schema_of(schema_id)
            self._codecs[schema_id] = self._own if written == self._schema else ResolvingCodec(written, self._schema)
        except UnknownSchemaId:
            return f"schema {schema_id} is unknown to the registry"
        except SchemaError as error:
            return f"schema {schema_id}: {error}"
        return self._codecs[schema_id]
