-- whether any action of the organization has ever recorded a reviewer
-- result: one row, boolean: recorded
-- scope: one organization
select exists (
    select 1
    from agent_actions
    where
        organization_id = $organization_id
        and (coalesce(trim(reviewed_by), '') <> '' or coalesce(trim(approved_by), '') <> '' or reviewed_at is not null)
) as recorded
