-- actions of an organization per hour, ascending; empty hours are missing
-- result: hour (bigint, hours since 1970-01-01 utc), actions (bigint), elevated (bigint, those of high or critical risk)
-- window: [$start, $end), naive utc; false positives are elevated only where $count_false_positives
-- scope: one organization
select
    epoch_us(event_at) // 3600000000 as hour,
    count(*) as actions,
    count(*) filter (
        risk in ('high', 'critical')
        and ($count_false_positives or not false_positive)
    ) as elevated
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
group by hour
order by hour
