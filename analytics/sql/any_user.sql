-- whether the users table holds any row
-- result: one row, found (boolean)
-- scope: all organizations; no row is shown
select exists (select 1 from users) as found
