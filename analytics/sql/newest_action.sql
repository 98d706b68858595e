-- when the newest action happened; rows dated after $latest or without a usable time do not count
-- result: one row, newest (timestamp, naive utc; null when there is none)
-- scope: one organization
select max(event_at) as newest
from agent_actions
where
    organization_id = $organization_id
    and event_at >= timestamp '0001-01-01'
    and event_at <= $latest
