"""Detector files written straight from the layouts in docs/formats, one encoder per format."""
