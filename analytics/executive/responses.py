"""The response of /executive/dashboard: names, types and order of fields. The other responses are in `analytics.responses`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from analytics.responses import Percent, Rate

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
    score: Percent
    trend: Trend
    status: Grade
    total_actions: int
    success_rate: Percent


@dataclass(frozen=True, slots=True)
class SecurityPosture:
    score: Percent
    trend: Trend
    critical_issues: int
    high_risk_actions: int
    medium_risk_actions: int


@dataclass(frozen=True, slots=True)
class OperationalEfficiency:
    score: Percent
    automation_rate: Rate
    manual_interventions: int
    pending_actions: int


@dataclass(frozen=True, slots=True)
class ComplianceStatus:
    score: Percent
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
    growth_rate: Annotated[float, Field(description="Change as a share of the users at the start of the period.")]
    trend: Literal["positive", "stable", "negative"]
    new_users_this_week: int


@dataclass(frozen=True, slots=True)
class SystemUtilization:
    avg_actions_per_day: float
    peak_day_actions: int
    efficiency_score: Rate
    total_actions_month: Annotated[int, Field(description="Actions in the period.")]


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
    caveats: Annotated[tuple[str, ...], Field(description="Limitations of the numbers, with the reason.")]
    time_zone: str
    data_status: str
    organization_name: Annotated[str | None, Field(description="Null: no table provides it.")]
    averages_since: Annotated[datetime, Field(description="Start of the period, or of the first day with data in it.")]


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
