"""What a story need not write: fields that can be computed, or nearly always are the same.

A filler takes the fields that the story gives an operation and adds what is missing. What it computes, the story may
always give itself, so that wrong values can be tried too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from otcnode.codec import Record
from otcnode.crypto import SigningKey
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.operations import NewKey
from otcnode.vm.accounts.records import Category, Thresholds
from otcnode.vm.contracts.preimages import contract_signature_preimage, terms_hash
from otcnode.vm.contracts.records import CONTRACT_SIGNATURES, CONTRACTS, SLOTS_MAX, Contract, SlotRole, Term
from otcnode.vm.products.records import ProductType
from otcnode.vm.scenario.building import Actor, Builder, Built, operation_types, scale_for
from otcnode.vm.scenario.document import Keyring, convert
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.values import Scale, Unit, parse
from otcnode.vm.scenario.world import Reading
from otcnode.vm.trades.records import quote_commitment

Fields: TypeAlias = Mapping[str, Any]
Filler: TypeAlias = Callable[[Reading, Actor, Fields], Fields]


def build(reading: Reading, actor: Actor, tag: str, fields: Fields) -> Record:
    """The operation that a story's `do` and `with` mean. Raises ScenarioError."""
    kinds = operation_types()
    if tag not in kinds:
        raise ScenarioError(f"there is no operation {tag!r}; there are {', '.join(sorted(kinds))}", field="do")
    try:
        if (fill := FILLERS.get(tag)) is not None:
            fields = fill(reading, actor, fields)
        operation: Record = Builder(reading, scale_for(reading, fields)).struct(kinds[tag], fields)
    except ScenarioError as error:
        raise error.within("with") from None
    return operation


# accounts


def _keyring(reading: Reading, owner: str, fields: Fields) -> Fields:
    """Keys as in a fixture: labels with their purpose, thresholds by purpose."""
    given = dict(fields)
    table = {name: given.pop(name) for name in ("keys", "thresholds") if name in given}
    ring = convert(table, Keyring, field="keys and thresholds")
    labels = {**ring.keys}
    labels |= {purpose.value.lower(): purpose for purpose in KeyPurpose if purpose not in labels.values()}
    keys = tuple([NewKey(purpose, reading.names.key(owner, label).public) for label, purpose in labels.items()])
    needed = Thresholds(*[ring.thresholds.get(purpose, 1) for purpose in KeyPurpose])
    return {"encryption_key": f"hash:{owner}/encryption", **given, "keys": Built(keys), "thresholds": Built(needed)}


def _apply(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    defaults = {"kind": "PERSON", "identity_commitment": f"hash:{actor.name}", "ultimate_holders": 1}
    return {**defaults, **_keyring(reading, actor.name, fields)}


def _recover(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """The new keys belong to the account that is recovered."""
    return _order(reading, actor, _keyring(reading, str(fields.get("account")), fields))


def _attest(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """`as_of` names the step whose block it is about, instead of its height."""
    given = {"statement": "hash:statement", **fields}
    if (step := given.pop("as_of", None)) is None:
        return given
    if not isinstance(step, str) or step not in reading.names.heights:
        raise ScenarioError(f"no step {step!r} was played before this one", field="as_of")
    return {**given, "height": Built(reading.names.heights[step])}


def _evidence(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    return {"evidence": "hash:evidence", **fields}


def _certify(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    return {"ultimate_holders": 1, "evidence": "hash:evidence", **fields}


def _freeze(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    defaults = {"document": "hash:court order"}
    return {**defaults, **fields} if "asset" in fields else {**defaults, "amount": Built(0), **fields}


def _order(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    return {"document": "hash:court order", **fields}


def _withdraw(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    return {"destination": "hash:bank account", **fields}


def _grant(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """The powers may be written among the fields themselves; they hold from now on unless the story says otherwise."""
    if "powers" in fields:
        return fields
    powers = {name: value for name, value in fields.items() if name != "agent"}
    defaults = {"valid_from": "+0ms", "document": "hash:power of attorney", "allow_self_dealing": False}
    return {**{name: fields[name] for name in ("agent",) if name in fields}, "powers": {**defaults, **powers}}


# contracts


def _terms(fields: Fields) -> Fields:
    """Terms as a table, with their hash, and a document."""
    terms = fields.get("terms", {"purpose": "as agreed"})
    if not isinstance(terms, Mapping) or not all(type(value) in (str, int) for value in terms.values()):
        raise ScenarioError("expected a table of strings and integers", field="terms")
    text = tuple([Term(name, terms[name]) for name in sorted(terms)])
    return {
        "document": "hash:document",
        "terms_hash": Built(terms_hash(text)),
        **fields,
        "terms": Built(text),
    }


def _slots(slots: object) -> object:
    """ "ANN" stands for a SIGNER of one key and order 0; a table may leave out role, order and keys_needed."""
    if not isinstance(slots, list):
        return slots
    shown = []
    for slot in slots:
        entry = {"account": slot} if isinstance(slot, str) else slot
        if isinstance(entry, Mapping):
            role = entry.get("role", "SIGNER")
            entry = {"role": role, "order": 0, "keys_needed": 1 if role == "SIGNER" else 0, **entry}
        shown.append(entry)
    return shown


def _create_contract(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    filled = {"open": False, "confirm_by": "+1d", "sign_by": "+2d", "effective": "IMMEDIATE", **_terms(fields)}
    return filled | {"slots": _slots(filled.get("slots"))} if "slots" in filled else filled


def _revise(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    return _terms(fields)


def _contract(reading: Reading, fields: Fields) -> tuple[bytes, Contract | None]:
    name = fields.get("contract")
    if not isinstance(name, str):
        raise ScenarioError("names a contract", field="contract")
    item = reading.identifier(name)
    return item, reading.state.get(CONTRACTS, item)


def _slot_of(contract: Contract, principal: bytes, roles: tuple[SlotRole, ...]) -> int:
    """The first slot of the account with one of the roles; 0 if it has none, which the ledger will refuse."""
    for index, slot in enumerate(contract.slots):
        if slot.account == principal and slot.role in roles:
            return index
    return 0


def _confirm(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """The principal's slot, the version and the text that are in force now."""
    _, contract = _contract(reading, fields)
    if contract is None:
        return {"slot": 0, "version": 1, "terms_hash": "hash:", **fields}
    slot = _slot_of(contract, actor.principal, (SlotRole.SIGNER, SlotRole.APPROVER))
    return {"slot": slot, "version": contract.version, "terms_hash": Built(contract.terms_hash), **fields}


def _sign(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """The signature, by the key that signs the transaction, over the text of the slot and version given, or in force.

    `signed` changes what is put under the signature: a story can so try one over another text.
    """
    given = dict(fields)
    item, contract = _contract(reading, given)
    signed = given.pop("signed", {})
    slot, version = given.get("slot"), given.get("version")
    if slot is None:
        slot = _slot_of(contract, actor.principal, (SlotRole.SIGNER,)) if contract else 0
    if version is None:
        version = contract.version if contract else 1
    if type(slot) is not int or not 0 <= slot < SLOTS_MAX:
        raise ScenarioError(f"expected a slot's number, less than {SLOTS_MAX}, not {slot!r}", field="slot")
    key = signing_key(reading, actor, item, slot)
    content: dict[str, Any] = {
        "chain": actor.chain,
        "contract": item,
        "version": version,
        "terms_hash": contract.terms_hash if contract else bytes(32),
        "document": contract.document if contract else bytes(32),
        "slot": slot,
        "principal": contract.slots[slot].account if contract and slot < len(contract.slots) else actor.principal,
        "entrustment": actor.entrustment,
    }
    if not isinstance(signed, Mapping):
        raise ScenarioError("a table of what is put under the signature instead", field="signed")
    for name, value in signed.items():
        if name not in content:
            raise ScenarioError(f"what is signed has {', '.join(content)}", field=f"signed.{name}")
        content[name] = reading.identifier(value) if isinstance(value, str) else value
    signature = key.sign(contract_signature_preimage(**content))
    return {"slot": slot, "version": version, "key": Built(key.public), "signature": Built(signature), **given}


def signing_key(reading: Reading, actor: Actor, contract: bytes, slot: int) -> SigningKey:
    """The key that the story chose, else the actor's first SIGN key that has not signed in this slot."""
    if actor.keys:
        return actor.keys[0]
    keys = [key for _, key in reading.live_keys(actor.name, KeyPurpose.SIGN)]
    for key in keys:
        if reading.state.get(CONTRACT_SIGNATURES, contract + bytes([slot]) + key.public) is None:
            return key
    return keys[0] if keys else reading.names.key(actor.name, KeyPurpose.SIGN.value.lower())


# products and trades


def _create_product(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """Terms that most products do not need: no fees, no lock-up, no early redemption, any investor."""
    terms = fields.get("terms")
    if not isinstance(terms, Mapping):
        raise ScenarioError("a table of what the product promises", field="terms")
    fixed = terms.get("type") == ProductType.FIXED_NOTE.value
    defaults: dict[str, Any] = {
        "cash": reading.cash,
        "quantity_decimals": 0,
        "utc_offset_minutes": 480,
        "min_raise": "1",
        "min_subscription": "1",
        "step": "1",
        "max_holders": 200,
        "risk": 1,
        "categories": [category.value for category in Category],
        "day_count": "ACT/365F",
        "lockup_days": 0,
        "turnaround_days": 0,
        "subscription_fee_ppm": 0,
        "trade_fee_ppm": 0,
        "fee_payee": Built(actor.principal),
        "min_allotment": "0",
        "cooling_off": {"period_ms": "0ms", "callback": False},
        "redemption": {"allowed": False, "penalty_ppm": 0, "notice_days": 0},
        "grace_days": 0,
    }
    if not fixed:
        defaults["rate_ppm"] = 0
    return {**fields, "terms": {**defaults, **terms}}


def _review_product(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    return {"verdict": "APPROVE", **fields}


def _offer(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """From now on, for everybody; with all_or_none in one take."""
    defaults: dict[str, Any] = {"all_or_none": False, "not_before": Built(0), "cash_cap": Built(0)}
    if fields.get("all_or_none") is True and "quantity" in fields:
        defaults["min_fill"] = fields["quantity"]
    return {**defaults, **fields}


def _quote(reading: Reading, actor: Actor, fields: Fields) -> Fields:
    """`sealed = { price, salt }` commits to a price instead of naming one."""
    given = {"firm": True, "cash_cap": Built(0), **fields}
    if (sealed := given.pop("sealed", None)) is None:
        return given
    if not isinstance(sealed, Mapping) or sealed.keys() != {"price", "salt"}:
        raise ScenarioError("expected { price, salt }", field="sealed")
    price = parse(Unit.PRICE, sealed["price"], Scale())
    rfq = reading.identifier(given.get("rfq", ""))
    salt = reading.identifier(sealed["salt"])
    return {**given, "commitment": Built(quote_commitment(rfq, actor.principal, price, salt))}


FILLERS: dict[str, Filler] = {
    "account.apply": _apply,
    "account.freeze": _freeze,
    "account.unfreeze": _order,
    "account.recover": _recover,
    "custody.attest": _attest,
    "custody.resume": _order,
    "access.log": _order,
    "governance.propose": _order,
    "investor.certify": _certify,
    "cash.withdraw": _withdraw,
    "entrust.grant": _grant,
    "contract.create": _create_contract,
    "contract.revise": _revise,
    "contract.confirm": _confirm,
    "contract.sign": _sign,
    "contract.callback": _evidence,
    "product.create": _create_product,
    "product.review": _review_product,
    "disclosure.post": _order,
    "offer.list": _offer,
    "quote.submit": _quote,
}
