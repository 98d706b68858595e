-- actions of some agents per hour, by agent and hour; empty hours are missing
-- result: agent (varchar), hour (bigint, hours since 1970-01-01 utc), actions (bigint), elevated (bigint, of high or critical risk)
-- window: [$start, $end), naive utc; false positives are elevated only where $count_false_positives
-- scope: one organization; the agents named in $agents
select
    agent_id as agent,
    epoch_us(event_at) // 3600000000 as hour,
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
group by agent, hour
order by agent, hour
