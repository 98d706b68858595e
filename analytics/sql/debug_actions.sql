-- the newest actions by (event_at, id), newest first, those without any time last; rows dated after $latest are left out
-- result: id (bigint), agent_id, risk, mitre_tactic, nist_control, recommendation, summary (varchar, null where the
--   source has none); at most $size rows
-- time zone: naive utc
-- scope: one organization
select
    id,
    agent_id,
    risk,
    mitre_tactic,
    nist_control,
    recommendation,
    summary
from agent_actions
where
    organization_id = $organization_id
    and (event_at <= $latest or event_at is null)
order by event_at desc nulls last, id desc
limit $size
