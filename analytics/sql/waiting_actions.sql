-- actions of the window, and those among them that are still pending and older than a bound
-- result: one row of bigint: actions, waiting
-- window: [$start, $end), waiting if before $waiting_since, naive utc
-- scope: one organization
select
    count(*) as actions,
    count(*) filter (event_at < $waiting_since and list_contains($statuses::varchar[], normal_status)) as waiting
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
