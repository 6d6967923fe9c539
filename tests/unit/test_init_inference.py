"""What `headrace init` tells from files: kinds, times, keys, labels, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.schemas.errors import SettingsError
from headrace.streams.errors import EventFileError
from headrace.streams.event_samples import event_files, sample_file
from headrace.streams.inference import propose
from headrace.streams.pipelines import load_pipeline
from headrace.streams.starting import start_pipeline

START = np.datetime64("2024-03-01T00:00:00")
N = 400


def times(count: int = N, step_s: int = 600) -> np.ndarray:
    return START + np.arange(count) * np.timedelta64(step_s, "s")


def write_csv(path: Path, **columns) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def write_parquet(path: Path, **columns) -> Path:
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
    return path


def write_json(path: Path, **columns) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    return path


def proposed(folder: Path):
    return propose([sample_file(path) for path in event_files(folder)])


def field(proposal, source: str, name: str):
    (found,) = [f for s in proposal.sources if s.name == source for f in s.fields if f.name == name]
    return found


def pens(folder: Path, **changed) -> Path:
    """Feeding of animals at a farm: the file most tests vary."""
    columns = {
        "pen_id": np.arange(N) % 20, "at": times(), "grams": (np.arange(N) * 37) % 101 + 0.5,
        "refused": ["true" if n % 7 == 0 else "false" for n in range(N)],
    }
    return write_csv(folder / "feedings.csv", **{n: v for n, v in (columns | changed).items() if v is not None})


# kinds

def test_a_null_or_another_kind_deep_in_a_csv_file_counts(tmp_path):
    count = 300_000
    grams = np.full(count, "5", object)
    grams[-7], grams[-9] = "2.5", "NA"
    write_csv(tmp_path / "feedings.csv", pen_id=np.arange(count) % 20, at=times(count, 1), grams=grams)
    sample = sample_file(tmp_path / "feedings.csv")
    assert sample.row_count == count and not sample.is_whole and len(sample.columns[0].values) <= 230_000
    assert {column.name: (column.kind, column.nullable) for column in sample.columns} == {
        "pen_id": ("long", False), "at": ("time", False), "grams": ("double", True),
    }


def test_of_a_large_parquet_file_some_row_groups_are_read_and_all_nulls_are_counted(tmp_path):
    at = pa.array(times(50_000, 1))
    pen = pa.array([None if n == 30_003 else n % 20 for n in range(50_000)])
    pq.write_table(pa.table({"pen_id": pen, "at": at}), tmp_path / "feedings.parquet", row_group_size=500)
    sample = sample_file(tmp_path / "feedings.parquet", most_rows=5_000)
    pen_id, when = sample.columns
    assert sample.row_count == 50_000 and len(when.values) <= 10_000 and not sample.is_whole
    assert pen_id.nullable and not when.nullable
    assert when.values[-1].as_py() == at[-1].as_py()   # the last rows are among the sample


def test_identifiers_keep_their_zeros_and_lose_the_point_that_gaps_gave_them(tmp_path):
    herds = [f"{n % 9}.0" if n % 5 else "" for n in range(N)]
    pens(tmp_path, pen_id=[f"{n % 20:03d}" for n in range(N)], herd_id=herds)
    proposal = proposed(tmp_path)
    assert field(proposal, "feedings", "pen_id").kind == "string"
    herd = field(proposal, "feedings", "herd_id")
    assert herd.kind == "long" and herd.nullable


def test_digits_in_csv_are_text_where_another_file_says_text(tmp_path):
    pens(tmp_path)
    write_json(tmp_path / "visits.jsonl", pen_id=[str(n % 20) for n in range(50)],
               at=[str(t) for t in times(50, 3_600)], minutes=[n % 9 for n in range(50)])
    assert field(proposed(tmp_path), "feedings", "pen_id").kind == "string"


def test_times_come_as_texts_and_numbers_of_any_unit_but_seconds(tmp_path):
    millis = times().astype("datetime64[ms]").astype(np.int64)
    for values, unit in ((millis, "ms"), (millis * 1000 + 5, "us"), (times(), "ms")):
        pens(tmp_path, at=values)
        found = field(proposed(tmp_path), "feedings", "at")
        assert (found.kind, found.unit) == ("time", unit)
    pens(tmp_path, at=millis // 1000)
    with pytest.raises(EventFileError, match="'at' seems to count seconds since 1970; expected milliseconds"):
        proposed(tmp_path)


def test_columns_nothing_can_be_made_of_are_left_out_with_a_reason(tmp_path):
    write_parquet(tmp_path / "feedings.parquet", pen_id=np.arange(N) % 20, at=times(), tags=[["a"]] * N,
                  nothing=pa.nulls(N), **{"weight (g)": np.ones(N), "grams": np.arange(N) * 1.5})
    (source,) = proposed(tmp_path).sources
    assert set(source.left_out) == {"tags", "nothing", "weight (g)"}
    assert [column.name for column in source.fields] == ["pen_id", "at", "grams"]


# times

def test_the_event_time_is_the_one_that_rises_and_no_date_of_birth(tmp_path):
    born = START - np.random.default_rng(0).integers(1, 900, N) * np.timedelta64(1, "D")
    pens(tmp_path, born_at=born)
    assert proposed(tmp_path).sources[0].event_time == "at"


def test_an_arrival_column_is_one_by_name_and_by_its_values(tmp_path):
    delay = np.random.default_rng(0).integers(0, 3_000, N) * np.timedelta64(1, "s")
    pens(tmp_path, received_at=times() + delay)
    (source,) = proposed(tmp_path).sources
    assert (source.event_time, source.arrival, source.allowed_lateness) == ("at", "received_at", "1h")
    pens(tmp_path, received_at=times() - delay - np.timedelta64(1, "s"))   # before the event: it is something else
    assert proposed(tmp_path).sources[0].arrival is None


def test_rows_in_no_order_of_time_arrive_at_their_event_time(tmp_path):
    pens(tmp_path, at=np.random.default_rng(0).permutation(times()))
    (source,) = proposed(tmp_path).sources
    assert source.arrival == "at" and "no order of time" in source.reasons["arrival"]


# labels

def test_an_own_outcome_is_the_label_and_what_gives_it_away_no_input(tmp_path):
    pens(tmp_path, refusal_reason=["ill" if n % 7 == 0 else "" for n in range(N)])
    proposal = proposed(tmp_path)
    assert proposal.label.arguments[0] == ("value", 'field("refused")')
    assert round(proposal.label.positives, 2) == 0.14
    assert field(proposal, "feedings", "refused").nullable   # of a live event it is not known yet
    doubts = {one.code: one.doubt for one in proposal.inputs}
    assert "gives the label away" in doubts['category("refusal_reason")'] and 'category("refused")' not in doubts


def test_an_outcome_in_another_file_is_joined_on_the_key_that_comes_once(tmp_path):
    ids = [f"f{n}" for n in range(N)]
    pens(tmp_path, feeding_no=ids, refused=None)
    checked = [str(t + np.timedelta64(3, "h")) for t in times(200)]
    write_json(tmp_path / "checks.jsonl", feeding_no=ids[:200], at=checked, sick=[n % 4 == 0 for n in range(200)])
    label = proposed(tmp_path).label
    assert (label.scores, label.source) == ("feedings", "checks")
    assert dict(label.arguments) == {
        "on": '"feeding_no"', "value": 'field("sick")', "known_after": '"3h"', "absent": "False",
    }
    assert label.positives == 50 / N


def test_a_rarer_source_about_the_same_thing_gives_a_horizon(tmp_path):
    pens(tmp_path, refused=None)
    seldom = np.random.default_rng(1).integers(0, 20, 60)
    write_csv(tmp_path / "outages.csv", pen_id=seldom, at=times(60, 3_900), kind=["a"] * 60)
    label = proposed(tmp_path).label
    assert (label.scores, label.source) == ("feedings", "outages") and "within" in dict(label.arguments)
    assert 0.005 < label.positives < 0.8


def test_without_any_outcome_the_label_is_whether_it_happens_again(tmp_path):
    pens(tmp_path, refused=None, pen_id=np.random.default_rng(2).integers(0, 20, N))
    label = proposed(tmp_path).label
    assert (label.name, label.source) == ("pen_again", "feedings") and 0.2 < label.positives < 0.8
    pens(tmp_path, refused=None)   # every pen at the same distance: nobody needs to predict that
    assert proposed(tmp_path).label.name == "high_grams"


# what is written

def test_names_that_python_has_already_are_changed_and_the_module_runs(tmp_path, monkeypatch):
    files = tmp_path / "files"
    files.mkdir()
    write_csv(files / "input.csv", number=np.arange(N) % 20, at=times(), grams=np.arange(N) % 13 + 0.5,
              **{"class": ["x" if n % 3 else "y" for n in range(N)]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    started = start_pipeline("barn", files)
    text = (tmp_path / "barn/pipeline.py").read_text()
    assert 'input_events = Source(\n    "input"' in text or 'input_events = Source("input"' in text
    assert load_pipeline("barn.pipeline:PIPELINE").name == "barn"
    for module in ("barn", "barn.pipeline"):
        del sys.modules[module]
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", "--select=E,F,I,B,UP,SIM"]
    judged = subprocess.run([*ruff, "barn"], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
    assert started.written[1] == Path("barn/pipeline.py")


def test_the_same_files_give_the_same_text(tmp_path, monkeypatch):
    files = tmp_path / "files"
    files.mkdir()
    pens(files)
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        start_pipeline("barn", files)
        texts.append(Path("barn/pipeline.py").read_text() + Path("barn/schemas/feedings.avsc").read_text())
    assert texts[0] == texts[1]


# refusals

@pytest.mark.parametrize(("changed", "said"), [
    ({"at": None}, "no column with times; expected timestamps"),
    ({"at": ["01/02/2024 10:00"] * N}, "'at' seems to hold times .* not as ISO 8601"),
    ({"pen_id": None}, "no usable key; expected a text, or a whole number called like an identifier"),
])
def test_files_that_lack_something_are_refused_with_what_is_missing(tmp_path, changed, said):
    pens(tmp_path, **({"refused": None} | changed))
    with pytest.raises(EventFileError, match=said):
        proposed(tmp_path)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(EventFileError, match="no event files; expected names ending in .parquet.*found nothing"):
        event_files(tmp_path)
    with pytest.raises(EventFileError, match="no such folder"):
        event_files(tmp_path / "nowhere")
    for name, content, said in (
        ("a.parquet", b"PAR1 no", "cannot be read as parquet"), ("b.csv", b"x;y\n1;2\n", "separated by ';'"),
        ("c.jsonl", b'{"a": 1}\n{"a": \n', "cannot be read as jsonl"), ("d.csv", b"a,b\n", "no events in it"),
        ("e.csv", b"", "no events in it"), ("f.csv", b"a,b\n1\n", "cannot be read as csv"),
        ("g.csv", b"a,b\n\xff\xfe,1\n", "cannot be read as csv"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EventFileError, match=said) as refused:
            sample_file(tmp_path / name)
        assert name in str(refused.value)
    (tmp_path / "a.csv").touch()
    with pytest.raises(EventFileError, match="several files for source a"):
        event_files(tmp_path)


def test_a_file_whose_name_names_no_source_is_refused(tmp_path):
    pens(tmp_path).rename(tmp_path / "my-feedings.csv")
    with pytest.raises(EventFileError, match="a source is called as its file.*rename the file"):
        proposed(tmp_path)


@pytest.mark.parametrize("name", ["json", "class", "two words", "9lives", "headrace"])
def test_a_name_that_is_taken_or_no_name_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError):
        start_pipeline(name, tmp_path)
    assert not list(tmp_path.iterdir())
