"""Packs: compact labelled sources of a few hundred images."""
