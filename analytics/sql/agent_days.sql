-- actions of some agents per day, by agent and day; empty days are missing
-- result: agent (varchar), day (date, utc), actions (bigint), elevated (bigint, those of high or critical risk)
-- window: [$start, $end), naive utc; false positives are elevated only where $count_false_positives
-- scope: one organization; the agents named in $agents
select
    agent_id as agent,
    cast(event_at as date) as day,
    count(*) as actions,
    count(*) filter (
        risk in ('high', 'critical')
        and ($count_false_positives or not false_positive)
    ) as elevated
from agent_actions
where
    organization_id = $organization_id
    and event_at >= $start
    and event_at < $end
    and agent_id in (select unnest($agents))
group by agent, day
order by agent, day
