-- One row per router: where it came from, how many generations it has behind it, where it was published, what it serves as.
WITH RECURSIVE descent (digest, generation) AS (
    SELECT digest, 1 FROM router WHERE parent_digest IS NULL
    UNION ALL
    SELECT child.digest, parent.generation + 1
    FROM router AS child
    JOIN descent AS parent ON parent.digest = child.parent_digest
)
SELECT
    r.id AS number,
    r.digest AS router_digest,
    d.generation AS generation,
    r.parent_digest AS parent_digest,
    parent.mlflow_version AS parent_version,
    r.mlflow_name AS mlflow_name,
    r.mlflow_version AS mlflow_version,
    r.publish_key AS publish_key,
    r.cluster_map_digest AS cluster_map_digest,
    r.prompt_set_digest AS prompt_set_digest,
    r.embedder_key AS embedder_key,
    n.key AS run_key,
    n.as_of AS as_of,
    n.settings_hash AS settings_hash,
    r.created_at AS created_at,
    (SELECT COUNT(*) FROM router_llm AS c WHERE c.router_id = r.id) AS n_llms,
    (SELECT COUNT(*) FROM alias AS a WHERE a.router_digest = r.digest AND a.name = 'champion') AS is_champion,
    (SELECT COUNT(*) FROM alias AS a WHERE a.router_digest = r.digest AND a.name = 'challenger') AS is_challenger,
    (SELECT COUNT(*) FROM alias AS a WHERE a.router_digest = r.digest AND a.name = 'previous') AS is_previous,
    (SELECT MIN(p.applied_at) FROM promotion AS p WHERE p.router_digest = r.digest) AS first_champion_at
FROM router AS r
JOIN descent AS d ON d.digest = r.digest
JOIN run AS n ON n.id = r.run_id
LEFT JOIN router AS parent ON parent.digest = r.parent_digest
