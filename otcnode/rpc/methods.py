"""The table of methods: everything that can be called, with its types, its access and its price."""

from __future__ import annotations

from functools import cache
from typing import Any

from otcnode.rpc import accounts, auth, chain, contracts, node_status, products, trades, transactions
from otcnode.rpc import format as form
from otcnode.rpc.discovery import document
from otcnode.rpc.method import Access, Context, Method, Params, ReadParams

_ACCOUNT = form.account(bytes(32))
_PRODUCT = form.product(bytes(32))
_CONTRACT = form.contract(bytes(32))
_TRANSACTION = form.transaction(bytes(32))
_BYTES32 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
_BYTES64 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="


@cache
def openrpc() -> dict[str, Any]:
    return document(METHODS)


async def _discover(context: Context, params: Params) -> dict[str, Any]:
    return openrpc()


METHODS: dict[str, Method] = {
    "tx_submit": Method(
        "Put a signed transaction into the pool; answers at once. Submitting again is never an error.",
        transactions.SubmitParams,
        transactions.TransactionResult,
        Access.OPEN,
        {"transaction": "kIA="},
        1,
        handle_many=transactions.submit,
    ),
    "tx_wait": Method(
        "Wait until a transaction is final, or for timeout_ms; both are answers, and waiting can go on anywhere.",
        transactions.WaitParams,
        transactions.TransactionResult,
        Access.OPEN,
        {"id": _TRANSACTION, "timeout_ms": 30_000},
        1,
        handle_many=transactions.wait,
    ),
    "tx_submitAndWait": Method(
        "Submit and wait in one call. A transaction that was committed as failed is an error with definite true.",
        transactions.SubmitAndWaitParams,
        transactions.TransactionResult,
        Access.OPEN,
        {"transaction": "kIA=", "timeout_ms": 30_000},
        2,
        handle_many=transactions.submit_and_wait,
    ),
    "tx_get": Method(
        "What this node knows of a transaction now.",
        transactions.GetParams,
        transactions.TransactionResult,
        Access.OPEN,
        {"id": _TRANSACTION},
        1,
        transactions.get,
    ),
    "tx_simulate": Method(
        "What a signed transaction would do on the latest state; nothing is kept.",
        transactions.SubmitParams,
        transactions.SimulationResult,
        Access.OPEN,
        {"transaction": "kIA="},
        20,
        transactions.simulate,
    ),
    "tx_proof": Method(
        "Receipt, Merkle path, header and certificate of a committed transaction, for whoever holds its bytes.",
        transactions.ProofParams,
        transactions.ProofResult,
        Access.OPEN,
        {"id": _TRANSACTION, "full_hash": _BYTES32},
        20,
        transactions.proof,
    ),
    "account_get": Method(
        "An account: status, roles, keys, certificate.",
        accounts.AccountParams,
        accounts.AccountResult,
        Access.ROWS,
        {"account": _ACCOUNT},
        5,
        accounts.account_get,
    ),
    "account_list": Method(
        "The accounts the caller may see.",
        accounts.AccountListParams,
        accounts.AccountListResult,
        Access.ROWS,
        {"role": "INVESTOR", "limit": 50},
        20,
        accounts.account_list,
    ),
    "account_positions": Method(
        "Cash and units of an account: balance, available, locked, frozen, lots, locks.",
        accounts.PositionsParams,
        accounts.PositionsResult,
        Access.ROWS,
        {"account": _ACCOUNT},
        20,
        accounts.account_positions,
    ),
    "product_list": Method(
        "The products, of an issuer, in a status, of a type.",
        products.ProductListParams,
        products.ProductListResult,
        Access.OPEN,
        {"status": "ACTIVE", "limit": 50},
        20,
        products.product_list,
    ),
    "product_get": Method(
        "A product: its life, its terms, its units.",
        products.ProductParams,
        products.ProductResult,
        Access.OPEN,
        {"product": _PRODUCT},
        5,
        products.product_get,
    ),
    "contract_list": Method(
        "The contracts of a party; also those that wait for it.",
        contracts.ContractListParams,
        contracts.ContractListResult,
        Access.ROWS,
        {"waiting_for_party": True},
        20,
        contracts.contract_list,
    ),
    "contract_get": Method(
        "A contract: its state, its text, its signatures.",
        contracts.ContractParams,
        contracts.ContractResult,
        Access.ROWS,
        {"contract": _CONTRACT},
        5,
        contracts.contract_get,
    ),
    "trade_list": Method(
        "Trades of a party, a product, a status, a time.",
        trades.TradeListParams,
        trades.TradeListResult,
        Access.ROWS,
        {"status": "SETTLED", "from": "2027-01-15T16:00:00+08:00"},
        20,
        trades.trade_list,
    ),
    "block_get": Method(
        "A whole block with its receipts.",
        chain.HeightParams,
        chain.BlockResult,
        Access.SEES_ALL,
        {"height": 1},
        200,
        chain.block_get,
    ),
    "header_get": Method(
        "The header of a block.",
        chain.HeightParams,
        chain.HeaderResult,
        Access.OPEN,
        {"height": 1},
        5,
        chain.header_get,
    ),
    "certificate_get": Method(
        "The certificate that makes a block final.",
        chain.HeightParams,
        chain.CertificateResult,
        Access.OPEN,
        {"height": 1},
        5,
        chain.certificate_get,
    ),
    "validator_list": Method(
        "Every validator set from the genesis on.",
        Params,
        chain.ValidatorListResult,
        Access.OPEN,
        {},
        5,
        chain.validator_list,
    ),
    "chain_params": Method(
        "The network's name, clock and parameters.",
        ReadParams,
        chain.ChainParamsResult,
        Access.OPEN,
        {},
        5,
        chain.chain_params,
    ),
    "node_status": Method(
        "How this node is.", Params, node_status.NodeStatusResult, Access.OPEN, {}, 2, node_status.status
    ),
    "node_explain": Method(
        "Why the chain does or does not move, as this node sees it.",
        Params,
        node_status.ExplanationResult,
        Access.OPEN,
        {},
        5,
        node_status.explain,
    ),
    "node_peers": Method(
        "The peers of this node and how they are.",
        Params,
        node_status.PeersResult,
        Access.OPEN,
        {},
        5,
        node_status.peers,
    ),
    "mempool_status": Method(
        "How full the pool is.", Params, node_status.MempoolResult, Access.OPEN, {}, 2, node_status.mempool
    ),
    "auth_challenge": Method(
        "Something to sign with a key of an account.",
        auth.ChallengeParams,
        auth.ChallengeResult,
        Access.OPEN,
        {"account": _ACCOUNT},
        10,
        auth.challenge,
    ),
    "auth_login": Method(
        "A bearer token for 15 minutes, in return for the signed challenge.",
        auth.LoginParams,
        auth.LoginResult,
        Access.OPEN,
        {"account": _ACCOUNT, "key": _BYTES32, "nonce": _BYTES32, "expires_ms": 0, "signature": _BYTES64},
        500,
        auth.login,
    ),
    "rpc.discover": Method(
        "This interface as an OpenRPC document.", Params, dict[str, Any], Access.OPEN, {}, 100, _discover
    ),
}
"""Name to method. In a batch, calls of methods that take many run first, in this order."""
