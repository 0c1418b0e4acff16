"""The figure of docs/benchmarks.md on serving."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import PERCENTILES

PLOT = Path("docs/images/serve.png")
CURVES = {
    "does nothing": ("nothing", "their_latency"),
    "this project": ("nothing", "latency"),
    "mlflow models serve": ("mlflow", "their_latency"),
    "BentoML": ("bentoml", "their_latency"),
}


def plot(report: Mapping[str, Any], counts: Sequence[int]) -> None:
    """Plot the latency of each server by percentile, one panel for each number of connections."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(counts), figsize=(11, 3.4), layout="constrained")
    shares = [f"p{share:g}" for share in PERCENTILES]
    for connections, axes in zip(counts, panels, strict=True):
        for label, (peer_name, side) in CURVES.items():
            if figures := report.get(f"{peer_name}_{connections}"):
                axes.plot(
                    shares, [1e3 * figures[side][share] for share in shares], "o-", label=label
                )
        axes.set(yscale="log", title=f"{connections} at a time", xlabel="percentile of requests")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(lambda ms, _: f"{ms:g}" if f"{ms:e}"[0] in "25" else "")
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="latency, ms")
    panels[0].legend(fontsize="small")
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})
