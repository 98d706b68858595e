"""The response of /executive/dashboard: names, types and order of fields. The other responses are in `analytics.responses`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Trend = Literal["improving", "stable", "declining"]
Grade = Literal["excellent", "good", "fair", "poor", "no_data"]
Priority = Literal["low", "medium", "high", "critical"]


@dataclass(frozen=True, slots=True)
class DataPeriod:
    start_date: datetime
    end_date: datetime
    days: int


@dataclass(frozen=True, slots=True)
class ExecutiveSummary:
    overall_health: Grade
    key_achievements: tuple[str, ...]
    areas_of_focus: tuple[str, ...]
    data_quality: str


@dataclass(frozen=True, slots=True)
class PlatformHealth:
    score: float  # percent
    trend: Trend
    status: Grade
    total_actions: int
    success_rate: float  # percent


@dataclass(frozen=True, slots=True)
class SecurityPosture:
    score: float  # percent
    trend: Trend
    critical_issues: int
    high_risk_actions: int
    medium_risk_actions: int


@dataclass(frozen=True, slots=True)
class OperationalEfficiency:
    score: float  # percent
    automation_rate: float  # rate, 0–1
    manual_interventions: int
    pending_actions: int


@dataclass(frozen=True, slots=True)
class ComplianceStatus:
    score: float  # percent
    violations: int
    pending_reviews: int
    compliance_actions: int


@dataclass(frozen=True, slots=True)
class ExecutiveKpis:
    platform_health: PlatformHealth
    security_posture: SecurityPosture
    operational_efficiency: OperationalEfficiency
    compliance_status: ComplianceStatus


@dataclass(frozen=True, slots=True)
class UserGrowth:
    current_users: int
    active_users: int
    growth_rate: float  # share of the users at the period's beginning
    trend: Literal["positive", "stable", "negative"]
    new_users_this_week: int


@dataclass(frozen=True, slots=True)
class SystemUtilization:
    avg_actions_per_day: float
    peak_day_actions: int
    efficiency_score: float  # rate, 0–1
    total_actions_month: int  # actions of the period


@dataclass(frozen=True, slots=True)
class BusinessMetrics:
    user_growth: UserGrowth
    system_utilization: SystemUtilization


@dataclass(frozen=True, slots=True)
class StrategicInsight:
    category: str
    insight: str
    action: str
    priority: Priority
    data_source: str


@dataclass(frozen=True, slots=True)
class MeasuredFigures:
    """Which figures were measured; the others hold the documented neutral value. A trend needs an earlier period."""

    platform_health: bool
    security_posture: bool
    operational_efficiency: bool
    compliance_status: bool
    platform_health_trend: bool
    security_posture_trend: bool
    growth_rate: bool


@dataclass(frozen=True, slots=True)
class ExecutiveMeta:
    version: str
    mock_data: bool
    real_data_sources: tuple[str, ...]
    has_activity: bool
    measured: MeasuredFigures
    caveats: tuple[str, ...]  # limitations of the numbers, and why
    time_zone: str
    data_status: str
    organization_name: str | None  # null: no table provides it
    averages_since: datetime  # the start of the period, or of the first day of data inside it


@dataclass(frozen=True, slots=True)
class ExecutiveDashboard:
    """GET /executive/dashboard, for admins."""

    report_date: datetime
    data_period: DataPeriod
    executive_summary: ExecutiveSummary
    executive_kpis: ExecutiveKpis
    business_metrics: BusinessMetrics
    strategic_insights: tuple[StrategicInsight, ...]
    next_review_date: datetime
    meta: ExecutiveMeta
