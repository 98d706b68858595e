-- the newest actions by (event_at, id), newest first; rows dated after $latest or without a usable time are left out
-- result: agent_id, action_type, risk, mitre_tactic, nist_control, recommendation, tool_name (varchar, null where the
--   source has none), event_at (timestamp, naive utc); at most $size rows
-- scope: one organization
select
    agent_id,
    action_type,
    risk,
    mitre_tactic,
    nist_control,
    recommendation,
    tool_name,
    event_at
from agent_actions
where
    organization_id = $organization_id
    and event_at >= timestamp '0001-01-01'
    and event_at <= $latest
order by event_at desc, id desc
limit $size
