"""See what the pipeline does: logs, metrics, backlog, alerts."""
