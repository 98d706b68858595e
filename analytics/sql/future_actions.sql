-- actions of an organization that are dated after now, so that no number counts them yet
-- result: one row: actions (bigint), newest (timestamp, utc; null for none); infinite times are left out
-- scope: one organization, after $latest (naive utc)
select
    count(*) as actions,
    max(event_at) as newest
from agent_actions
where
    organization_id = $organization_id
    and event_at > $latest
    and isfinite(event_at)
