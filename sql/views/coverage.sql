-- One row per prompt set, role, LLM and sampling: how many of the prompts are scored, failed or still to be asked.
-- Representative prompts that an LLM is not asked, because they are not among the first of its order, do not count.
WITH newer (old_id, new_id) AS (
    SELECT o.id, n.id
    FROM (SELECT DISTINCT grader FROM prompt) AS g
    JOIN protocol AS o ON SUBSTR(o.grader, 1, LENGTH(g.grader) + 1) = g.grader || '/'
    JOIN protocol AS n
        ON SUBSTR(n.grader, 1, LENGTH(g.grader) + 1) = g.grader || '/' AND n.sampling = o.sampling AND n.id > o.id
),
not_asked (prompt_set_digest, llm_id, sampling, prompt_id) AS (
    SELECT g.prompt_set_digest, c.llm_id, c.sampling, h.prompt_id
    FROM asked_scope AS c
    JOIN prompt_order AS g ON g.id = c.prompt_order_id
    JOIN prompt_order_member AS h ON h.prompt_order_id = g.id AND h.rank > c.n_prompts
    WHERE NOT EXISTS (
        SELECT 1
        FROM asked_scope AS later
        JOIN prompt_order AS k ON k.id = later.prompt_order_id
        WHERE later.llm_id = c.llm_id
            AND later.sampling = c.sampling
            AND k.prompt_set_digest = g.prompt_set_digest
            AND later.id > c.id
    )
)
SELECT
    s.name AS prompt_set,
    s.digest AS prompt_set_digest,
    m.role AS role,
    l.key AS llm_key,
    a.sampling AS sampling,
    COUNT(*) AS n_prompts,
    COUNT(o.score) AS n_scored,
    COUNT(o.failure) AS n_failed,
    COUNT(*) - COUNT(o.score) - COUNT(o.failure) AS n_pending,
    CAST(COUNT(o.score) * 1.0 / COUNT(*) AS DOUBLE PRECISION) AS coverage
FROM prompt_set AS s
JOIN prompt_set_member AS m ON m.prompt_set_digest = s.digest
JOIN (
    SELECT DISTINCT asked_member.prompt_set_digest, asked.llm_id, asked_protocol.sampling
    FROM outcome AS asked
    JOIN prompt_set_member AS asked_member ON asked_member.prompt_id = asked.prompt_id
    JOIN protocol AS asked_protocol ON asked_protocol.id = asked.protocol_id
) AS a ON a.prompt_set_digest = s.digest
JOIN llm AS l ON l.id = a.llm_id
LEFT JOIN (
    SELECT answered.llm_id, answered.prompt_id, answered_protocol.sampling, answered.score, answered.failure
    FROM outcome AS answered
    JOIN protocol AS answered_protocol ON answered_protocol.id = answered.protocol_id
    WHERE NOT EXISTS (
        SELECT 1
        FROM newer AS w
        JOIN outcome AS again
            ON again.llm_id = answered.llm_id
            AND again.protocol_id = w.new_id
            AND again.prompt_id = answered.prompt_id
        WHERE w.old_id = answered.protocol_id
    )
) AS o ON o.llm_id = a.llm_id AND o.prompt_id = m.prompt_id AND o.sampling = a.sampling
LEFT JOIN not_asked AS x
    ON x.prompt_set_digest = s.digest
    AND x.llm_id = a.llm_id
    AND x.sampling = a.sampling
    AND x.prompt_id = m.prompt_id
WHERE x.prompt_id IS NULL OR o.score IS NOT NULL OR o.failure IS NOT NULL
GROUP BY s.name, s.digest, m.role, l.key, a.sampling
