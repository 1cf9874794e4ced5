"""Directories of local clusters."""

from pathlib import Path

import pytest

from otcnode.errors import ConfigurationError
from otcnode.localnet import remove


def test_a_clusters_directory_is_deleted(tmp_path: Path) -> None:
    for name in ("node1", "node12", "keys"):
        (tmp_path / "net" / name).mkdir(parents=True)
    remove(tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("stranger", ["node_modules", "nodes.txt", "node0", "work", ".git"])
def test_what_a_cluster_does_not_make_is_never_deleted(tmp_path: Path, stranger: str) -> None:
    (tmp_path / "node1").mkdir()
    (tmp_path / stranger).mkdir()
    with pytest.raises(ConfigurationError, match=stranger):
        remove(tmp_path)
    assert (tmp_path / stranger).exists() and (tmp_path / "node1").exists()
