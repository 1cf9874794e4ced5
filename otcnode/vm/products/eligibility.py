"""What other families ask about a product: who may buy it, whether it may trade, what it has accrued.

Called by subscriptions, by trades before a proposal, a take and a settlement, and by forced transfers. What other
families have open on a product is ended before its maturity pays, through `Hooks.open_item_releasers`.
"""

from __future__ import annotations

from otcnode.errors import Code
from otcnode.vm import balances
from otcnode.vm.accounts.records import HOLDERS, Account, Category
from otcnode.vm.arithmetic import accrual_days, days_between, interest
from otcnode.vm.context import Context, fail
from otcnode.vm.products.records import (
    PRODUCT_TERMS,
    PRODUCTS,
    Product,
    ProductStatus,
    ProductTerms,
    ProductType,
)


def product(context: Context, name: bytes) -> Product:
    """Failed(E_NOT_FOUND) if there is none."""
    record = context.get(PRODUCTS, name)
    if record is None:
        fail(Code.NOT_FOUND, "product")
    return record


def terms(context: Context, name: bytes) -> ProductTerms:
    rule = context.get(PRODUCT_TERMS, name)
    if rule is None:
        fail(Code.NOT_FOUND, "product")
    return rule


def require_qualified(context: Context, account: Account, rule: ProductTerms) -> None:
    """Failed(E_NOT_QUALIFIED): no certificate, one that ended (t ≥ valid_until), or of a category the product is not
    for. Failed(E_SUITABILITY): certified for less risk than the product has. PROFESSIONAL satisfies every category
    and risk."""
    certificate = account.certificate
    if certificate is None or context.now >= certificate.valid_until:
        fail(Code.NOT_QUALIFIED, "no valid certificate")
    if certificate.category is Category.PROFESSIONAL:
        return
    if certificate.category not in rule.categories:
        fail(Code.NOT_QUALIFIED, f"not for {certificate.category.value}")
    if certificate.risk < rule.risk:
        fail(Code.SUITABILITY, f"certified for risk {certificate.risk}, the product has {rule.risk}")


def holders(context: Context, product: bytes) -> int:
    """People who hold the product, looked through: Σ ultimate_holders of the accounts with a balance."""
    return (context.get(HOLDERS, product) or balances.NO_HOLDERS).ultimate_holders


def holder_accounts(context: Context, product: bytes) -> int:
    """Accounts with a balance of the product."""
    return (context.get(HOLDERS, product) or balances.NO_HOLDERS).accounts


def require_buyer(
    context: Context, account: bytes, product: bytes, *, seller: bytes | None = None, quantity: int = 0
) -> None:
    """Whether the account may come to hold the product: Failed(E_NOT_QUALIFIED, E_SUITABILITY, E_HOLDER_CAP).

    Holders are counted as after the trade: a `seller` whose whole balance is the `quantity` no longer counts.
    """
    buyer = context.account(account)
    rule = terms(context, product)
    require_qualified(context, buyer, rule)
    if balances.holding(context, account, product).balance:
        return
    after = holders(context, product) + buyer.ultimate_holders
    if seller is not None and 0 < balances.holding(context, seller, product).balance <= quantity:
        after -= context.account(seller).ultimate_holders
    if after > rule.max_holders:
        fail(Code.HOLDER_CAP, f"{after} holders, at most {rule.max_holders}")


def tradable(context: Context, product: bytes) -> None:
    """Failed(E_NOT_FOUND) if there is no such product; Failed(E_STATE) unless its units may move by agreement: ACTIVE,
    neither suspended nor overdue nor matured by time, with no coupon, maturity or issuance step waiting to run."""
    record = context.need(PRODUCTS, product, "product")
    if record.status is not ProductStatus.ACTIVE:
        fail(Code.STATE, f"product is {record.status.value}")
    if record.suspended:
        fail(Code.STATE, "product is suspended")
    context.refuse_if_due_pending(product)


def accrued_days(context: Context, product: bytes, date: int) -> int:
    """Days of interest that have run on a local day (days since 1970-01-01), by the product's day count."""
    rule = terms(context, product)
    return accrual_days(date, value_date=rule.value_date, pay_dates=rule.pay_dates, day_count=rule.day_count)


def accrued(context: Context, product: bytes, quantity: int, date: int) -> int:
    """Interest accrued on `quantity` units on a local day, in minor units; 0 for what is not a FIXED_NOTE."""
    return accrued_under(terms(context, product), quantity, date)


def accrued_under(rule: ProductTerms, quantity: int, date: int) -> int:
    if rule.type is not ProductType.FIXED_NOTE:
        return 0
    days = accrual_days(date, value_date=rule.value_date, pay_dates=rule.pay_dates, day_count=rule.day_count)
    return interest_of_days(rule, quantity, days)


def coupon_days(rule: ProductTerms, pay_date: int) -> int:
    """Days of the coupon paid on a pay date: since the pay date before, else since the value date."""
    start = max((date for date in rule.pay_dates if date < pay_date), default=rule.value_date)
    return days_between(start, pay_date, rule.day_count)


def interest_of_days(rule: ProductTerms, quantity: int, days: int) -> int:
    """Interest of one holder's, fill's or redemption's quantity over `days` of the day count, in minor units."""
    return interest(
        quantity,
        rule.face,
        rate_ppm=rule.rate_ppm,
        days=days,
        day_count=rule.day_count,
        quantity_decimals=rule.quantity_decimals,
    )
