-- organizations that acted in the window, most actions first
-- result: organization (bigint), actions (bigint)
-- window: [$start, $end), naive utc
-- scope: across organizations; for schedules, never for an answer
select
    organization_id as organization,
    count(*) as actions
from agent_actions
where
    organization_id is not null
    and event_at >= $start
    and event_at < $end
group by organization
order by actions desc, organization
