-- the tools with most actions, most first, equal ones by name in code point order; actions without a tool are left out
-- result: tool (varchar), actions (bigint); at most $size rows
-- window: [$start, $end), naive utc
-- scope: one organization
select
    tool_name as tool,
    count(*) as actions
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
    and tool_name is not null
group by tool
order by actions desc, tool
limit $size
