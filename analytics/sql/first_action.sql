-- when an organization acted first, of what is kept
-- result: one row: first_action (timestamp, utc; null without an action)
-- scope: one organization, up to $end (naive utc)
select min(event_at) as first_action
from agent_actions
where
    organization_id = $organization_id
    and event_at < $end
    and event_at >= timestamp '0001-01-01'
    and isfinite(event_at)
