-- agents whose first action of all that are kept falls into the window, most actions in it first
-- result: agent (varchar), first_seen (timestamp, utc); at most $size rows
-- window: [$start, $end), naive utc
-- scope: one organization
select
    agent_id as agent,
    min(event_at) as first_seen
from agent_actions
where
    organization_id = $organization_id
    and event_at < $end
    and agent_id in (
        select agent_id
        from agent_actions
        where
            organization_id = $organization_id
            and event_at >= $start
            and event_at < $end
    )
group by agent
having min(event_at) >= $start
order by count(*) desc, agent
limit $size
