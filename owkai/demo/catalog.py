"""The demo's three organizations, their agents and the agents' tasks. All of it is invented."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rhythm(Enum):
    """When an agent works, in its organization's local time."""

    OFFICE = "office"  # working hours, hardly on weekends
    SERVICE = "service"  # from morning to late evening, weekends too
    STEADY = "steady"  # around the clock
    NIGHT = "night"  # jobs between one and five


# Relative activity by local hour of the day, and on Saturday and Sunday against a working day.
HOURS: dict[Rhythm, tuple[float, ...]] = {
    Rhythm.OFFICE: (2, 1, 1, 1, 2, 4, 12, 35, 70, 95, 100, 95, 70, 80, 98, 95, 85, 60, 30, 16, 10, 7, 5, 3),
    Rhythm.SERVICE: (10, 6, 4, 3, 4, 8, 20, 45, 70, 85, 92, 95, 90, 86, 85, 86, 90, 96, 100, 95, 80, 58, 36, 20),
    Rhythm.STEADY: (60, 58, 57, 56, 57, 60, 66, 75, 85, 92, 96, 98, 95, 96, 100, 98, 95, 90, 84, 78, 74, 70, 66, 62),
    Rhythm.NIGHT: (20, 85, 100, 95, 70, 25, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 5),
}
WEEKEND: dict[Rhythm, tuple[float, float]] = {
    Rhythm.OFFICE: (0.16, 0.11),
    Rhythm.SERVICE: (0.72, 0.58),
    Rhythm.STEADY: (0.85, 0.82),
    Rhythm.NIGHT: (1.0, 1.0),
}


@dataclass(frozen=True)
class Task:
    """A kind of action. `score` is its usual risk score (0–100); real scores scatter around it."""

    action_type: str
    tool: str | None
    summary: str
    target: str
    score: float
    nist_control: str | None
    mitre_tactic: str | None
    mitre_technique: str | None
    recommendation: str | None
    milliseconds: float


@dataclass(frozen=True)
class Agent:
    """`since_days`: first seen so many days ago; `until_days`: silent since so many days (None: never)."""

    name: str
    share: float
    rhythm: Rhythm
    tasks: tuple[Task, ...]
    since_days: float | None = None
    until_days: float | None = None


@dataclass(frozen=True)
class ScriptedIncident:
    """What one agent did out of the ordinary, from so many hours ago until so many hours ago (less than a week).

    `busy`: further actions an hour, in multiples of its busiest; `silent`: none at all; `riskier`: points on every score.
    """

    agent: str
    from_hours: float
    until_hours: float
    busy: float = 0.0
    silent: bool = False
    riskier: float = 0.0


@dataclass(frozen=True)
class Organization:
    """`actions` in 90 days of history; `utc_offset_hours` shifts its working day; `people` have accounts.

    `risk_points` are added to every score: how much the organization lets its agents do. `recorded` is the share (0–1) of
    outcomes whose decision is recorded: how well it is governed.
    """

    id: int
    name: str
    slug: str
    domain: str
    actions: int
    people: int
    utc_offset_hours: int
    agents: tuple[Agent, ...]
    risk_points: float
    recorded: float
    incidents: tuple[ScriptedIncident, ...]


ANSWER = Task(
    "customer_reply", "ticket_system", "Answered a customer's question", "helpdesk", 12,
    "AU-2", None, None, "No action required", 900,
)  # fmt: skip
REFUND = Task(
    "payment", "payment_gateway", "Issued a refund", "payments-api", 58,
    "AC-6", "TA0040", "T1657", "Confirm the amount against the order before release", 1400,
)  # fmt: skip
LOOKUP = Task(
    "database_read", "postgres_client", "Read customer records", "crm-database", 26,
    "AC-3", "TA0009", "T1213", "Limit the query to the fields that are needed", 180,
)  # fmt: skip
REPORT = Task(
    "data_analysis", "notebook_runner", "Computed a report", "data-warehouse", 20,
    "AU-6", "TA0009", "T1074", "Keep results inside the warehouse", 5200,
)  # fmt: skip
EXPORT = Task(
    "data_export", "object_storage", "Exported a data set", "export-bucket", 66,
    "SC-28", "TA0010", "T1567", "Check the receiver and mask personal data", 7400,
)  # fmt: skip
SCAN = Task(
    "security_scan", "vulnerability_scanner", "Scanned hosts for known weaknesses", "internal-network", 38,
    "RA-5", "TA0043", "T1595", "Announce the scan to the operations team", 21000,
)  # fmt: skip
PRIVILEGE = Task(
    "privilege_change", "identity_provider", "Changed a role assignment", "identity-provider", 86,
    "AC-2", "TA0004", "T1098", "Require a second approver for this role", 650,
)  # fmt: skip
CONFIGURE = Task(
    "system_configuration", "terraform", "Applied an infrastructure change", "production-cluster", 78,
    "CM-3", "TA0003", "T1578", "Review the plan and keep the previous state", 34000,
)  # fmt: skip
DEPLOY = Task(
    "deployment", "ci_pipeline", "Rolled out a service version", "production-cluster", 55,
    "CM-2", "TA0002", "T1072", "Watch error rates for thirty minutes", 61000,
)  # fmt: skip
REVIEW_CODE = Task(
    "code_review", "git_client", "Commented on a change", "source-repository", 9,
    "SA-11", None, None, None, 2600,
)  # fmt: skip
MAIL = Task(
    "email_send", "mail_gateway", "Sent a message outside", "mail-gateway", 33,
    "SC-7", "TA0010", "T1048", "Sample outgoing text for confidential content", 700,
)  # fmt: skip
FILE_READ = Task(
    "file_read", "file_share", "Read documents from the share", "file-share", 15,
    "AC-3", "TA0009", "T1039", "No action required", 240,
)  # fmt: skip
BACKUP = Task(
    "backup", "backup_client", "Copied a database to cold storage", "backup-vault", 22,
    "CP-9", None, None, "Verify a restore this month", 140000,
)  # fmt: skip
PAYOUT = Task(
    "payment", "core_ledger", "Prepared a claims payout", "claims-ledger", 72,
    "AC-5", "TA0040", "T1565", "Separate preparation and release", 1900,
)  # fmt: skip
UNDERWRITE = Task(
    "risk_assessment", "rating_engine", "Rated an application", "policy-system", 31,
    "RA-3", None, None, "Sample one case in fifty for manual rating", 3100,
)  # fmt: skip
TRIAGE = Task(
    "triage", "scheduling_api", "Suggested an appointment", "clinic-scheduler", 18,
    "SI-10", None, None, "No action required", 1100,
)  # fmt: skip
CHART = Task(
    "record_read", "ehr_connector", "Read a patient record", "patient-records", 47,
    "AC-3", "TA0009", "T1213", "Record the purpose of access", 420,
)  # fmt: skip
PRESCRIBE = Task(
    "database_write", "ehr_connector", "Drafted a prescription", "patient-records", 83,
    "AC-6", "TA0040", "T1565", "A physician must release the draft", 980,
)  # fmt: skip
SEARCH = Task(
    "web_search", None, "Looked something up in public sources", "internet", 8,
    None, None, None, None, 1500,
)  # fmt: skip

ORGANIZATIONS: tuple[Organization, ...] = (
    Organization(
        1, "Meridian Retail Group", "meridian-retail", "meridian-retail.example", 40_000, 64, 1,
        (
            Agent("customer-service-agent", 34, Rhythm.SERVICE, (ANSWER, ANSWER, LOOKUP, REFUND, MAIL)),
            Agent("data-analysis-agent", 17, Rhythm.OFFICE, (REPORT, REPORT, LOOKUP, EXPORT)),
            Agent("inventory-forecast-agent", 11, Rhythm.STEADY, (REPORT, LOOKUP)),
            Agent("code-review-agent", 10, Rhythm.OFFICE, (REVIEW_CODE, REVIEW_CODE, FILE_READ)),
            Agent("deployment-agent", 5, Rhythm.OFFICE, (DEPLOY, CONFIGURE)),
            Agent("security-scanner-agent", 8, Rhythm.NIGHT, (SCAN, FILE_READ)),
            Agent("marketing-copy-agent", 7, Rhythm.OFFICE, (MAIL, SEARCH, SEARCH)),
            Agent("backup-agent", 2.5, Rhythm.NIGHT, (BACKUP,)),
            Agent("identity-governance-agent", 1.6, Rhythm.OFFICE, (PRIVILEGE,)),
            Agent("returns-fraud-agent", 6, Rhythm.SERVICE, (LOOKUP, REFUND), since_days=12),
            Agent("price-crawler-agent", 4, Rhythm.STEADY, (SEARCH,), until_days=21),
            Agent("legal-research-agent", 0.08, Rhythm.OFFICE, (SEARCH, FILE_READ)),
        ),
        -12, 0.95, (ScriptedIncident("data-analysis-agent", 50, 46, busy=6, riskier=30),),
    ),
    Organization(
        2, "Halden Insurance", "halden-insurance", "halden-insurance.example", 15_000, 27, -5,
        (
            Agent("claims-intake-agent", 30, Rhythm.SERVICE, (ANSWER, LOOKUP, FILE_READ)),
            Agent("claims-payout-agent", 9, Rhythm.OFFICE, (PAYOUT, LOOKUP)),
            Agent("underwriting-agent", 24, Rhythm.OFFICE, (UNDERWRITE, UNDERWRITE, LOOKUP)),
            Agent("fraud-detection-agent", 14, Rhythm.STEADY, (REPORT, LOOKUP)),
            Agent("compliance-report-agent", 4, Rhythm.OFFICE, (REPORT, EXPORT)),
            Agent("mail-triage-agent", 10, Rhythm.OFFICE, (MAIL, FILE_READ)),
            Agent("cloud-config-agent", 2, Rhythm.OFFICE, (CONFIGURE, DEPLOY)),
            Agent("archive-agent", 3, Rhythm.NIGHT, (BACKUP, EXPORT)),
            Agent("actuarial-model-agent", 0.1, Rhythm.OFFICE, (REPORT,)),
        ),
        -28, 0.99, (ScriptedIncident("claims-intake-agent", 44, 26, silent=True),),
    ),
    Organization(
        3, "Brightwater Clinics", "brightwater-clinics", "brightwater-clinics.example", 5_000, 12, 0,
        (
            Agent("appointment-agent", 40, Rhythm.SERVICE, (TRIAGE, TRIAGE, ANSWER)),
            Agent("clinical-summary-agent", 26, Rhythm.OFFICE, (CHART, FILE_READ)),
            Agent("prescription-draft-agent", 7, Rhythm.OFFICE, (PRESCRIBE, CHART)),
            Agent("billing-agent", 13, Rhythm.OFFICE, (LOOKUP, MAIL)),
            Agent("lab-import-agent", 9, Rhythm.NIGHT, (FILE_READ, REPORT)),
            Agent("research-export-agent", 0.6, Rhythm.NIGHT, (EXPORT,)),
        ),
        4, 0.7, (ScriptedIncident("clinical-summary-agent", 54, 42, busy=1, riskier=35),),
    ),
)  # fmt: skip

FIRST_NAMES = (
    "Amara", "Bruno", "Chiara", "Daniel", "Elif", "Farah", "Goran", "Hanna", "Ivan", "Jonas", "Keiko", "Lena",
    "Mateo", "Nadia", "Oskar", "Priya", "Rafael", "Sofia", "Tomas", "Yara",
)  # fmt: skip
LAST_NAMES = (
    "Adeyemi", "Bauer", "Castillo", "Dimitrov", "Eriksen", "Fontaine", "Grewal", "Hoffman", "Ibarra", "Jensen",
    "Kowalski", "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov",
)  # fmt: skip
