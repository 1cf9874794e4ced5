"""Exit codes of the command line, the same for every command; 0 is done."""

EXIT_NO = 1
"""The answer is no, or is not known: a failed check, step or transaction."""
EXIT_USAGE = 2
"""Wrong usage, configuration or data directory."""
EXIT_UNREACHABLE = 3
"""No node could be reached."""
EXIT_DEFECT = 70
"""A mistake of otcnode itself; the log says where. (EX_SOFTWARE of sysexits.h.)"""
EXIT_INTERRUPTED = 130
"""Stopped by Ctrl-C or SIGTERM."""
