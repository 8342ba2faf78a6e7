"""The notebooks run from top to bottom on the small tables beside them."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ANALYSIS = Path(__file__).parents[2] / "analysis"


@pytest.mark.filterwarnings("default")  # of Jupyter's own
@pytest.mark.parametrize(
    ("name", "says"), [("published_laws", "predictable"), ("size_versus_performance", "meningioma")]
)
def test_notebook_runs_and_shows_its_figures(name: str, says: str) -> None:
    notebook = nbformat.read(ANALYSIS / f"{name}.ipynb", as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(ANALYSIS)}},
    ).execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert says in str(outputs)
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
