-- how many complete days have actions, and how many actions there are up to now
-- result: one row of bigint: days (distinct utc days in [$complete, $today)), actions (in [$start, $end))
-- time zone: naive utc
-- scope: one organization
select
    count(distinct cast(event_at as date)) filter (
        event_at >= $complete and event_at < $today
    ) as days,
    count(*) as actions
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
