-- audit events that record a compliance decision
-- result: one row, bigint: events (action approve, deny or review, in any case)
-- window: [$start, $end), naive utc
-- scope: one organization
select count(*) as events
from audit_logs
where
    organization_id = $organization_id
    and created_at >= $start
    and created_at < $end
    and normal_action in ('approve', 'deny', 'review')
