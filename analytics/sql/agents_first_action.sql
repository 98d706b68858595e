-- when each of some agents acted first, of what is kept
-- result: agent (varchar), first_action (timestamp, utc)
-- scope: one organization, up to $end (naive utc); the agents named in $agents
select
    agent_id as agent,
    min(event_at) as first_action
from agent_actions
where
    organization_id = $organization_id
    and event_at < $end
    and isfinite(event_at)
    and agent_id in (select unnest($agents))
group by agent
