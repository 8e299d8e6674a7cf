"""Applied migrations never change: a registry remembers the digest of each and refuses code that has another."""

import sql

RELEASED = {
    "0001_first_schema": "07a553ac7223209453a87e3192c411f2b81315b839e1c473a9f3bc2a200a5665",
    "0002_input_token_ratio": "b6738456462d0dc525859dee82e8b77325eb9bb962f759362e92b503d7191604",
    "0003_ledger_head": "c3a371145c6f3e7bad5e823fd37d4a373485ce8cba55710374f45c7be2b32a68",
    "0004_downgrades": "9c1767c76196d85d8bf712cb0f590ed75ab392d6c10f15f40a16b909c174e6b6",
    "0005_failed_outcomes": "f7ed9f7a7a18b3997e56768777157ff1cbb11d1716801b359a6a5801b8028050",
    "0006_regraded_outcomes": "8f512705523f7b2ee2cacf01cb619330ef2a5c8482f72d2da06578164b7b3100",
    "0007_judged_outcomes": "508a1fd0849577b540706b38a08ebb31fcfe8fc555a4a5b9af574f3932519f60",
    "0008_version_folders": "00129315f6306b500eabc86fb8fef1ad528d7d1c03c13f6c5d47e7e9460f0447",
    "0009_seals": "bb776c8481ccf87e0520e31430ab8f30784947927ba9e126d042c74720503eec",
}


def test_registries_of_earlier_releases_know_every_migration_by_its_digest():
    found = {one.name: one.sha256 for one in sql.migrations()}
    assert {name: found.get(name) for name in RELEASED} == RELEASED
