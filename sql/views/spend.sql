-- One row per run, LLM and purpose: calls and money; what is reserved belongs to calls whose answer never came back.
SELECT
    r.key AS run_key,
    r.as_of AS as_of,
    r.status AS run_status,
    l.endpoint AS endpoint,
    l.key AS llm_key,
    c.purpose AS purpose,
    c.calls AS calls,
    CAST(c.cost_picousd / 1000000000000.0 AS DOUBLE PRECISION) AS cost_usd,
    CAST(c.reserved_picousd / 1000000000000.0 AS DOUBLE PRECISION) AS reserved_usd
FROM charge AS c
JOIN run AS r ON r.id = c.run_id
JOIN llm AS l ON l.id = c.llm_id
