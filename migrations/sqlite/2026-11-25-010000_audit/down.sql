DROP TABLE duly_audit;
