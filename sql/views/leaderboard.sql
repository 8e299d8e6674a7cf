-- One row per prompt set, LLM and sampling: how well it answers, what it costs, and whether it may be routed to.
-- Only prompts that were chosen for nothing count, so that scores can be compared: those of a cluster map are asked of
-- some LLMs, and representative ones beyond the drawn part of an LLM's order because they tell much about LLMs.
WITH newer (old_id, new_id) AS (
    SELECT o.id, n.id
    FROM (SELECT DISTINCT grader FROM prompt) AS g
    JOIN protocol AS o ON SUBSTR(o.grader, 1, LENGTH(g.grader) + 1) = g.grader || '/'
    JOIN protocol AS n
        ON SUBSTR(n.grader, 1, LENGTH(g.grader) + 1) = g.grader || '/' AND n.sampling = o.sampling AND n.id > o.id
),
chosen (prompt_set_digest, llm_id, sampling, prompt_id) AS (
    SELECT DISTINCT g.prompt_set_digest, c.llm_id, c.sampling, h.prompt_id
    FROM asked_scope AS c
    JOIN prompt_order AS g ON g.id = c.prompt_order_id
    JOIN prompt_order_member AS h ON h.prompt_order_id = g.id AND NOT h.is_random
)
SELECT
    s.name AS prompt_set,
    s.digest AS prompt_set_digest,
    l.key AS llm_key,
    q.sampling AS sampling,
    (
        SELECT COUNT(*)
        FROM prompt_set_member AS asked
        WHERE asked.prompt_set_digest = s.digest AND asked.role <> 'map'
    ) - (
        SELECT COUNT(*)
        FROM chosen AS c
        WHERE c.prompt_set_digest = s.digest AND c.llm_id = l.id AND c.sampling = q.sampling
    ) AS n_prompts,
    COUNT(o.score) AS n_scored,
    COUNT(o.failure) AS n_failed,
    COUNT(CASE WHEN o.score IS NOT NULL THEN o.is_unreadable END) AS n_checked,
    COUNT(CASE WHEN o.score IS NOT NULL AND o.is_unreadable THEN 1 END) AS n_unreadable,
    COUNT(CASE WHEN o.score IS NOT NULL AND o.is_unreadable
        AND (o.judged_at IS NOT NULL OR SUBSTR(q.grader, 1, 6) = 'judge/') THEN 1 END) AS n_judged,
    CAST(AVG(o.score) AS DOUBLE PRECISION) AS mean_score,
    CAST(AVG(CASE WHEN o.score IS NOT NULL THEN o.cost_picousd END) / 1000000000.0 AS DOUBLE PRECISION)
        AS cost_usd_per_1k_prompts,
    AVG(CASE WHEN o.score IS NOT NULL THEN o.latency_s END) AS mean_latency_s,
    p.input_usd_per_mtok AS input_usd_per_mtok,
    p.output_usd_per_mtok AS output_usd_per_mtok,
    l.status AS status,
    l.refusal AS refusal,
    MAX(o.asked_at) AS last_asked_at
FROM prompt_set AS s
JOIN prompt_set_member AS m ON m.prompt_set_digest = s.digest AND m.role <> 'map'
JOIN outcome AS o ON o.prompt_id = m.prompt_id AND NOT EXISTS (
    SELECT 1
    FROM newer AS w
    JOIN outcome AS again
        ON again.llm_id = o.llm_id AND again.protocol_id = w.new_id AND again.prompt_id = o.prompt_id
    WHERE w.old_id = o.protocol_id
)
JOIN protocol AS q ON q.id = o.protocol_id
JOIN llm AS l ON l.id = o.llm_id
LEFT JOIN chosen AS left_out
    ON left_out.prompt_set_digest = s.digest
    AND left_out.llm_id = l.id
    AND left_out.sampling = q.sampling
    AND left_out.prompt_id = m.prompt_id
LEFT JOIN llm_price AS p ON p.id = (
    SELECT latest.id
    FROM llm_price AS latest
    WHERE latest.llm_id = l.id AND NOT latest.is_held
    ORDER BY latest.since_on DESC
    LIMIT 1
)
WHERE left_out.prompt_id IS NULL
GROUP BY
    s.name, s.digest, l.id, l.key, q.sampling, p.input_usd_per_mtok, p.output_usd_per_mtok, l.status, l.refusal
