-- the agents with most actions, most first, equal ones by name in code point order
-- result: agent (varchar), actions (bigint); at most $size rows
-- window: [$start, $end), naive utc
-- scope: one organization
select
    agent_id as agent,
    count(*) as actions
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
    and agent_id is not null
group by agent
order by actions desc, agent
limit $size
