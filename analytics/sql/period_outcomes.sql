-- what became of the actions of a period, and how risky they were
-- result: one row of bigint: total, assessed, succeeded, failed, critical, high, medium, decided, by_human, due, violations
-- assessed: of a known risk level; decided: a terminal decision, a verdict, or a reviewer or approver; by_human: a reviewer, an
-- approver (a blank name is none) or a review time is recorded; due: elevated risk, older than $review_before, no false
-- positive; violations: due, not decided
-- window: [$start, $end), naive utc; risk counts leave out false positives unless $count_false_positives
-- scope: one organization
with actions as (
    select
        normal_status,
        event_at,
        risk,
        approved,
        case when $count_false_positives or not false_positive then risk end as counted_risk,
        coalesce(risk in ('medium', 'high', 'critical') and not false_positive and event_at < $review_before, false) as due,
        coalesce(trim(reviewed_by), '') <> '' or coalesce(trim(approved_by), '') <> '' or reviewed_at is not null as reviewed
    from agent_actions
    where
        organization_id = $organization_id
        and event_at >= $start
        and event_at < $end
),

decisions as (
    select
        *,
        reviewed
        or approved is not null
        or coalesce(list_contains($decided_statuses::varchar[], normal_status), false) as decision
    from actions
)

select
    count(*) as total,
    count(*) filter (risk in ('low', 'medium', 'high', 'critical')) as assessed,
    count(*) filter (list_contains($success_statuses::varchar[], normal_status)) as succeeded,
    count(*) filter (list_contains($failure_statuses::varchar[], normal_status)) as failed,
    count(*) filter (counted_risk = 'critical') as critical,
    count(*) filter (counted_risk = 'high') as high,
    count(*) filter (counted_risk = 'medium') as medium,
    count(*) filter (decision) as decided,
    count(*) filter (reviewed) as by_human,
    count(*) filter (due) as due,
    count(*) filter (due and not decision) as violations
from decisions
