"""What governance may never make of a parameter, a genesis must not begin with: it would stop or drown the chain."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.demo import story
from otcnode.errors import ConfigurationError
from otcnode.genesis import (
    CASH_DECIMALS_MAX,
    GENESIS_VERSION,
    PARAMETER_BOUNDS,
    ChainParameters,
    Clock,
    Genesis,
    KeyPurpose,
    chain_id,
    check,
    dump,
    load,
)
from tests.engine.network import START_MS, genesis_of

EDGES = [(name, edge) for name, edges in sorted(PARAMETER_BOUNDS.items()) for edge in edges]


def with_parameter(name: str, value: int) -> Genesis:
    genesis = genesis_of(4)
    return replace(genesis, parameters=replace(genesis.parameters, **{name: value}))


def test_a_genesis_of_other_rules_is_refused_and_is_another_chain() -> None:
    genesis = genesis_of(4)
    other = replace(genesis, version=GENESIS_VERSION + 1)
    with pytest.raises(ConfigurationError, match=f"genesis version {GENESIS_VERSION + 1}: this node knows version"):
        check(other)
    assert chain_id(other) != chain_id(genesis)


def test_every_parameter_has_its_bounds() -> None:
    assert set(ChainParameters.__struct_fields__) == {*PARAMETER_BOUNDS, "state_buckets"}


@pytest.mark.parametrize(("name", "edge"), EDGES)
def test_a_parameter_may_be_at_its_edge_and_not_beyond(name: str, edge: int) -> None:
    check(with_parameter(name, edge))
    beyond = edge - 1 if edge == PARAMETER_BOUNDS[name][0] else edge + 1
    if beyond >= 0:
        with pytest.raises(ConfigurationError, match=rf"parameters\.{name} must be .*, not {beyond}$"):
            check(with_parameter(name, beyond))


@pytest.mark.parametrize(("window", "beyond"), [(50, 10_001), (6, 83_334), (64, 7_813)])
def test_what_is_in_flight_together_is_bounded(window: int, beyond: int) -> None:
    """Each is within its own bounds; the lists of a window of full blocks would be 410 MB at the largest of both."""

    def with_both(transactions: int) -> Genesis:
        genesis = with_parameter("window", window)
        return replace(genesis, parameters=replace(genesis.parameters, block_transactions_max=transactions))

    assert window * (beyond - 1) <= limits.window_transactions_max < window * beyond
    check(with_both(beyond - 1))
    with pytest.raises(ConfigurationError, match=r"parameters"):
        check(with_both(beyond))


def test_the_reason_names_both() -> None:
    genesis = with_parameter("window", 64)
    genesis = replace(genesis, parameters=replace(genesis.parameters, block_transactions_max=100_000))
    with pytest.raises(ConfigurationError) as refusal:
        check(genesis)
    assert str(refusal.value) == (
        "parameters: window times block_transactions_max must be at most 500000, not 64 times 100000"
    )


@pytest.mark.parametrize("buckets", [0, 1, 32, 100, 16 * limits.state_buckets_max])
def test_a_state_tree_of_a_shape_or_size_that_none_can_have(buckets: int) -> None:
    with pytest.raises(ConfigurationError, match="state_buckets"):
        check(with_parameter("state_buckets", buckets))


def test_the_largest_state_tree() -> None:
    check(with_parameter("state_buckets", limits.state_buckets_max))


def test_a_file_beyond_the_bounds_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_bytes(dump(with_parameter("window", 0)))
    with pytest.raises(ConfigurationError, match=r"parameters\.window must be 1 to 64, not 0"):
        load(path)


def test_a_rehearsal_may_let_transactions_live_as_long_as_a_production_network_in_real_time() -> None:
    genesis = replace(genesis_of(4), parameters=story.PARAMETERS)
    with pytest.raises(ConfigurationError, match="max_transaction_ttl_ms"):
        check(genesis)
    check(replace(genesis, clock=Clock(origin_ms=START_MS, rate=story.CLOCK_RATE)))


@pytest.mark.parametrize("threshold", [0, 2])
def test_an_account_that_could_never_act_or_without_a_key(threshold: int) -> None:
    genesis = genesis_of(4)
    bank, *others = genesis.accounts
    check(replace(genesis, accounts=(replace(bank, thresholds={KeyPurpose.TRADE: 1}), *others)))
    wrong = replace(bank, thresholds={KeyPurpose.TRADE: threshold})
    with pytest.raises(ConfigurationError, match=f"account 'bank': thresholds.TRADE is {threshold}"):
        check(replace(genesis, accounts=(wrong, *others)))


def test_cash_with_more_decimals_than_an_amount_has_digits() -> None:
    genesis = genesis_of(4)
    (cash,) = genesis.cash
    check(replace(genesis, cash=(replace(cash, decimals=CASH_DECIMALS_MAX),)))
    with pytest.raises(ConfigurationError, match="decimals"):
        check(replace(genesis, cash=(replace(cash, decimals=CASH_DECIMALS_MAX + 1),)))
