"""What can be wrong with a scenario file itself, as opposed to the ledger not doing what the file expects."""

from __future__ import annotations

from otcnode.errors import OtcnodeError


class ScenarioError(OtcnodeError):
    """A file that cannot be played. `where` names file, step and field, as far as they are known."""

    def __init__(self, detail: str, *, field: str = "", step: str = "", file: str = "") -> None:
        self.detail, self.field, self.step, self.file = detail, field, step, file
        where = [file, f"step {step!r}" if step else "", field]
        super().__init__(": ".join([", ".join([part for part in where if part]), detail]).removeprefix(": "))

    def within(self, field: str) -> ScenarioError:
        """The same, one level further out."""
        inner = f"{field}.{self.field}" if self.field and not self.field.startswith("[") else field + self.field
        return ScenarioError(self.detail, field=inner, step=self.step, file=self.file)

    def at(self, *, file: str, step: str = "") -> ScenarioError:
        """The same, with its place; what is already known stays."""
        return ScenarioError(self.detail, field=self.field, step=self.step or step, file=self.file or file)
