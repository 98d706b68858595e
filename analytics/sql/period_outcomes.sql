-- what became of the actions of a period, and how risky they were
-- result: one row of bigint: total, assessed, succeeded, failed, critical, high, medium, decided, by_human, due, violations
-- assessed: of a known risk level; decided: a terminal decision, a verdict or a review; by_human: decided with a reviewer
-- recorded (a blank name is none); due: elevated risk, older than $review_before, no false positive; violations: due, not decided
-- window: [$start, $end), naive utc; risk counts leave out false positives unless $count_false_positives
-- scope: one organization, $org
with actions as (
    select
        status,
        event_at,
        risk,
        case when $count_false_positives or is_false_positive is distinct from true then risk end as counted_risk,
        coalesce(
            risk in ('medium', 'high', 'critical')
            and is_false_positive is distinct from true
            and event_at < $review_before,
            false
        ) as due,
        coalesce(status in (select unnest($decided_statuses)), false)
        or approved is not null
        or reviewed_at is not null as decision,
        coalesce(trim(reviewed_by), '') <> '' or coalesce(trim(approved_by), '') <> '' or reviewed_at is not null as reviewed
    from agent_actions
    where
        organization_id = $org
        and event_at >= $start
        and event_at < $end
)

select
    count(*) as total,
    count(*) filter (risk in ('low', 'medium', 'high', 'critical')) as assessed,
    count(*) filter (status in (select unnest($success_statuses))) as succeeded,
    count(*) filter (status in (select unnest($failure_statuses))) as failed,
    count(*) filter (counted_risk = 'critical') as critical,
    count(*) filter (counted_risk = 'high') as high,
    count(*) filter (counted_risk = 'medium') as medium,
    count(*) filter (decision) as decided,
    count(*) filter (decision and reviewed) as by_human,
    count(*) filter (due) as due,
    count(*) filter (due and not decision) as violations
from actions
