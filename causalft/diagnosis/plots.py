"""The figures of a diagnosis from Python, one method each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DiagnosisPlots"]


class DiagnosisPlots:
    """Figures of a :class:`causalft.diagnosis.Diagnosis`; each method returns the Axes, or one per panel."""

    if TYPE_CHECKING:

        def to_metrics(self) -> dict[str, Any]: ...

    def plot_gap(self) -> Axes:
        """Parameter imbalance before and after fusion, with that of the controls."""
        return _figures().imbalance_before_after(self.to_metrics())

    def plot_cross_gap(self) -> Axes:
        """P gap of every model on the groups of every prior."""
        return _figures().cross_gap_heat(self.to_metrics())

    def plot_data_groups(self) -> Axes:
        """Accuracy by the number of training images: many, medium, few."""
        return _figures().data_group_bars(self.to_metrics())

    def plot_prior_groups(self) -> Axes:
        """Accuracy by the pre-training prior of each stratum: many, medium, few."""
        return _figures().prior_group_bars(self.to_metrics())

    def plot_group_table(self) -> list[Axes]:
        """Accuracy by both groups at once, one panel per model."""
        return _figures().group_heat_tables(self.to_metrics())

    def plot_classes(self) -> list[Axes]:
        """Accuracy of each class against its prior, one panel per stratum."""
        return _figures().class_profiles(self.to_metrics())

    def plot_slope(self) -> list[Axes]:
        """Accuracy against the prior with class difficulty taken out."""
        return _figures().slope_plot(self.to_metrics())


def _figures() -> Any:
    """Late, for matplotlib is slow to import and a diagnosis is mostly read."""
    from causalft.diagnosis import figures

    return figures
