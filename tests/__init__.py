"""Tests say what must be true; helpers they share are modules here."""
