import shutil

from registry.publishing.version_folder import CarriedCode, routing_package

PACKAGE = routing_package()


def test_a_version_carries_every_module_of_the_mathematics_and_nothing_else():
    assert (PACKAGE / "README.md").exists() and list(PACKAGE.glob("*.svg")), "there is something to leave behind"
    carried = CarriedCode.of(PACKAGE).files
    assert set(carried) == {path.name for path in PACKAGE.glob("*.py")}


def test_documents_and_pictures_beside_the_mathematics_make_no_other_version(tmp_path):
    copied = tmp_path / "routing"
    shutil.copytree(PACKAGE, copied)
    before = CarriedCode.of(copied).digest
    (copied / "README.md").write_text("Another method, in one page.\n", encoding="utf-8")
    (copied / "deferral_curve.svg").unlink()
    (copied / "another.svg").write_text("<svg/>\n", encoding="utf-8")
    assert CarriedCode.of(copied).digest == before
    with (copied / "router.py").open("a", encoding="utf-8") as file:
        file.write("# Another router.\n")
    assert CarriedCode.of(copied).digest != before
