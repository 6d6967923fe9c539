"""The notebook, run as Jupyter runs it: by a kernel, cell after cell; every plot is there."""

import base64
import json
import os
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "infra" / "demo" / "delays.ipynb"
SHOWS_PLOT = re.compile(r"plt\.subplots\(")
PNG = b"\x89PNG\r\n"
PATIENCE_S = 240   # for one cell on a busy machine
INLINE = "module://matplotlib_inline.backend_inline"   # no display needed: plots are outputs


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> list[dict]:
    """The code cells after the run; a cell that raises ends it with its traceback."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    with tempfile.TemporaryDirectory(prefix="nb") as sockets:   # their paths must be short
        kernel = AsyncKernelManager(transport="ipc", ip=f"{sockets}/kernel", connection_file=f"{sockets}/kernel.json")
        environment = os.environ | {"IPYTHONDIR": f"{folder}/ipython", "MPLBACKEND": INLINE}   # nobody's own profile
        client = NotebookClient(notebook, km=kernel, timeout=PATIENCE_S, resources={"metadata": {"path": folder}})
        client.execute(env=environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cells) -> str:
    return "".join(output.text for cell in cells for output in cell.outputs if output.output_type == "stream")


def test_it_is_a_notebook_without_outputs_and_with_more_prose_than_headings():
    notebook = json.loads(NOTEBOOK.read_text())
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    prose = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    assert notebook["nbformat"] == 4 and len(code) > 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum(map(len, " ".join(prose).split())) > 2_000


def test_every_link_in_its_prose_leads_somewhere():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        for link in re.findall(r"\]\(([^)#:]+)\)", "".join(cell["source"])) if cell["cell_type"] == "markdown" else []:
            assert (NOTEBOOK.parent / link).exists(), link


def test_every_plot_is_drawn(ran):
    plotting = [cell for cell in ran if SHOWS_PLOT.search(cell.source)]
    assert len(plotting) == 6
    for cell in plotting:
        images = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        assert len(images) == 1 and base64.b64decode(images[0]).startswith(PNG), cell.source


def test_nothing_is_warned_of(ran):
    complaints = [output.text for cell in ran for output in cell.outputs if output.get("name") == "stderr"]
    assert not complaints


def test_the_model_holds_in_the_weeks_after_and_loses_against_the_weeks_it_learned_from(ran):
    learned, after = (float(number) for number in re.findall(r"^AUC .* (0\.\d+)", printed(ran), re.MULTILINE))
    assert 0.65 < after < learned < 0.9


def test_the_explained_flight_is_one_with_a_high_score(ran):
    explained = ran[-1]
    assert re.search(r"was (not )?late", printed([explained]))
    (table,) = [output.data["text/plain"] for output in explained.outputs if output.output_type == "execute_result"]
    assert "origin_departures" in table or "aircraft" in table or "weather" in table
