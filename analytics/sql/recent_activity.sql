-- activity of the last hour and the last day
-- result: one row of bigint: actions_hour, high_risk_hour, agents_hour (distinct), actions_day
-- window: [$hour_start, $end) and [$day_start, $end), naive utc; false positives count only where $count_false_positives
-- scope: one organization
select
    count(*) filter (event_at >= $hour_start) as actions_hour,
    count(*) filter (
        event_at >= $hour_start
        and risk in ('high', 'critical')
        and ($count_false_positives or not false_positive)
    ) as high_risk_hour,
    count(distinct agent_id) filter (event_at >= $hour_start) as agents_hour,
    count(*) as actions_day
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $day_start
    and event_at < $end
