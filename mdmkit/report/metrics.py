"""The figures of a run, as they are logged and read back."""

from mdmkit.metrics_log import MetricsLog, read_metrics

__all__ = ["MetricsLog", "read_metrics"]
