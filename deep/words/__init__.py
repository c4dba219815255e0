"""Sentences and pictures, which change no number."""
