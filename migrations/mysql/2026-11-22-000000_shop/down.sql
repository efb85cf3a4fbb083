DROP TABLE IF EXISTS duly_session_stat;
DROP TABLE IF EXISTS duly_lost_order_attempt;
DROP TABLE IF EXISTS duly_lost_order;
DROP TABLE IF EXISTS duly_content_change_given;
DROP TABLE IF EXISTS duly_content_change;
