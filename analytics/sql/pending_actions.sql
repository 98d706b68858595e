-- actions that wait for a human, of all time
-- result: one row, actions (bigint)
-- scope: one organization
select count(*) as actions
from agent_actions
where
    organization_id = $organization_id
    and list_contains($statuses::varchar[], normal_status)
