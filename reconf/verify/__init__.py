"""The verifier: judges every command before the wire, knowing neither optimizer nor protection's inside."""

from reconf.verify.context import History
from reconf.verify.rules import RULES, Rule
from reconf.verify.verify import prepare, verify, verify_steps

__all__ = ["RULES", "History", "Rule", "prepare", "verify", "verify_steps"]
