"""Merkle trees against the published roots of RFC 6962's test data and by exhaustion of small sizes."""

import pytest

from otcnode import merkle

# The eight leaves and the roots over their prefixes used by the certificate-transparency projects' own tests.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("count", ROOTS)
def test_published_roots(count: int) -> None:
    assert merkle.root(LEAVES[:count]).hex() == ROOTS[count]


@pytest.mark.parametrize("count", range(1, 34))
def test_every_leaf_proves_its_place_and_no_other(count: int) -> None:
    leaves = [index.to_bytes(2, "big") for index in range(count)]
    root = merkle.root(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle.path(leaves, index)
        assert merkle.root_from_path(leaf, index, count, path) == root
        assert merkle.root_from_path(b"other", index, count, path) != root
        for wrong in range(count):
            if wrong != index:
                assert merkle.root_from_path(leaf, wrong, count, path) != root


@pytest.mark.parametrize("count", range(1, 18))
def test_several_paths_at_once_are_those_of_each(count: int) -> None:
    leaves = [index.to_bytes(2, "big") for index in range(count)]
    some = [index for index in range(count) if index % 3 != 1]
    assert merkle.paths(leaves, some) == [merkle.path(leaves, index) for index in some]
    root = merkle.root(leaves)
    for index, path in zip(some, merkle.paths(leaves, some), strict=True):
        assert merkle.root_from_path(leaves[index], index, count, path) == root


def test_paths_of_a_wrong_length_lead_nowhere() -> None:
    leaves = [bytes([index]) for index in range(5)]
    path = merkle.path(leaves, 2)
    assert merkle.root_from_path(leaves[2], 2, 5, path[:-1]) is None
    assert merkle.root_from_path(leaves[2], 2, 5, (*path, bytes(32))) is None
    assert merkle.root_from_path(leaves[2], 5, 5, path) is None
