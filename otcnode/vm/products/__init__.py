"""Products: their terms and life, subscriptions and allotment, coupons and maturity, redemptions."""
