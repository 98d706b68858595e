-- people with an audit event or a login in the window, each counted once
-- result: one row, people (bigint)
-- window: [$start, $end), naive utc
-- scope: one organization; users and events without an organization belong to none
select count(*) as people
from (
    select user_id
    from audit_logs
    where
        organization_id = $organization_id
        and created_at >= $start
        and created_at < $end
        and user_id is not null
    union
    select id
    from users
    where
        organization_id = $organization_id
        and last_login >= $start
        and last_login < $end
)
