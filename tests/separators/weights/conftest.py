"""Tests of weights see neither the weights of this machine nor the table that is published."""

import pytest

from stemfuse.separators.weights import download, filing, inventory, published


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """An empty weights folder, and no caches of other programs."""
    for name in ("STEMFUSE_WEIGHTS", "TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path / "stemfuse_weights"


@pytest.fixture
def table(monkeypatch):
    """Replaces the table of published files by rows of a test."""

    def replace(*rows):
        for module in (published, filing, inventory, download):
            monkeypatch.setattr(module, "known_files", lambda: rows)

    return replace
