-- actions of high or critical risk per quarter of an hour, ascending; empty quarters are missing
-- result: quarter (bigint, quarters of an hour since 1970-01-01 utc), actions (bigint)
-- window: [$start, $end), naive utc; false positives count only where $count_false_positives
-- scope: one organization
select
    epoch_us(event_at) // 900000000 as quarter,
    count(*) as actions
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
    and risk in ('high', 'critical')
    and ($count_false_positives or not false_positive)
group by quarter
order by quarter
