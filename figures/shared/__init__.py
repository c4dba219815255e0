"""Drawings that several papers use."""
