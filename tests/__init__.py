"""Tests of intake-emio."""
