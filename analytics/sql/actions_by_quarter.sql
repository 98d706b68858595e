-- all actions per quarter of an hour, ascending; empty quarters are missing
-- result: quarter (bigint, quarters of an hour since 1970-01-01 utc), actions (bigint)
-- window: [$start, $end), naive utc
-- scope: one organization
select
    epoch_us(event_at) // 900000000 as quarter,
    count(*) as actions
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
group by quarter
order by quarter
