"""Measure, then judge: every verdict carries its measured values."""
