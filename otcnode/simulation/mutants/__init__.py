"""Planted bugs: each breaks one rule of the node while it is open, so that the simulator can show that it would see it.

What the simulator cannot find when it is planted it would not find if it were real. Only `otcnode simulate` and the
tests reach this package; no daemon can import it.
"""
