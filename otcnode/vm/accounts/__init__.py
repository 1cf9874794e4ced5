"""Accounts, keys, cash, freezes, withdrawals and entrustments."""
