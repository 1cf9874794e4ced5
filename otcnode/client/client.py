"""The typed client: builds, signs, submits, waits, reads, and believes only what certificates prove.

It may be given several nodes. A transaction's bytes are made once and only ever sent again as they are, so changing
nodes in the middle cannot make it happen twice. Times given to the client are real milliseconds; `valid_until` in a
transaction is ledger time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import aiohttp

from otcnode import limits
from otcnode.blocks import Entry, Epoch, Header
from otcnode.client.connection import Connection
from otcnode.client.documents import Document, Sealed, open_document
from otcnode.client.errors import (
    ClientError,
    NodeLied,
    NodeUnavailable,
    OutcomeUnknown,
    RpcFailure,
    TransactionRefused,
)
from otcnode.client.never import Pruned, Unproven, Word, proves_never
from otcnode.client.turns import ask_in_turn
from otcnode.client.wire import Request
from otcnode.codec import decode
from otcnode.crypto import SigningKey, random_bytes, verify_all
from otcnode.errors import Code, DecodeError, ProofError
from otcnode.evidence.absence import first_possible_ms
from otcnode.evidence.package import Leaf
from otcnode.evidence.trust import TrustedChain
from otcnode.evidence.verdict import Outcome as PackageOutcome
from otcnode.evidence.verify import verify as verify_package
from otcnode.genesis import PARAMETER_BOUNDS, Genesis
from otcnode.ids import Prefix, parse
from otcnode.rpc import accounts, auth, chain, documents, events, json_rpc, node_status, packages, proofs, transactions
from otcnode.rpc import format as form
from otcnode.rpc.access import login_preimage
from otcnode.rpc.service import Frozen, Stage
from otcnode.vm.documents.records import sealed_name
from otcnode.vm.keys import Table
from otcnode.vm.operations import Operation
from otcnode.vm.results import Receipt
from otcnode.vm.transactions import TRANSACTION_VERSION, Body, Decoded, sign_transaction, signature_checks

T = TypeVar("T")
WAIT_MS = 2_000
"""One tx_wait; longer waits are made of several, so that a node that stops answering is soon noticed."""
PATIENCE_MS = 5_000
"""How long a transaction is waited for at one node before the same bytes are handed to the next: a node may be cut
off, or turned away by this very transaction."""
RETRY_MS = 200
"""Between rounds over all nodes when none could serve."""
BUDGET_PATIENCE_MS = 30_000
"""How long a call waits where nodes ask this client to come again later (−32004) and no other can serve: one call may
cost what a budget gains in many seconds."""
_MORE_FOR_WHO_IS_KNOWN = frozenset({"events_list", "due_list"})
"""Methods that are open to strangers and show more to who has logged in."""
_ELSEWHERE = frozenset({json_rpc.NOT_READY, json_rpc.OVERLOADED, json_rpc.RATE_LIMIT, json_rpc.INTERNAL_ERROR})
"""Error codes that say something about the node and nothing about the request."""


class _CalledDead(Exception):
    """A node says that a transaction's time is over without it."""


class Outcome(Frozen, frozen=True):
    """A transaction that happened: its receipt, proven under a certified header."""

    id: bytes
    height: int
    header: Header
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Proven(Generic[T]):
    """What the state after the block of `header` holds under a key; `record` None: it holds nothing."""

    height: int
    header: Header
    record: T | None


class Client:
    """Use as `async with Client(urls, genesis) as client`. Not for several event loops."""

    def __init__(
        self,
        urls: Sequence[str],
        genesis: Genesis,
        *,
        tls: ssl.SSLContext | None = None,
        nodes: Mapping[str, bytes] | None = None,
    ) -> None:
        """`nodes` may pin the identity behind a URL: a login is then signed for that node only, so that no node can
        pass on another's challenge."""
        assert urls
        self._nodes = dict(nodes or {})
        self._urls = tuple(urls)
        self._genesis = genesis
        self._tls = tls
        self._trust = TrustedChain(genesis)
        self._trusting = asyncio.Lock()
        self._connections: list[Connection] = []
        self._preferred = 0
        self._passed_over: dict[str, ClientError] = {}
        self._session: aiohttp.ClientSession | None = None
        self._identity: tuple[bytes, SigningKey] | None = None
        self._height_seen = 0
        self._longest_ms = genesis.parameters.max_transaction_ttl_ms

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._connections = [Connection(url, self._session, self._tls) for url in self._urls]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    @property
    def chain(self) -> bytes:
        return self._trust.chain

    @property
    def passed_over(self) -> dict[str, str]:
        """The nodes that could not serve when they were last asked, and why, by URL."""
        return {url: str(error) for url, error in self._passed_over.items()}

    def identify(self, account: bytes, key: SigningKey) -> None:
        """Read as this account from now on: the client logs in at each node when that node first asks for it."""
        self._identity = (account, key)
        for connection in self._connections:
            connection.token = None

    # making transactions

    def build(
        self,
        sender: bytes,
        operations: Sequence[Operation],
        *,
        ttl_ms: int | None = None,
        on_behalf_of: bytes | None = None,
        entrustment: bytes | None = None,
    ) -> Body:
        """A transaction that stays valid for `ttl_ms` of ledger time; by default three quarters of what is allowed, as
        far as is known (`learn_parameters`)."""
        return Body(
            TRANSACTION_VERSION,
            self.chain,
            sender,
            random_bytes(32),
            self.valid_until(ttl_ms),
            on_behalf_of,
            entrustment,
            tuple(operations),
        )

    def valid_until(self, ttl_ms: int | None = None) -> int:
        """Ledger time for a transaction made now."""
        longest_ms = self._longest_ms
        now_ms = self._genesis.clock.ledger_ms(time.time_ns() // 1_000_000)
        return now_ms + (longest_ms * 3 // 4 if ttl_ms is None else ttl_ms)

    async def learn_parameters(self) -> None:
        """Go by the longest validity that is in force, which governance may have lowered since the genesis. One node's
        word is enough for that: a lie makes transactions no longer valid than the genesis allows, nor shorter than any
        chain can."""
        said = await self._anywhere("chain_params", {}, chain.ChainParamsResult)
        least_ms, _ = PARAMETER_BOUNDS["max_transaction_ttl_ms"]
        born_ms = self._genesis.parameters.max_transaction_ttl_ms
        self._longest_ms = min(born_ms, max(least_ms, said.parameters.max_transaction_ttl_ms))

    def sign(self, body: Body, keys: Sequence[SigningKey]) -> Decoded:
        return sign_transaction(body, list(keys))

    # submitting

    async def execute(self, transaction: Decoded, timeout_ms: int = 60_000) -> Outcome:
        """Submit and wait until final, over as many nodes as it takes; the outcome is proven.

        Raises TransactionRefused (see its `definite`), or OutcomeUnknown when the time is over, or when nodes call it
        dead and cannot prove it; then the same call with the same transaction goes on waiting, and never makes it
        happen twice. Where all nodes refuse its validity, the one in force has been learnt for the next transaction.
        """
        self._check_own(transaction)
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        said: dict[str, ClientError] = {}
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        return await self._in_turn(
                            lambda node: self._execute_at(node, transaction, min(PATIENCE_MS, _left_ms(deadline))),
                            _is_undecided,
                            said,
                        )
                    except ClientError as error:
                        if not _is_undecided(error):
                            raise
                    await self._give_up_if_no_use(transaction, said)
                    await asyncio.sleep(RETRY_MS / 1000)
        except TimeoutError:
            raise OutcomeUnknown(transaction.id, "; ".join(_each(said)) or "no node answered") from None

    async def submit(self, transaction: Decoded) -> transactions.TransactionResult:
        """Hand it to one node and return at once, with that node's word only."""
        return await self._anywhere(
            "tx_submit", transactions.SubmitParams(form.base64_text(transaction.raw)), transactions.TransactionResult
        )

    async def submit_many(self, raws: Sequence[bytes]) -> list[transactions.TransactionResult | RpcFailure]:
        """Hand many to the preferred node, in batches."""
        requests = [Request("tx_submit", transactions.SubmitParams(form.base64_text(raw))) for raw in raws]
        return await self._batches(requests, 0)

    async def wait_many(
        self, ids: Sequence[bytes], timeout_ms: int
    ) -> list[transactions.TransactionResult | RpcFailure]:
        """What the preferred node says of each once all are final or the time is over."""
        requests = [Request("tx_wait", transactions.WaitParams(form.transaction(name), timeout_ms)) for name in ids]
        return await self._batches(requests, timeout_ms)

    async def simulate(self, transaction: Decoded) -> transactions.SimulationResult:
        return await self._anywhere(
            "tx_simulate", transactions.SubmitParams(form.base64_text(transaction.raw)), transactions.SimulationResult
        )

    async def transaction(self, transaction_id: bytes) -> transactions.TransactionResult:
        params = transactions.GetParams(form.transaction(transaction_id))
        return await self._anywhere("tx_get", params, transactions.TransactionResult)

    # reading

    async def account(self, account: bytes, *, at_height: int | None = None) -> accounts.AccountResult:
        params = accounts.AccountParams(
            form.account(account), at_height=at_height, min_height=self._own_writes(at_height)
        )
        return await self._anywhere("account_get", params, accounts.AccountResult)

    async def positions(self, account: bytes, *, at_height: int | None = None) -> accounts.PositionsResult:
        """The first page, of up to 1,000 products."""
        params = accounts.PositionsParams(
            form.account(account),
            limit=limits.page_entries_max,
            at_height=at_height,
            min_height=self._own_writes(at_height),
        )
        return await self._anywhere("account_positions", params, accounts.PositionsResult)

    async def status(self) -> node_status.NodeStatusResult:
        return await self._anywhere("node_status", {}, node_status.NodeStatusResult)

    async def call(self, method: str, params: Any, result: type[T]) -> T:
        """Any other method, at the first node that serves it."""
        return await self._anywhere(method, params, result)

    async def header(self, height: int) -> Header:
        """The header of a final block, proven from the genesis on. Raises ClientError when no node can prove one."""
        return await self._everywhere(lambda connection: self._header_at(connection, height))

    async def state_proof(self, table: Table[T], suffix: bytes) -> Proven[T]:
        """What the latest state holds under a key of a table of the ledger, proven from the genesis on. A node that
        cannot prove what it says is passed over."""
        return await self._everywhere(lambda connection: self._state_at(connection, table, suffix))

    async def put_document(self, sealed: Sealed, filed_at_height: int) -> None:
        """Hand in a sealed file that is filed on the chain since that height; the nodes pass it on."""
        params = documents.DocumentPutParams(content=sealed.raw, min_height=filed_at_height)
        await self._anywhere("document_put", params, documents.DocumentPutResult)

    async def document(self, name: bytes, secret: bytes) -> Document:
        """A document, opened with the X25519 secret of the account that this client is identified as. A node that hands
        out something else is passed over. Raises DocumentError if this account cannot open it."""
        assert self._identity is not None, "identify first"
        shown = await self._everywhere(lambda connection: self._sealed(connection, name))
        return open_document(shown.content, self._identity[0], secret, shown.commitment)

    async def contract_evidence(self, contract: bytes) -> bytes:
        """A file that proves the contract offline (`otcnode verify package`); a node whose file does not is passed
        over."""
        params = packages.ContractEvidenceParams(form.contract(contract))
        return await self._everywhere(lambda connection: self._package(connection, "contract_evidence", params))

    async def trade_evidence(self, trade: bytes) -> bytes:
        """A file that proves the trade and its settlement offline; as `contract_evidence`."""
        params = packages.TradeEvidenceParams(form.trade(trade))
        return await self._everywhere(lambda connection: self._package(connection, "trade_evidence", params))

    async def events(
        self, cursor: str | None = None, wanted: events.EventFilter | None = None, *, poll_ms: int = 500
    ) -> AsyncIterator[events.EventResult]:
        """Every event this client may read after the cursor (None: from the beginning), once and in order, for ever,
        from whichever node serves. The last event's `cursor` is where a later call goes on."""
        place = cursor
        while True:
            params = events.EventsListParams(place, wanted or events.EventFilter(), limits.page_entries_max)
            page = await self._anywhere("events_list", params, events.EventsListResult)
            for event in page.events:
                yield event
            place = page.cursor
            if page.complete:
                await asyncio.sleep(poll_ms / 1000)

    # inside

    async def _sealed(self, connection: Connection, name: bytes) -> documents.DocumentGetResult:
        params = documents.DocumentGetParams(name)
        shown = await self._as_identity(connection, "document_get", params, documents.DocumentGetResult)
        if sealed_name(shown.content) != name:
            raise NodeLied(connection.url, "another document than the one asked for")
        return shown

    async def _package(self, connection: Connection, method: str, params: Any) -> bytes:
        shown = await self._as_identity(connection, method, params, packages.EvidenceResult)
        verdict = verify_package(shown.package, self.chain)
        if verdict.outcome is not PackageOutcome.OK:
            raise NodeLied(connection.url, f"evidence that does not hold: {verdict.outcome} {verdict.detail}")
        return shown.package

    async def _state_at(self, connection: Connection, table: Table[T], suffix: bytes) -> Proven[T]:
        params = proofs.StateProofParams(table.name, suffix)
        shown = await self._as_identity(connection, "state_proof", params, proofs.StateProofResult)
        try:
            header = await self._with_epochs(
                connection,
                shown.height,
                lambda: self._trust.state(
                    shown.header, shown.certificate, shown.proof, table.prefix + suffix, shown.value
                ),
            )
        except ProofError as error:
            raise NodeLied(connection.url, f"a false proof of the state: {error}") from None
        if header.height < self._height_seen:
            raise NodeUnavailable(connection.url, f"behind: at height {header.height}, not {self._height_seen}")
        return Proven(header.height, header, None if shown.value is None else table.decode(shown.value))

    def _check_own(self, transaction: Decoded) -> None:
        """A mistake of ours is told before anything is sent, and then it certainly never happens."""
        if transaction.transaction.body.chain != self.chain:
            raise TransactionRefused(transaction.id, Code.CHAIN.value, "made for another chain", definite=True)
        if not all(verify_all(signature_checks(transaction))):
            raise TransactionRefused(transaction.id, Code.AUTH.value, "a signature is wrong", definite=True)

    async def _give_up_if_no_use(self, transaction: Decoded, said: Mapping[str, ClientError]) -> None:
        """After a round over all nodes: where all refuse it, or all that is to be known of its death is known."""
        refusals = [error for error in said.values() if isinstance(error, TransactionRefused)]
        if len(refusals) == len({connection.url for connection in self._connections}):
            if refusals[-1].code == Code.TX_EXPIRED.value:
                with contextlib.suppress(ClientError):  # the refusal is what is to be told
                    await self.learn_parameters()
            raise refusals[-1]
        for error in said.values():
            if isinstance(error, Unproven) and error.all_told:
                raise error

    async def _execute_at(self, connection: Connection, transaction: Decoded, timeout_ms: int) -> Outcome:
        try:
            state = await self._decided_at(connection, transaction, timeout_ms)
        except _CalledDead:
            return await self._became(transaction)
        if state.state is Stage.COMMITTED:
            return await self._proven(connection, transaction)
        return await self._became(transaction)

    async def _decided_at(
        self, connection: Connection, transaction: Decoded, timeout_ms: int
    ) -> transactions.TransactionResult:
        """What one node says of it once it calls it committed or dead; nothing of that is believed yet."""
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        state = await self._ask(
            connection,
            "tx_submit",
            transactions.SubmitParams(form.base64_text(transaction.raw)),
            transactions.TransactionResult,
            transaction.id,
        )
        while state.state is not Stage.COMMITTED and not state.definite:
            wait_ms = min(WAIT_MS, _left_ms(deadline))
            if wait_ms <= 0 or state.state in (Stage.DROPPED, Stage.EXPIRED):
                raise OutcomeUnknown(transaction.id, f"{state.state.value} {state.reason}".rstrip())
            params = transactions.WaitParams(form.transaction(transaction.id), wait_ms)
            state = await self._ask(
                connection, "tx_wait", params, transactions.TransactionResult, transaction.id, wait_ms=wait_ms
            )
        return state

    async def _ask(
        self,
        connection: Connection,
        method: str,
        params: Any,
        result: type[T],
        transaction_id: bytes,
        *,
        wait_ms: int = 0,
    ) -> T:
        """A refusal by one node is never definite: our own checks have passed, and others may take it. Raises
        _CalledDead where the node says that its time is over without it, which is looked into at once."""
        try:
            return await connection.call(method, params, result, wait_ms)
        except RpcFailure as failure:
            if failure.code == json_rpc.LEDGER and isinstance(failure.data, dict):
                code, detail = str(failure.data.get("code")), str(failure.data.get("detail"))
                if code == Code.TX_EXPIRED.value and failure.data.get("definite") is True:
                    raise _CalledDead from None
                raise TransactionRefused(transaction_id, code, detail, definite=False) from None
            raise NodeUnavailable(connection.url, str(failure)) from None

    async def _proven(self, connection: Connection, transaction: Decoded) -> Outcome:
        """The outcome with its proof. A committed failure is raised, as definite as can be."""
        params = transactions.ProofParams(form.transaction(transaction.id), transaction.full_hash)
        try:
            proof = await connection.call("tx_proof", params, transactions.ProofResult)
        except RpcFailure as failure:
            raise NodeUnavailable(connection.url, f"no proof of a transaction called committed: {failure}") from None
        try:
            header, receipt = await self._with_epochs(
                connection,
                proof.height,
                lambda: self._trust.transaction(
                    proof.header,
                    proof.certificate,
                    Entry(transaction.id, transaction.full_hash),
                    Leaf(proof.transaction_index, proof.transaction_count, tuple(proof.transaction_path)),
                    proof.receipt,
                    Leaf(proof.index, proof.count, tuple(proof.path)),
                ),
            )
        except ProofError as error:
            raise NodeLied(connection.url, f"a false proof: {error}") from None
        if header.height != proof.height:
            raise NodeLied(connection.url, "a proof of something else")
        self._height_seen = max(self._height_seen, header.height)
        if receipt.code is not Code.OK:
            raise TransactionRefused(
                transaction.id,
                receipt.code.value,
                "",
                definite=True,
                operation=receipt.operation,
                height=header.height,
            )
        return Outcome(transaction.id, header.height, header, receipt)

    async def _became(self, transaction: Decoded) -> Outcome:
        """What became of a transaction that a node calls dead, asked of all nodes side by side, for none is believed:
        the proven outcome if one of them can show it. Raises TransactionRefused, definite, once f + 1 validators have
        signed that it is in no block and a final block is past its validity (evidence/absence.py); else Unproven."""
        words: dict[str, Word | ClientError] = {}
        asked = {asyncio.create_task(self._word(node, transaction)): node for node in self._connections}
        try:
            while asked:
                done, _ = await asyncio.wait(asked, timeout=PATIENCE_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    url, found = asked.pop(task).url, task.result()
                    if isinstance(found, Outcome):
                        return found
                    words[url] = found
                if proves_never([word for word in words.values() if isinstance(word, Word)]):
                    detail = "valid_until passed without it, as more than f validators have signed"
                    raise TransactionRefused(transaction.id, Code.TX_EXPIRED.value, detail, definite=True)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        for node in asked.values():
            words[node.url] = NodeUnavailable(node.url, f"no answer within {PATIENCE_MS / 1000:g} s")
        raise Unproven(transaction.id, words)

    async def _word(self, connection: Connection, transaction: Decoded) -> Outcome | Word | ClientError:
        """Raises TransactionRefused where it is proven to have failed."""
        try:
            params = transactions.GetParams(form.transaction(transaction.id))
            state = await connection.call("tx_get", params, transactions.TransactionResult)
            if state.state is Stage.COMMITTED:
                return await self._proven(connection, transaction)
            return await self._absent(connection, transaction)
        except TransactionRefused:
            raise
        except ClientError as error:
            return error

    async def _absent(self, connection: Connection, transaction: Decoded) -> Word:
        params = transactions.AbsenceParams(form.transaction(transaction.id))
        shown = await connection.call("tx_absence", params, transactions.AbsenceResult)
        try:
            header, epoch, word = await self._with_epochs(
                connection,
                shown.height,
                lambda: self._trust.absence(shown.header, shown.certificate, shown.absence, transaction.id),
            )
        except ProofError as error:
            raise NodeLied(connection.url, f"a false word: {error}") from None
        valid_until = transaction.transaction.body.valid_until
        if header.time_ms < valid_until:
            raise NodeUnavailable(connection.url, f"is at height {header.height}, which is before valid_until")
        if word.claim.after_ms and word.claim.after_ms >= first_possible_ms(self._genesis, valid_until):
            raise Pruned
        return Word(epoch, word.node)

    async def _header_at(self, connection: Connection, height: int) -> Header:
        params = chain.HeightParams(height)
        shown = await connection.call("header_get", params, chain.HeaderResult)
        certificate = await connection.call("certificate_get", params, chain.CertificateResult)
        try:
            header = await self._with_epochs(connection, height, lambda: self._trust.header(shown.raw, certificate.raw))
        except ProofError as error:
            raise NodeLied(connection.url, f"a false header: {error}") from None
        if header.height != height:
            raise NodeLied(connection.url, "a header of another height")
        return header

    async def _with_epochs(self, connection: Connection, height: int, prove: Callable[[], T]) -> T:
        """Run a proof; where it fails, first learn the epochs up to its height, which may be why, and try once more,
        also where another call has learnt them meanwhile."""
        known = self._trust.last_epoch
        try:
            return prove()
        except ProofError:
            async with self._trusting:
                await self._learn_epochs(connection, height)
            if self._trust.last_epoch == known:
                raise
            return prove()

    async def _learn_epochs(self, connection: Connection, height: int) -> None:
        listed = await connection.call("validator_list", {}, chain.ValidatorListResult)
        for entry in listed.epochs:
            if not self._trust.last_epoch.number < entry.number <= height:
                continue
            if entry.header is None or entry.certificate is None:
                raise ProofError(f"epoch {entry.number} comes without the header that proves it")
            try:
                epoch = decode(Epoch, entry.raw)
            except DecodeError as error:
                raise ProofError(str(error)) from None
            self._trust.extend(epoch, entry.header, entry.certificate)

    def _in_order(self) -> list[Connection]:
        return self._connections[self._preferred :] + self._connections[: self._preferred]

    async def _anywhere(self, method: str, params: Any, result: type[T]) -> T:
        return await self._everywhere(lambda connection: self._as_identity(connection, method, params, result))

    async def _as_identity(self, connection: Connection, method: str, params: Any, result: type[T]) -> T:
        """Logs in where the node asks for it, or would show less to a stranger, and there is somebody to log in as."""
        if method in _MORE_FOR_WHO_IS_KNOWN and self._identity is not None and connection.token is None:
            await self._log_in(connection)
        try:
            return await connection.call(method, params, result)
        except RpcFailure as failure:
            if failure.code != json_rpc.UNAUTHENTICATED or self._identity is None:
                raise
        await self._log_in(connection)
        return await connection.call(method, params, result)

    async def _everywhere(self, ask: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """The first answer, from the preferred node on; where none serves and some ask for patience, all are asked
        again when the first of these says."""
        deadline = asyncio.get_running_loop().time() + BUDGET_PATIENCE_MS / 1000
        while True:
            said: dict[str, ClientError] = {}
            try:
                return await self._in_turn(ask, _is_the_node_s, said)
            except ClientError as error:
                wait_ms = _retry_after_ms(said.values()) if _is_the_node_s(error) else None
                if wait_ms is None or wait_ms > _left_ms(deadline):
                    if not isinstance(error, NodeUnavailable):
                        raise
                    others = {url: other for url, other in said.items() if url != error.url}
                    raise NodeUnavailable(error.url, "; ".join([error.reason, *_each(others)])) from None
            await asyncio.sleep(wait_ms / 1000)

    async def _in_turn(
        self,
        ask: Callable[[Connection], Coroutine[Any, Any, T]],
        goes_on: Callable[[ClientError], bool],
        said: dict[str, ClientError],
    ) -> T:
        """As ask_in_turn, from the preferred node on; a node that serves becomes the preferred one."""
        try:
            connection, answer = await ask_in_turn(self._in_order(), ask, goes_on, said)
        finally:
            self._passed_over.update(said)
        self._passed_over.pop(connection.url, None)
        self._preferred = self._connections.index(connection)
        return answer

    async def _batches(self, requests: Sequence[Request], wait_ms: int) -> list[Any]:
        connection = self._connections[self._preferred]
        answers: list[Any] = []
        size = limits.rpc_batch_entries_max
        for start in range(0, len(requests), size):
            answers += await connection.batch(requests[start : start + size], transactions.TransactionResult, wait_ms)
        return answers

    async def _log_in(self, connection: Connection) -> None:
        """The challenge is built here, never taken from the node: a node cannot have something else signed."""
        assert self._identity is not None
        account, key = self._identity
        params = auth.ChallengeParams(form.account(account))
        challenge = await connection.call("auth_challenge", params, auth.ChallengeResult)
        try:
            node = parse(Prefix.NODE, challenge.node)
        except DecodeError as error:
            raise NodeUnavailable(connection.url, str(error)) from None
        if self._nodes.get(connection.url, node) != node:
            raise NodeLied(connection.url, "a login challenge of another node")
        message = login_preimage(self.chain, node, account, challenge.nonce, challenge.expires.ms)
        signed = auth.LoginParams(
            form.account(account), key.public, challenge.nonce, challenge.expires.ms, key.sign(message)
        )
        connection.token = (await connection.call("auth_login", signed, auth.LoginResult)).token

    def _own_writes(self, at_height: int | None) -> int | None:
        return self._height_seen or None if at_height is None else None


def _is_undecided(error: ClientError) -> bool:
    return not error.definite


def _is_the_node_s(error: ClientError) -> bool:
    """It says something about the node and nothing about the request."""
    return isinstance(error, NodeUnavailable | NodeLied) or (isinstance(error, RpcFailure) and error.code in _ELSEWHERE)


def _retry_after_ms(said: Iterable[ClientError]) -> int | None:
    """When the first of those that ask for patience serves again, None if none asks."""
    waits_ms = [error.retry_after_ms for error in said if isinstance(error, RpcFailure)]
    asked = [wait_ms for wait_ms in waits_ms if wait_ms is not None]
    return max(RETRY_MS, min(asked)) if asked else None


def _each(said: Mapping[str, ClientError]) -> list[str]:
    return [f"{url}: {error.about_node}" for url, error in said.items()]


def _left_ms(deadline: float) -> int:
    return int((deadline - asyncio.get_running_loop().time()) * 1000)
