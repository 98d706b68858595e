"""What a preflight check found out about a source: the survey and its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sync.publication.generated_columns import UnstreamedColumn, streamed_mapping
from sync.source.connections import (
    SourceError,
    SourceIdentity,
)
from sync.source.schema import Mapping

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass
class Survey:
    """What the checks found out about a source, and every problem with it."""

    identity: SourceIdentity | None = None
    mapping: Mapping = field(default_factory=lambda: Mapping(()))
    all_organizations: bool = False  # sessions must set the platform's row security setting
    mode: Literal["auto", "stream", "poll"] = "auto"  # as configured; `streamable` is the outcome
    findings: list[Finding] = field(default_factory=list)
    obstacles: list[Finding] = field(default_factory=list)  # what streaming needs and the source does not allow
    left_out: tuple[UnstreamedColumn, ...] = ()  # mapped columns that the change stream does not carry
    unidentified: bool = False  # a table's updates and deletes do not identify their rows

    def add(self, level: Level, subject: str, message: str, remedy: str = "") -> None:
        self.findings.append(Finding(level, subject, message, remedy))

    def prevent_streaming(self, subject: str, message: str, remedy: str) -> None:
        """The source can be read but not streamed: an error in mode `stream`, a warning in `auto`, ignored in `poll`."""
        if self.mode == "poll":
            return
        self.obstacles.append(Finding("error", subject, message, remedy))
        if self.mode == "stream":
            self.add("error", subject, message, f"{remedy}; or set sync.mode = auto to poll until then")
        else:
            self.add("warning", subject, f"{message}, so the source is polled", f"to stream: {remedy}")

    @property
    def streamed_mapping(self) -> Mapping:
        """What is copied and followed where the source is streamed."""
        return streamed_mapping(self.mapping, self.left_out)

    @property
    def streamable(self) -> bool:
        """Whether the source is followed by logical replication; otherwise it is polled."""
        return self.mode != "poll" and not self.obstacles

    @property
    def why_not_streaming(self) -> str:
        """Why it is polled, and what would allow streaming; empty when it streams."""
        if self.mode == "poll":
            return "sync.mode = poll"
        return "; ".join(str(finding) for finding in self.obstacles)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def require(self) -> None:
        """Raise `SourceError` with every error and its remedy."""
        if self.errors:
            message = "; ".join(f"{finding.subject} {finding.message}" for finding in self.errors)
            raise SourceError(message, "; ".join(finding.remedy for finding in self.errors if finding.remedy))
