-- what the cache was copied from
-- result: one row: system_identifier (varchar), database (varchar)
-- scope: across organizations; the cache itself
select system_identifier, database
from owkai_state
